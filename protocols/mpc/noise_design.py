"""How much noise the owners of a private training draw; public, from the job alone. Its mechanism makes a `PlannedNoise` of it.

Sensitivities are of the integers that are shared: what a row can add to a sum, in units of the grid, with every rounding counted.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.private_job_checks import contributors
from protocols.private_training import PrivateTraining


def private_terms(job: Job) -> PrivateTraining:
    """Returns the terms of a private training.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if the job is none.
    """
    if job.training is None or job.training.privacy is None:
        raise ConfideError(ErrorCode.INVALID_JOB, "this is no private training")
    return job.training.privacy


def owner_deviation(job: Job, sensitivity: int) -> int:
    """Returns the standard deviation of one owner's noise, in units of the grid, rounded up.

    Args:
        job: a private training.
        sensitivity: of the sum of a step to one unit, in units of the grid.
    """
    terms = private_terms(job)
    honest = len(contributors(job)) - terms.colluders
    squared = (Fraction(terms.noise_multiplier) * sensitivity) ** 2 / honest
    root = int(squared) if squared.denominator == 1 else int(squared) + 1
    return _root_rounded_up(root)


def _root_rounded_up(value: int) -> int:
    root = isqrt(value)
    return root if root * root == value else root + 1
