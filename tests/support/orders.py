"""A standing assessment that is sound, to be changed field by field."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from governance.evidence.standing import StandingAssessment
from protocols.job import ModelRef
from tests.support.members import NOW


def an_order(**changes: Any) -> StandingAssessment:
    """Hospital A's, of its own rows."""
    fields: dict[str, Any] = {
        "consortium": "cardio",
        "party": "hospital-a",
        "querier": "assessor",
        "ref": ModelRef("diagnosis", "0123456789ab"),
        "agreement": "a1" * 32,
        "purpose": "prognosis",
        "computing_parties": ("hospital-a", "hospital-b"),
        "dealer": "hospital-c",
        "datasets": ("hospital-a/hearts", "hospital-a/others"),
        "members": ("hospital-a/hearts",),
        "attack": "lira",
        "shadows": 64,
        "thresholds": ("-1", "0", "1.5"),
        "min_cell": 5,
        "for_owners": False,
        "agree_within_minutes": 60,
        "expires_in_minutes": 120,
        "every_days": 30,
        "max_runs": 12,
        "made": NOW,
        "until": NOW + timedelta(days=365),
    }
    return StandingAssessment(**fields | changes)
