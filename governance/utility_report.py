"""What a researcher signs about an evaluation: which version she evaluated, in which job, and how useful it was.

    {format, consortium, querier, report}

Nobody but the recipient of an evaluation saw what it opened, so nobody else can sign for the figures. The parties of the
evaluation know that it took place, and whose it was: a holder compares before it takes the figures into evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

from governance.documents import DocumentKind, SignedDocument, sign, verify
from governance.identity.directory import Directory
from governance.identity.fields import fields_of, finish
from governance.identity.keys import SigningKey
from privacy.utility.report import UtilityReport, read_utility_report
from protocols.canonical import Document, canonical_bytes
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ID_PATTERN

FORMAT = "confide.utility-report/1"
MAX_BYTES = 256 * 1024
_NAMES = {"format", "consortium", "querier", "report"}


@dataclass(frozen=True, eq=False)
class StatedUtility:
    """A report on utility as its querier signs it; public once it is in the evidence.

    Attributes:
        consortium: its id.
        querier: the researcher who evaluated, and signs.
        report: what the evaluation told.
    """

    consortium: str
    querier: str
    report: UtilityReport

    def to_document(self) -> Document:
        """Returns the statement as a document; `read_stated_utility` returns an equal one."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "querier": self.querier,
            "report": self.report.to_document(),
        }


def read_stated_utility(document: Document) -> StatedUtility:
    """Reads a statement strictly; who signed it is not verified.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
    """
    problems: list[Problem] = []
    fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
    consortium, querier = fields.text("consortium"), fields.text("querier")
    for name, text in (("consortium", consortium), ("querier", querier)):
        if not ID_PATTERN.fullmatch(text):
            problems.append(Problem(name, "an identifier is expected", "ask its author"))
    finish(problems, what="the report on utility")
    entry = document["report"]
    return StatedUtility(consortium, querier, read_utility_report(canonical_bytes(entry if isinstance(entry, dict) else {})))


def sign_utility_report(stated: StatedUtility, key: SigningKey) -> SignedDocument:
    """Signs a report with its querier's key."""
    return sign(stated.to_document(), kind=DocumentKind.UTILITY_REPORT, signer=stated.querier, key=key)


def verify_utility_report(signed: SignedDocument, directory: Directory) -> StatedUtility:
    """Checks that the researcher that a report names has signed it in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    key = directory.researcher(signed.signer).signing_key
    verify(signed, kind=DocumentKind.UTILITY_REPORT, signer=signed.signer, key=key)
    stated = read_stated_utility(signed.document)
    if stated.querier != signed.signer:
        what = f"{signed.signer} signed a report on utility of {stated.querier}"
        raise ConfideError(ErrorCode.BAD_SIGNATURE, what, party=signed.signer)
    if stated.consortium != directory.consortium:
        what = f"the report on utility is one in the consortium {stated.consortium}, not in {directory.consortium}"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, party=signed.signer)
    return stated
