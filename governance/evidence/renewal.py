"""Until when the risk reports of a bundle count: a risk assessment is renewed on the policy's schedule, or the release ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from governance.evidence.assessed import needed_of
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.own import asked_classes, is_unassessed
from governance.policy.release import ReleaseTerms

_WARNED = 4  # a quarter of the age that the class takes, before the end


@dataclass(frozen=True)
class Renewal:
    """Which report of a bundle is too old first; public in the party.

    Attributes:
        owner: whose report, or whose own model.
        class_name: the sensitivity class by which it is.
        due: from when people are warned, UTC.
        ends: until when it counts, UTC.
    """

    owner: str
    class_name: str
    due: datetime
    ends: datetime


def next_renewal(bundle: EvidenceBundle, terms: ReleaseTerms) -> Renewal | None:
    """Returns what is too old first, by the classes of the bundle's rows; None if nothing in it ages."""
    found = []
    # What people have answered for without figures ages like a report.
    unassessed = [(bundle.issuer, bundle.time)] if is_unassessed(bundle) else []
    for name in asked_classes(bundle, terms):
        age = timedelta(days=terms.classes[name].max_age_days)
        reports = [needed.report for needed in needed_of(bundle, terms.classes[name])]
        for owner, made in [*unassessed, *((report.owner, report.made) for report in reports if report is not None)]:
            ends = made + age
            found.append(Renewal(owner, name, ends - age / _WARNED, ends))
    return min(found, key=lambda renewal: (renewal.ends, renewal.owner), default=None)
