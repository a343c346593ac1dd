"""How much noise stands in what is opened of predictions; public, from the job alone (`protocols.row_noise`: about rows).

Each computing party adds integers of its own, on the grid of 2^-16, to its own share: nobody knows the whole noise, and the
noise of those that do not collude has the deviation that the output says. Sensitivities are of the integers that are opened,
Euclidean, and count every number of one answer.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt
from typing import TYPE_CHECKING

from protocols.fixed_point import VALUE_BITS
from protocols.job_parts import Output, OutputKind, Task

if TYPE_CHECKING:  # the job's checks import this module
    from protocols.job import Job

VALUE_RANGE = 2  # values lie in [-1, 1], probabilities in [0, 1]


def own_deviation(output: Output, *, drawers: int, grid_bits: int = VALUE_BITS) -> int:
    """Returns the standard deviation of what one party draws for one number, in units of the grid, rounded up.

    Args:
        output: with noise; public.
        drawers: how many parties draw, more than collude.
        grid_bits: fractional bits of what is opened.
    """
    squared = (Fraction(output.noise) * 2**grid_bits) ** 2 / (drawers - output.noise_colluders)
    whole = -(-squared.numerator // squared.denominator)
    root = isqrt(whole)
    return root if root * root == whole else root + 1


def squared_sensitivity(job: Job) -> int:
    """Returns by how much the numbers of one answer can move, the squares of all of them added up; public.

    An answer is all numbers of one sample, or the mean over a query's samples: whatever rows the model was trained on, each of
    its probabilities stays within [0, 1], where it is clipped to before noise is added, and each value within [-1, 1].

    Args:
        job: an inference or a serving whose output has noise; public.
    """
    if job.task is Task.REAL:
        return VALUE_RANGE**2
    return job.label_width


def num_answers(job: Job, output: Output) -> int:
    """Returns how many answers a job opens at most: one for each sample, or one in all; public."""
    return 1 if output.kind is OutputKind.MEAN else job.most_samples
