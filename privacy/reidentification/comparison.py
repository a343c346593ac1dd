"""Two reports beside each other: what a preparation changed about whom a table gives away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from privacy.preparation.schema import API_VERSION
from privacy.reidentification.masking import masked_share, share
from privacy.reidentification.report import ReidentificationReport
from privacy.reidentification.report_document import shareable_part

KIND = "ReidentificationComparison"


@dataclass(frozen=True)
class Change:
    """One figure before and after, as it may be shown.

    Attributes:
        figure: what it is.
        before, after: as texts; empty where the table has no such figure.
    """

    figure: str
    before: str
    after: str


def changes(before: ReidentificationReport, after: ReidentificationReport) -> tuple[Change, ...]:
    """Returns the figures of two tables beside each other, counts of few rows masked; shareable but for the names of columns."""
    first, second = dict(_figures(before)), dict(_figures(after))
    return tuple(Change(name, first.get(name, ""), second.get(name, "")) for name in {**first, **second})


def comparison_document(before: ReidentificationReport, after: ReidentificationReport) -> dict[str, Any]:
    """Returns what changed, as a document without floats: both tables' shareable figures, and what is for the owner only."""
    return {
        "api_version": API_VERSION,
        "kind": KIND,
        "shareable": {"before": shareable_part(before), "after": shareable_part(after)},
        "owner_only": {
            "quasi_identifiers": {"before": list(before.quasi_identifiers), "after": list(after.quasi_identifiers)},
            "flagged": {"before": list(before.flagged), "after": list(after.flagged)},
            "dropped": [column.name for column in before.columns if column.name not in {one.name for one in after.columns}],
        },
    }


def _figures(report: ReidentificationReport) -> Iterator[tuple[str, str]]:
    sizes, total = report.classes, report.num_rows
    yield "rows", str(total)
    yield "columns", str(len(report.columns))
    yield "columns flagged as identifiers", str(len(report.flagged))
    yield "quasi-identifiers", str(len(report.quasi_identifiers))
    yield "k", str(sizes.k)
    yield "classes", str(sizes.num_classes)
    yield "rows alone in their class", masked_share(sizes.unique, total)
    yield "mean risk", share(sizes.mean_risk)
    for one in report.diversities:
        yield f"{one.column}: distinct l", str(one.distinct_l)
        yield f"{one.column}: entropy l", share(one.entropy_l)
        yield f"{one.column}: t", share(one.t)
        yield f"{one.column}: rows of one-valued classes", masked_share(one.single_valued_rows, total)
