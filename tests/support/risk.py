"""Risk reports for tests."""

from __future__ import annotations

from datetime import UTC, datetime

from governance.risk_report import StatedRisk
from privacy.figures import Figure
from privacy.risk.report import ATTACKED_IN_THE_CLEAR, RiskReport
from protocols.job import ModelRef


def a_stated_risk(*, seeds: tuple[int, ...] = (7,), owner: str = "hospital-a", consortium: str = "demo") -> StatedRisk:
    """A report with a figure of each kind."""
    figures = {
        "membership.lira.tpr_at_1_percent": Figure(0.0125, 0.006, 0.0229),
        "attribute_inference.gain": Figure(-0.01, -0.05, 0.03),
    }
    report = RiskReport(figures, members=800, others=700, shadows=64, seeds=seeds, method=ATTACKED_IN_THE_CLEAR)
    made = datetime(2030, 1, 1, tzinfo=UTC)
    return StatedRisk(consortium, owner, ModelRef("diagnosis", "0123456789ab"), made, (f"{owner}/train/1",), report)
