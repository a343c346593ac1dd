"""How much noise the owners of rows add to what an evaluation or a summary opens about them; public, from the job alone.

Every owner draws integers of its own, shares and tests them as for a private training (docs/protocols/noise.md); they are added
to sums in shares before anything is withheld or opened. All numbers of a job have noise of one deviation, so they are one normal
mechanism. Sensitivities are of the integers that are opened, Euclidean, of all outputs together: what one row adds to them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from protocols.answer_noise import own_deviation
from protocols.fixed_point import VALUE_BITS
from protocols.job_parts import JobType, Output, OutputKind, Task
from protocols.loss_bounds import LOSSES

if TYPE_CHECKING:  # the job's checks import this module
    from protocols.job import Job

COUNTED = (
    OutputKind.CORRECT_COUNT,
    OutputKind.CONFUSION,
    OutputKind.RELIABILITY,
    OutputKind.GROUP_CONFUSION,
    OutputKind.SCORE_HISTOGRAM,
)
"""What an evaluation opens that is made of counts, and so can have noise."""

EVALUATED_WITH_NOISE = (*COUNTED, *LOSSES)
"""All that an evaluation can open with noise: counts, and means of what is bounded in each row."""

MOMENT_BITS = 2 * VALUE_BITS  # of sums of squares, which are not rounded
RELIABILITY_BINS = 10
RELIABILITY_COLUMNS = 3
GROUP_CELLS = 4
SCORE_COLUMNS = 2


def adds_row_noise(job: Job) -> bool:
    """Whether the owners of a job's rows add noise to what it opens; public."""
    about_rows = job.job_type in (JobType.EVALUATE, JobType.SUMMARISE)
    return about_rows and any(output.has_noise for output in job.outputs)


def opens_moments(job: Job) -> bool:
    """Whether a job opens the means and deviations of features; public."""
    return any(output.kind is OutputKind.MOMENTS for output in job.outputs)


def stands_in_for_minimum(output: Output) -> bool:
    """Whether an output's noise is enough to stand in place of the rules that withhold exact numbers about few rows; public.

    With noise a withheld count follows nearly from the others, since the number of all rows is known. Noise of half the minimum
    leaves none and the minimum two deviations apart: whoever tells them apart by one number is wrong once in six times.

    Args:
        output: about rows.
    """
    return not output.has_noise or 2 * Decimal(output.noise) >= output.min_cell


def grid_bits(job: Job) -> int:
    """Returns the fractional bits of the noisy numbers of a job, and of the noise; public."""
    return MOMENT_BITS if opens_moments(job) else VALUE_BITS


def output_shape(job: Job, output: Output) -> tuple[int, ...]:
    """Returns the shape of the noisy numbers of an output; public."""
    classes = job.label_width if job.task is Task.CLASSES else 2
    match output.kind:
        case OutputKind.CONFUSION:
            return classes, classes
        case OutputKind.RELIABILITY:
            return RELIABILITY_BINS, RELIABILITY_COLUMNS
        case OutputKind.GROUP_CONFUSION:
            return len(output.group_edges) + 1, GROUP_CELLS
        case OutputKind.SCORE_HISTOGRAM:
            return len(output.group_edges) + 1, SCORE_COLUMNS
        case OutputKind.GROUP_MEANS | OutputKind.CENTROIDS if job.summary is not None:
            return job.summary.groups, job.model.input_features + 1
        case OutputKind.MOMENTS:
            return 2, job.model.input_features
        case _:
            return (1,)


def opens_noisy_clusters(job: Job) -> bool:
    """Whether a job opens clusters that were found by noisy sums; public."""
    return adds_row_noise(job) and any(output.kind is OutputKind.CENTROIDS for output in job.outputs)


def noise_steps(job: Job) -> int:
    """Returns how often all numbers of a job get fresh noise: as often as means of clusters are moved, else once; public."""
    return job.summary.iterations if job.summary is not None and opens_noisy_clusters(job) else 1


def squared_row_sensitivity(job: Job) -> int:
    """Returns what the rows of one person add to the noisy numbers of one step, the squares of all of them added up; public.

    A row is in one cell of a table, and one of the correct ones or not. It adds 1 to the rows of one tenth, its probability,
    which is clipped to [0, 1], and 1 if it is right. To a loss it adds at most 1, in units of the most that a row counts. To a
    group's sums it adds its features, which lie within [-1, 1], and 1 to the size. To moments it adds x and x^2 - 1 of each
    feature, whose squares are at most 1 together. A row that is replaced by another one can leave one cell and enter another,
    which is at most twice that. Several rows move everything so many times as far.

    Args:
        job: whose outputs have noise.
    """
    return sum(_of_output(job, output) for output in job.outputs) * rows_of_person(job) ** 2


def rows_of_person(job: Job) -> int:
    """Returns how many rows of one person the noise of a job hides together; 1 where it hides single rows; public."""
    return max(output.rows_per_person for output in job.outputs)


def num_noisy(job: Job) -> int:
    """Returns how many numbers get noise of their own in a step; public."""
    return sum(_size(output_shape(job, output)) for output in job.outputs)


def row_noise_deviation(job: Job, *, owners: int) -> int:
    """Returns the standard deviation of what one owner draws for one number, in units of the grid, rounded up; public.

    Args:
        job: whose outputs have noise, all the same.
        owners: how many draw, more than collude.
    """
    return own_deviation(job.outputs[0], drawers=owners, grid_bits=grid_bits(job))


def opened_deviation(job: Job, *, owners: int) -> float:
    """Returns the standard deviation of the noise in each opened number, that of all owners together; public."""
    return float(row_noise_deviation(job, owners=owners) * owners**0.5) / (1 << grid_bits(job))


def _of_output(job: Job, output: Output) -> int:
    match output.kind:
        case OutputKind.RELIABILITY:
            return RELIABILITY_COLUMNS
        case OutputKind.GROUP_MEANS | OutputKind.CENTROIDS:
            return job.model.input_features + 1
        case OutputKind.MOMENTS:
            return job.model.input_features
        case _:
            return 1


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
