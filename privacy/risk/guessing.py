"""Guesses of a column from the other columns and the label, without any model under attack: what an attack has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1.0  # as many rows' worth of doubt
_NEWTON_STEPS = 15


def known_columns(features: NDArray[np.float64], labels: NDArray[np.int64], *, hidden: int, classes: int) -> NDArray[np.float64]:
    """Returns what an attacker knows of each row: all columns but one, the label as columns of 0 and 1, and 1; (rows, known)."""
    one_hot = labels[:, None] == np.arange(1, classes)[None, :]
    return np.hstack([np.delete(features, hidden, axis=1), one_hot, np.ones((len(labels), 1))])


def least_squares(known: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns coefficients, (known,), of the ridge regression of a column."""
    return np.asarray(np.linalg.solve(known.T @ known + _RIDGE * np.eye(known.shape[1]), known.T @ wanted), np.float64)


def logistic(known: NDArray[np.float64], wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns coefficients, (known,), of the ridge logistic regression of a column of two values, by Newton's method."""
    found = np.zeros(known.shape[1])
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(known @ found, -30, 30)))
        slope = known.T @ (chance - wanted) + _RIDGE * found
        bend = (known * (chance * (1 - chance))[:, None]).T @ known + _RIDGE * np.eye(len(found))
        found = found - np.linalg.solve(bend, slope)
    return found
