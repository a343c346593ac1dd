"""The target that reads what a party signs about an assessment."""

from __future__ import annotations

from governance.risk_report import StatedRisk, read_risk_report
from protocols.canonical import canonical_bytes, parse_canonical
from tests.fuzz.target import Target
from tests.support.risk import a_stated_risk


def _decode(data: bytes) -> StatedRisk:
    stated = read_risk_report(parse_canonical(data))
    # What was accepted has one form, or a digest would not stand for it.
    if canonical_bytes(stated.to_document()) != data:
        raise AssertionError("a risk report was read and is written differently")
    return stated


def _seeds() -> list[bytes]:
    return [canonical_bytes(a_stated_risk().to_document()), canonical_bytes(a_stated_risk(seeds=()).to_document())]


TARGETS = (Target("risk-report", _decode, _seeds),)
