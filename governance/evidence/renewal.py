"""Until when the risk reports of a bundle count: a risk assessment is renewed on the policy's schedule, or the release ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import latest_reports
from governance.policy.release import ReleaseTerms

_WARNED = 4  # a quarter of the age that the class takes, before the end


@dataclass(frozen=True)
class Renewal:
    """Which report of a bundle is too old first; public in the party.

    Attributes:
        owner: whose report.
        class_name: the sensitivity class by which it is.
        due: from when people are warned, UTC.
        ends: until when it counts, UTC.
    """

    owner: str
    class_name: str
    due: datetime
    ends: datetime


def next_renewal(bundle: EvidenceBundle, terms: ReleaseTerms) -> Renewal | None:
    """Returns the report that is too old first, by the classes of the bundle's rows; None if it has no report."""
    found = []
    for name in terms.classes_of(bundle.datasets):
        age = timedelta(days=terms.classes[name].max_age_days)
        for report in latest_reports(bundle):
            ends = report.made + age
            found.append(Renewal(report.owner, name, ends - age / _WARNED, ends))
    return min(found, key=lambda renewal: (renewal.ends, renewal.owner), default=None)
