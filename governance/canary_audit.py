"""What an owner signs about the canaries that it planted in a private training: the lower bound of epsilon that they show.

    {format, consortium, owner, job, epsilon, confidence, canaries}

The bound says how much artificial rows leaked, and nothing about any row of a person. Coins and scores end with the worker, so
nobody but their owner can work the bound out: it is the owner's word. It is told to everybody, for a bound above the claim shows
that a training does not keep its promise, whoever's canaries show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from governance.consent.reading import refuse
from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.statement import verify_statement
from privacy.audit.terms import MAX_EPSILON, MIN_CANARIES
from protocols.canonical import Document, parse_canonical
from protocols.errors import Problem
from protocols.job_fields import check_decimal, check_hex
from protocols.private_training import MAX_CANARIES

FORMAT = "confide.canary-audit/1"
_NAMES = {"format", "consortium", "owner", "job", "epsilon", "confidence", "canaries"}
_JOB_DIGITS = 32


@dataclass(frozen=True)
class CanaryAudit:
    """A one-run audit as its owner signs it; public in the consortium.

    Attributes:
        consortium: its id.
        owner: who planted the canaries, and signs.
        job: id of the training, 32 hexadecimal digits.
        epsilon: decimal: the training's true epsilon is at least this.
        confidence: decimal of at most 1: with which.
        canaries: how many the owner planted or left out by its coins; at least 8.
    """

    consortium: str
    owner: str
    job: str
    epsilon: str
    confidence: str
    canaries: int

    def to_document(self) -> Document:
        """Returns the audit as a document; `read_canary_audit` returns an equal one."""
        return {"format": FORMAT, **vars(self)}


def read_canary_audit(document: Document) -> CanaryAudit:
    """Reads an audit strictly; who signed it is not verified.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
    """
    problems: list[Problem] = []
    fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
    found = CanaryAudit(
        consortium=fields.text("consortium"),
        owner=fields.text("owner"),
        job=fields.text("job"),
        epsilon=fields.text("epsilon"),
        confidence=fields.text("confidence"),
        canaries=fields.whole("canaries", least=MIN_CANARIES),
    )
    refuse(problems or _check(found), what="the audit by canaries")
    return found


def sign_canary_audit(audit: CanaryAudit, key: SigningKey) -> SignedDocument:
    """Signs an audit with its owner's key."""
    return sign(audit.to_document(), kind=DocumentKind.CANARY_AUDIT, signer=audit.owner, key=key)


def verify_canary_audit(signed: SignedDocument, directory: Directory) -> CanaryAudit:
    """Checks that the owner that an audit names has signed it in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.CANARY_AUDIT,
        read=lambda body: read_canary_audit(parse_canonical(body)),
        author=lambda audit: audit.owner,
        what="audit by canaries",
    )


def _check(found: CanaryAudit) -> Iterable[Problem]:
    for name in ("consortium", "owner"):
        yield from check_id(name, getattr(found, name))
    yield from check_hex("job", found.job, _JOB_DIGITS)
    yield from check_decimal("epsilon", found.epsilon, Decimal(0), Decimal(int(MAX_EPSILON)))
    yield from check_decimal("confidence", found.confidence, Decimal(0), Decimal(1))
    if found.canaries > MAX_CANARIES:
        yield Problem("canaries", f"a training has at most {MAX_CANARIES}", "ask its author")
