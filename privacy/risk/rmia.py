"""The robust attack by pairwise likelihood ratios (Zarifzadeh et al. 2024), online, on one model.

With p(x) the probability that a model gives to the right class of row x, the ratio of a row is p(x) under the attacked model over
its mean under the shadows, of which half were trained with the row. A row's score is the share of a population whose ratio it
reaches: the population shows how sure a model is anyway. Whatever the population, a row with a larger ratio has no smaller score;
so one threshold on the scores does what one on the ratios does, and ratios need no pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_ratios(target: NDArray[np.float64], shadows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the logarithm of each row's ratio, (rows,) float64; higher for rather a member.

    Args:
        target: (rows,) logarithms of the right class's probability under the attacked model.
        shadows: (shadows, rows) likewise under the shadows, each row in half of them.
    """
    largest = shadows.max(axis=0)
    found: NDArray[np.float64] = target - largest - np.log(np.exp(shadows - largest).mean(axis=0))
    return found


def pairwise_scores(ratios: NDArray[np.float64], population: NDArray[np.float64], *, gamma: float = 1.0) -> NDArray[np.float64]:
    """Returns the share of a population whose ratio, times gamma, a row's ratio reaches, (rows,) float64.

    Args:
        ratios: (rows,) logarithms, as `log_ratios` returns them.
        population: (others,) likewise, of rows that are no members.
        gamma: how much more likely than such a row, from 1.
    """
    ordered = np.sort(population)
    found: NDArray[np.float64] = np.searchsorted(ordered, ratios - np.log(gamma), side="right") / len(ordered)
    return found
