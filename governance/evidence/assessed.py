"""Which of the risk reports in a bundle count, and on which of them something rests.

An owner may assess in parts: one attack by a job every month, another in the clear by its people every year. So it is looked
up figure by figure what counts. A report is out only if a later one of its owner is about the same of its rows and has all its
figures.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from governance.policy.release import OF_SHADOWS, RISK_FIGURES, ReleaseClass
from governance.risk_report import StatedRisk

if TYPE_CHECKING:
    from governance.evidence.bundle import EvidenceBundle


@dataclass(frozen=True, eq=False)
class Needed:
    """What a class asks of one owner about one data set.

    Attributes:
        dataset: `party/name/version`.
        figure: its name; None if the class limits no figure of risk, so that any assessment will do.
        report: the last one that has it; None if there is none.
    """

    dataset: str
    figure: str | None
    report: StatedRisk | None

    @property
    def owner(self) -> str:
        """Whose rows these are."""
        return self.dataset.partition("/")[0]

    @property
    def is_of_shadows(self) -> bool:
        """Whether fewer shadow models make the figure smaller."""
        return self.figure is not None and self.figure.startswith(OF_SHADOWS)


def own_rows(report: StatedRisk, used: Collection[str]) -> frozenset[str]:
    """Returns of the owner's data sets those that a report is about and that the version was trained on."""
    return frozenset(name for name in report.datasets if name.startswith(f"{report.owner}/") and name in used)


def replaces(newer: StatedRisk, older: StatedRisk, used: Collection[str]) -> bool:
    """Returns whether nothing of a report is needed beside a later one of its owner."""
    same = newer.owner == older.owner and newer.ref == older.ref and newer.order >= older.order
    return same and own_rows(older, used) <= own_rows(newer, used) and set(older.figures) <= set(newer.figures)


def latest_reports(bundle: EvidenceBundle) -> tuple[StatedRisk, ...]:
    """Returns the reports of a bundle about its version, but for those that a later one of the same owner replaces."""
    known = [report for report in bundle.assessed if report.ref == bundle.ref]
    return tuple(
        report
        for place, report in enumerate(known)
        if not any(
            replaces(other, report, bundle.datasets) and (other.order > report.order or at > place)
            for at, other in enumerate(known)
            if at != place
        )
    )


def needed_of(bundle: EvidenceBundle, asked: ReleaseClass) -> tuple[Needed, ...]:
    """Returns what a class asks of the owners, for each data set behind a version that its owner has assessed at all."""
    limited: list[str | None] = [name for name in asked.max_figures if name.startswith(RISK_FIGURES)]
    found = []
    for dataset in bundle.datasets:
        about = [report for report in latest_reports(bundle) if dataset in own_rows(report, bundle.datasets)]
        for figure in (limited or [None]) if about else ():
            having = [report for report in about if figure is None or figure in report.figures]
            found.append(Needed(dataset, figure, max(having, key=lambda report: report.order, default=None)))
    return tuple(found)
