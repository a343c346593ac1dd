"""Counts and sums about rows that have noise, for people; a count below 0 is shown as 0, in other formats as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from parties.cli.output import table
from protocols.job_parts import OutputKind
from protocols.private_job_checks import contributors

if TYPE_CHECKING:
    from parties.client.client import Values
    from protocols.job import Job, Output


def shown_count(count: float) -> str:
    """Returns a count as the cell of a table: whole ones as they are, noisy ones rounded; `-` where it is withheld."""
    if isinstance(count, int):
        return "-" if count < 0 else f"{count}"
    return "-" if math.isnan(count) else f"{max(count, 0.0):.0f}"


def is_withheld(counts: Values) -> bool:
    """Whether some of the counts are withheld: below 0 if they are whole numbers, and none at all if they have noise."""
    if counts.dtype.kind == "i":
        return bool(counts.min() < 0)
    return math.isnan(counts.sum())


def noisy_count_in_words(job: Job, count: float, *, min_cell: int) -> str:
    """Returns a noisy number of correct rows for people."""
    if math.isnan(count):
        return f"withheld: with its noise it is below {min_cell} rows"
    shown = min(max(count, 0.0), float(job.num_rows))
    return f"about {shown:.0f} of {job.num_rows} rows; noise of deviation {_deviation(job):.3g}"


def noise_note(job: Job, output: Output) -> str:
    """Returns a line about the noise in the numbers of an output; empty without."""
    from protocols.row_noise import adds_row_noise  # loads numpy

    if not adds_row_noise(job):
        return ""
    if output.kind is OutputKind.MOMENTS:
        return f"\nthe sums over all {job.num_rows} rows that they follow from have noise of deviation {_deviation(job):.3g}"
    least = f"; what tells of fewer than {output.min_cell} rows is withheld" if output.min_cell > 1 else ""
    return f"\nevery number has noise of deviation {_deviation(job):.3g}{least}"


def scores_in_words(job: Job, names: Sequence[str], output: Output, counts: Values) -> str:
    """Returns a score histogram for people: rows of either class by ranges of the probability, and the area that follows."""
    from privacy.utility.noisy import noisy_area

    edges = ("0", *output.group_edges, "1")
    cells = [[shown_count(count) for count in line] for line in counts.tolist()]
    lines = [(f"{low} to {high}", *line) for (low, high), line in zip(pairwise(edges), cells, strict=True)]
    area = noisy_area(counts.astype("float64"), deviation=_deviation(job), min_cell=output.min_cell)
    text = table((f"probability of {names[1]}", *names), lines)
    return f"{text}\narea under the ROC curve: {area.value:.4f} ({area.low:.4f} to {area.high:.4f})"


def noisy_loss_in_words(job: Job, output: Output, mean: float) -> str:
    """Returns a noisy mean loss for people, with its interval of 95 %."""
    from privacy.utility.noisy import noisy_mean
    from protocols.row_losses import mean_of_opened

    deviation = mean_of_opened(_deviation(job), output, job.num_rows)
    is_squared = output.kind is OutputKind.SQUARED_ERROR
    most = float(output.bound) ** (2 if is_squared else 1)
    found = noisy_mean(mean, deviation=deviation, rows=job.num_rows, most=most)
    whose = "error" if is_squared else "loss"
    return (
        f"about {found.value:.4f} ({found.low:.4f} to {found.high:.4f}); noise of deviation {deviation:.3g}; "
        f"no row's {whose} counts for more than {output.bound}"
    )


def _deviation(job: Job) -> float:
    from protocols.row_noise import opened_deviation

    return opened_deviation(job, owners=len(contributors(job)))
