"""How much noise stands in what is opened of predictions and of groups' sums; public, from the job alone.

Each computing party adds integers of its own, on the grid of 2^-16, to its own share: nobody knows the whole noise, and the
noise of those that do not collude has the deviation that the output says. Sensitivities are of the integers that are opened,
Euclidean, and count every number of one answer.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

from protocols.fixed_point import VALUE_BITS
from protocols.job import Job
from protocols.job_parts import Output, OutputKind, Task

VALUE_RANGE = 2  # values lie in [-1, 1], probabilities in [0, 1]


def has_noise(output: Output) -> bool:
    """Whether noise is added before an output is opened; public."""
    return output.noise != "0"


def own_deviation(output: Output, *, computing_parties: int) -> int:
    """Returns the standard deviation of what one computing party draws for one number, in units of 2^-16, rounded up.

    Args:
        output: with noise; public.
        computing_parties: how many there are, more than collude.
    """
    squared = (Fraction(output.noise) * 2**VALUE_BITS) ** 2 / (computing_parties - output.noise_colluders)
    whole = -(-squared.numerator // squared.denominator)
    root = isqrt(whole)
    return root if root * root == whole else root + 1


def squared_sensitivity(job: Job, output: Output) -> int:
    """Returns by how much the numbers of one answer can move, the squares of all of them added up; public.

    An answer is all numbers of one sample, or the mean over a query's samples: whatever rows the model was trained on, each of
    its probabilities stays within [0, 1], where it is clipped to before noise is added, and each value within [-1, 1]. The
    sums of groups move with one row by at most 1 in each feature, which lies within [-1, 1], and by 1 in the size.

    Args:
        job: the job; public.
        output: one of its outputs that has noise.
    """
    if output.kind is OutputKind.GROUP_MEANS:
        return job.model.input_features + 1
    if job.task is Task.REAL:
        return VALUE_RANGE**2
    return job.label_width


def num_answers(job: Job, output: Output) -> int:
    """Returns how many answers a job opens at most: one for each sample, or one in all; public."""
    one = (OutputKind.GROUP_MEANS, OutputKind.MEAN)
    return 1 if output.kind in one else job.most_samples
