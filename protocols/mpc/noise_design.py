"""How much noise the owners of a private training draw, on which grid, for which coordinates; public, from the job alone.

Sensitivities are of the integers that are shared: what a row can add to a sum, in units of the grid, with every rounding counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.private_job_checks import contributors
from protocols.private_training import PrivateTraining


@dataclass(frozen=True)
class NoiseDesign:
    """The noise of a private training.

    Each owner draws `steps` times `used` + `spares` integers from a discrete Gaussian of standard deviation `deviation`, before
    the first step. Which of the coordinates are the spares, nobody knows before the noise is shared.

    Attributes:
        owners: who draws, in order.
        colluders: how many of them may pool.
        steps: of the training.
        used: coordinates of a step that are added to a sum.
        spares: coordinates of a step that are opened to test the noise, and used for nothing.
        scale_bits: fractional bits of the grid: 32 where it is added to products of shares (16 + 16), 20 for sums of owners.
        sensitivity: of the sum of a step to one unit, Euclidean, in units of the grid, rounded up.
        deviation: of one owner's draw, in units of the grid, rounded up: noise multiplier times sensitivity, over the root of
            the number of owners that do not collude.
    """

    owners: tuple[str, ...]
    colluders: int
    steps: int
    used: int
    spares: int
    scale_bits: int
    sensitivity: int
    deviation: int

    @property
    def width(self) -> int:
        """Coordinates that an owner draws for a step."""
        return self.used + self.spares

    @property
    def num_elements(self) -> int:
        """Integers that an owner draws in all."""
        return self.steps * self.width


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
