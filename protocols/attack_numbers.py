"""What an owner's shadow models say of a row, as numbers that are shared beside it when a model is assessed.

With c the confidence of the model under attack in the right class of a row (docs/protocols/assessment.md):

`lira`: the score is a c + b: the log ratio of two normal densities with the mean confidence of shadows that were trained with
    the row and of those that were not, and one deviation for both, is linear in c. Two numbers a row: a, b.
`rmia`: the score is log p + b, p being the probability of the right class and -b the logarithm of its mean over the shadows.
    How many of a population a row's ratio exceeds grows with that ratio, so thresholds on either are the same. One number: b.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from protocols.errors import Problem
from protocols.job_parts import Assessment

LIRA, RMIA = "lira", "rmia"
FACTOR_LIMIT = 2.0**8  # of a: a margin of logits below 2^21 times it, at 32 fractional bits, stays within the ring
OFFSET_LIMIT = 2.0**12  # of b
_WIDTHS = {LIRA: 2, RMIA: 1}


def width_of(assessment: Assessment | None) -> int:
    """Returns how many numbers a row has; 0 without an assessment."""
    return 0 if assessment is None else _WIDTHS.get(assessment.attack, 0)


def number_problems(numbers: NDArray[np.float64] | None, *, rows: int, assessment: Assessment, where: str) -> Iterable[Problem]:
    """Yields what is wrong with an owner's numbers; values are never named.

    Args:
        numbers: (rows, width) float64, secret; None if there are none.
        rows: of the data set; public.
        assessment: of the job.
        where: the data set, for people.
    """
    shape = (rows, width_of(assessment))
    if numbers is None or numbers.shape != shape:
        yield Problem(where, f"its rows lack the {shape[1]} number(s) of the attack", "have this party's shadows trained again")
    elif not (np.abs(numbers) < limits_of(assessment)).all():  # False for NaN
        yield Problem(where, "a number of the attack is beyond its limit", "have this party's shadows trained again")


def limits_of(assessment: Assessment) -> NDArray[np.float64]:
    """Returns below which absolute value each of a row's numbers stays."""
    return np.array([FACTOR_LIMIT, OFFSET_LIMIT] if assessment.attack == LIRA else [OFFSET_LIMIT])
