"""The targets that read what a party signs about an assessment or an ablation, and what a researcher hands it before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from governance.ablation_report import StatedAblation, read_ablation_report
from governance.opened_assessment import OpenedAssessment, Opening, committed_shares, read_opened_assessment
from governance.opening import open_committed
from governance.risk_report import StatedRisk, read_risk_report
from privacy.ablation.lines import Line, Part
from privacy.figures import Figure
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from tests.fuzz.target import Target
from tests.support.opened_counts import COUNTS, an_assessment, commitments_to, shares_of
from tests.support.risk import a_stated_risk

_JOB = an_assessment("demo")
_SHARES = shares_of(_JOB, COUNTS)
_COMMITMENTS = commitments_to(_SHARES)


def _decode(data: bytes) -> StatedRisk:
    stated = read_risk_report(parse_canonical(data))
    # What was accepted has one form, or a digest would not stand for it.
    if canonical_bytes(stated.to_document()) != data:
        raise AssertionError("a risk report was read and is written differently")
    return stated


def _seeds() -> list[bytes]:
    return [canonical_bytes(a_stated_risk().to_document()), canonical_bytes(a_stated_risk(seeds=()).to_document())]


def _open(data: bytes) -> OpenedAssessment:
    """Reads what is handed to an owner and opens it, as its party does; only what was committed to is opened."""
    opened = read_opened_assessment(parse_canonical(data))
    if canonical_bytes(opened.to_document()) != data:
        raise AssertionError("an opened assessment was read and is written differently")
    shares = committed_shares(opened, _JOB)
    try:
        open_committed(_JOB, _JOB.outputs[0], shares, commitments=_COMMITMENTS)
    except ConfideError as error:
        if error.code is not ErrorCode.COMMITMENT_DIFFERS:
            raise
    else:
        if shares != _SHARES:
            raise AssertionError("other shares than those committed to were opened")
    return opened


def _handed() -> list[bytes]:
    openings = {each.party: Opening(each.share, each.nonce) for each in _SHARES}
    whole = OpenedAssessment(_JOB.job_id, a_stated_risk(), _SHARES[0].scale_bits, openings)
    bare = OpenedAssessment(_JOB.job_id, a_stated_risk(seeds=()), 0, {party: Opening(b"", bytes(32)) for party in openings})
    return [canonical_bytes(each.to_document()) for each in (whole, bare)]


def _decode_ablation(data: bytes) -> StatedAblation:
    stated = read_ablation_report(parse_canonical(data))
    if canonical_bytes(stated.to_document()) != data:
        raise AssertionError("a report on an ablation was read and is written differently")
    return stated


def _ablations() -> list[bytes]:
    line = Line(Part.TRAINING, "off", {"membership.lira.auc": Figure(0.6, 0.5, 0.7)}, {"accuracy": Figure(0.9, 0.8, 1.0)})
    made = datetime(2030, 1, 1, tzinfo=UTC)
    whole = StatedAblation("demo", "hospital-a", made, 160, 80, 2, 64, 7, (line, line), ("statistics: no column was named",))
    return [canonical_bytes(each.to_document()) for each in (whole, replace(whole, lines=(), left_out=()))]


TARGETS = (
    Target("risk-report", _decode, _seeds),
    Target("opened-assessment", _open, _handed),
    Target("ablation-report", _decode_ablation, _ablations),
)
