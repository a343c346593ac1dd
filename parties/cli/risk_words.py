"""What an assessment opened, for people: how many members and others reach each threshold, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parties.cli.output import table

if TYPE_CHECKING:
    from parties.client.client import Values
    from privacy.figures import Figures
    from protocols.job import Job


def attack_in_words(job: Job, value: Values, *, min_cell: int) -> str:
    """Returns the counts of an assessment for people, a line for each threshold, and the figures of the attack."""
    from parties.client.risk import risk_of

    assessment = job.assessment
    if assessment is None:
        return ""
    report = risk_of(job, value)
    lines = [
        (threshold, *("-" if count < 0 else f"{count:g}" for count in line))
        for threshold, line in zip(assessment.thresholds, value.tolist(), strict=True)
    ]
    text = table(("score at least", f"of {report.members} members", f"of {report.others} others"), lines)
    if value.min() < 0:
        text += f"\n-: withheld: fewer than {min_cell} rows more than at the next threshold that is told, or than there are"
    return f"{text}\n{figures_in_words(report.figures)}"


def figures_in_words(figures: Figures) -> str:
    """Returns figures for people, one a line, each with its interval."""
    lines = [(name, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}") for name, one in sorted(figures.items())]
    return table(("figure", "value", "95 % interval"), lines)
