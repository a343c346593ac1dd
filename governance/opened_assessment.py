"""What a researcher hands to the owners after an assessment: the report, and by what each owner can make its figures again.

    {format, job, report, scale_bits, openings: {party: {share, nonce}}}

The shares are those that the computing parties committed to in the ending that every participant keeps, so an owner opens the
counts itself and believes nobody's figures (docs/risk.md). Neither shares nor nonces go into what it then signs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from governance.commitments import NONCE_BYTES, CommittedShare
from governance.identity.fields import Fields, fields_of, finish
from governance.risk_report import StatedRisk, read_risk_report
from protocols.canonical import Document
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ID_PATTERN, MAX_COMPUTING_PARTIES, Job
from protocols.job_parts import MAX_THRESHOLDS

FORMAT = "confide.opened-assessment/1"
WRITE_AGAIN = "Ask the researcher to write the report again with `confide job result JOB --report FILE`, and bring it as it is."
_SIDES = 2  # members and others
_MAX_SHARE_BYTES = 8 * _SIDES * MAX_THRESHOLDS
_MAX_SCALE_BITS = 62
_NAMES = {"format", "job", "report", "scale_bits", "openings"}
_JOB = re.compile(r"[0-9a-f]{32}")
_BYTES = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True)
class Opening:
    """What one computing party handed out of the counts.

    Attributes:
        share: little-endian int64; secret, but to the researcher and the owners.
        nonce: opens its commitment; likewise.
    """

    share: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class OpenedAssessment:
    """A report with the shares of the counts that it was made of; for the owners whose rows took part, and nobody else.

    Attributes:
        job_id: of the assessment, 32 hexadecimal digits; public.
        report: what the researcher made of the counts, in the name of one of the owners.
        scale_bits: fractional bits of the shares; public.
        openings: by computing party.
    """

    job_id: str
    report: StatedRisk
    scale_bits: int
    openings: Mapping[str, Opening]

    def to_document(self) -> dict[str, Any]:
        """Returns it as a document; `read_opened_assessment` returns an equal one."""
        return {
            "format": FORMAT,
            "job": self.job_id,
            "report": self.report.to_document(),
            "scale_bits": self.scale_bits,
            "openings": {
                party: {"share": opening.share.hex(), "nonce": opening.nonce.hex()} for party, opening in self.openings.items()
            },
        }


def opened_assessment(report: StatedRisk, shares: tuple[CommittedShare, ...]) -> OpenedAssessment:
    """Returns what a researcher hands to the owners.

    Args:
        report: what she made of the counts.
        shares: one of each computing party; secret.
    """
    openings = {each.party: Opening(each.share, each.nonce) for each in shares}
    return OpenedAssessment(shares[0].session, report, shares[0].scale_bits, openings)


def committed_shares(opened: OpenedAssessment, job: Job) -> tuple[CommittedShare, ...]:
    """Returns the shares as those of the counts of a job, in the order of its computing parties; whether they are is not checked.

    Args:
        opened: as it was read.
        job: an assessment.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault): not one opening of each computing party.
    """
    problems = [
        Problem(f"openings.{party}", "missing" if party in job.computing_parties else "of nobody who computed", "")
        for party in sorted(set(job.computing_parties) ^ set(opened.openings))
    ]
    if job.assessment is None or problems:
        what = f"the openings are not those of the computing parties of job {job.job_id[:12]}"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, problems=problems, remedy=WRITE_AGAIN)
    return tuple(
        CommittedShare(
            session=job.job_id,
            attempt=job.attempt,
            output=job.outputs[0].name,
            party=party,
            shape=(len(job.assessment.thresholds), _SIDES),
            scale_bits=opened.scale_bits,
            share=opened.openings[party].share,
            nonce=opened.openings[party].nonce,
        )
        for party in job.computing_parties
    )


def read_opened_assessment(document: Document) -> OpenedAssessment:
    """Reads it strictly.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault), with all problems of the report, or all others.
    """
    problems: list[Problem] = []
    fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
    job_id, scale_bits = fields.text("job"), fields.whole("scale_bits", least=0)
    if not _JOB.fullmatch(job_id):
        problems.append(Problem("job", "32 hexadecimal digits are expected", "ask its author"))
    if scale_bits > _MAX_SCALE_BITS:
        problems.append(Problem("scale_bits", f"at most {_MAX_SCALE_BITS} are expected", "ask its author"))
    openings = _openings(document.get("openings"), problems)
    found = document.get("report")
    if not isinstance(found, dict):
        problems.append(Problem("report", "an object is expected", "ask its author"))
    finish(problems, what="the opened assessment")
    return OpenedAssessment(job_id, read_risk_report(found if isinstance(found, dict) else {}), scale_bits, openings)


def _openings(entry: object, problems: list[Problem]) -> dict[str, Opening]:
    if not isinstance(entry, dict) or len(entry) > MAX_COMPUTING_PARTIES or not all(map(ID_PATTERN.fullmatch, entry)):
        what = f"an object of at most {MAX_COMPUTING_PARTIES} parties is expected"
        problems.append(Problem("openings", what, "ask its author"))
        return {}
    found = {}
    for party, opening in entry.items():
        where = f"openings.{party}"
        fields = Fields(opening, names={"share", "nonce"}, where=where, problems=problems)
        share, nonce = fields.text("share", most=2 * _MAX_SHARE_BYTES), fields.text("nonce")
        if not _BYTES.fullmatch(share) or not _BYTES.fullmatch(nonce) or len(nonce) != 2 * NONCE_BYTES:
            what = f"a share and a nonce of {NONCE_BYTES} bytes are expected, in hexadecimal digits"
            problems.append(Problem(where, what, "ask its author"))
            continue
        found[party] = Opening(bytes.fromhex(share), bytes.fromhex(nonce))
    return found
