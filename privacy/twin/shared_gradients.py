"""The arithmetic of a private training on shares, in the clear: the same integers, noise and roundings, without parties.

For tests of the protocol, and to see what a setting gives before anybody joins. Two things differ from a session: the sigmoid is
exact before it is rounded, where the protocol's is within its stated error, and updates are rounded to the nearest multiple of
2^-24, where the protocol's are within two of them. It protects nobody: it sees all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS, VALUE_BITS
from protocols.job import Task
from protocols.mpc.programs.rates import LearningRates
from protocols.private_training import PrivateTraining
from protocols.ring import RingArray
from protocols.training import Training

_GRID = 2.0 ** (2 * VALUE_BITS)
_ONE = 1 << VALUE_BITS
_EXACT = 2**53


def train_twin(
    features: RingArray,
    labels: RingArray,
    *,
    training: Training,
    task: Task,
    noise: RingArray,
    start: Mapping[str, NDArray[np.floating]],
) -> dict[str, NDArray[np.float64]]:
    """Returns the parameters that a private training on shares ends with, by the names of its start.

    Args:
        features: (rows, features) int64 at 16 fractional bits, as their owners shortened them (`protocols.mpc.row_bounds`).
        labels: (rows,) int64 at 16 fractional bits.
        training: hyper-parameters with their terms of privacy; SGD.
        task: binary or real.
        noise: (steps, parameters) int64: the sum of all owners' noise at 32 fractional bits; weights first, then the bias.
        start: weight (1, features), and bias (1,) if there is one, in this order.

    Raises:
        ConfideError: INTERNAL (the caller's fault) for other shapes, no terms, or so many rows that sums are not exact.
    """
    terms = _checked(training, features, noise, start)
    rates, optimiser = LearningRates(training, 1), training.optimiser
    momentum, decay = float(Fraction(optimiser.momentum)), float(Fraction(optimiser.weight_decay))
    factor = float(Fraction(2 if task is Task.REAL else 1, terms.nominal_rows)) / _GRID
    # Integers below 2^53 in float64: sums of products are exact in any order.
    rows = np.concatenate([features.astype(np.float64), np.full((len(features), len(start) - 1), float(_ONE))], axis=1)
    wanted = labels.astype(np.float64)
    parameters = _rounded(np.concatenate([np.asarray(value, np.float64).reshape(-1) for value in start.values()]))
    momenta = np.zeros_like(parameters)
    for step in range(training.epochs):
        residuals = _residuals(rows @ parameters, wanted, task)
        direction = (residuals @ rows + noise[step]) * factor + decay * parameters + momentum * momenta
        parameters = _rounded(parameters - float(rates.at(step).value) * direction)
        momenta = _rounded(direction)
    shapes = {name: np.shape(value) for name, value in start.items()}
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, np.split(parameters, ends), strict=True)}


def _residuals(predicted: NDArray[np.float64], wanted: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    """Returns prediction less label, both as integers at 16 fractional bits, clamped to [-1, 1] for numbers."""
    if task is Task.REAL:
        return np.clip(np.rint(predicted) - wanted, -_ONE, _ONE)
    with np.errstate(over="ignore"):
        probability = 1.0 / (1.0 + np.exp(-predicted / _ONE))
    return np.asarray(np.rint(probability * _ONE) - wanted)


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.rint(values * 2.0**PARAMETER_BITS) / 2.0**PARAMETER_BITS)


def _checked(
    training: Training, features: RingArray, noise: RingArray, start: Mapping[str, NDArray[np.floating]]
) -> PrivateTraining:
    sizes = sum(int(np.size(value)) for value in start.values())
    if training.privacy is None or noise.shape != (training.epochs, sizes) or len(start) not in (1, 2):
        raise ConfideError(ErrorCode.INTERNAL, "the twin needs terms of privacy, and noise for every parameter and step")
    if sizes != features.shape[1] + len(start) - 1:
        raise ConfideError(ErrorCode.INTERNAL, "the parameters are not those of a linear model of the rows")
    if len(features) * 2 * _ONE**2 >= _EXACT:
        raise ConfideError(ErrorCode.INTERNAL, f"the twin adds up at most {_EXACT // (2 * _ONE**2)} rows exactly")
    return training.privacy
