"""What a polynomial in the place of activations costs: accuracy on the owner's validation rows, time, bytes and error, by degree.

The owner looks at offers and chooses; nothing is approximated without being told to. Pure; runs at the owner, who may see both
rows and weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.approximations import Range, activation_ranges, approximate, fit_activation, replaced_layers
from protocols.ckks.lanes import PlannedLanes, plan_lanes
from protocols.ckks.latency_planning import Declared
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import MAX_DEGREE, Polynomial, Sigmoid, Softmax
from protocols.model.reference import logits
from protocols.model.spec import ModelSpec

MIN_DEGREE = 2
_LEAST_COEFFICIENT = 1e-9  # with less of its highest power a polynomial is one of a lower degree that is made to look higher
LIMIT_FACTOR = 2.0  # the limit that is proposed for outputs, over the largest that validation rows give
Float64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Validation:
    """The owner's validation rows; secret.

    Attributes:
        rows: `(rows, features) float64`, as the model takes them.
        labels: `(rows,)` of numbers: classes 0, 1, ... in the order of the outputs, or real values; None without labels.
    """

    rows: Float64
    labels: Float64 | None


@dataclass(frozen=True)
class Choice:
    """Which polynomials stand for a model's activations.

    Attributes:
        degree: of each, 2 to 7.
        between: the range that all of them are fitted for; None to take for each what validation rows show, and a margin.
    """

    degree: int
    between: Range | None


@dataclass(frozen=True)
class Measured:
    """How a model does on validation rows; statistics of the owner's, shown to nobody else.

    Attributes:
        largest_output: in absolute value, before a last sigmoid or softmax.
        largest_difference: of an output, from the plain model's.
        agreement: share of rows with the plain model's decision; None for a model that decides nothing.
        accuracy: share of rows with the right decision, or None without labels or decisions.
        plain_accuracy: the plain model's.
        error: root of the mean squared error of a model of real values with labels, else None.
        plain_error: the plain model's.
    """

    largest_output: float
    largest_difference: float
    agreement: float | None
    accuracy: float | None
    plain_accuracy: float | None
    error: float | None
    plain_error: float | None


@dataclass(frozen=True)
class Offer:
    """One choice of polynomials.

    Attributes:
        degree: of the polynomials.
        fit_error: how far a polynomial is off its activation at most, within its range.
        measured: on validation rows; None without rows.
        lanes: how the model would be asked; None if it cannot be.
        refused: why not; empty if it can.
    """

    degree: int
    fit_error: float
    measured: Measured | None
    lanes: PlannedLanes | None
    refused: str


def proposed_limit(largest_output: float) -> float:
    """Returns a limit of outputs, of two digits, with room over the largest output that was seen."""
    wanted = max(LIMIT_FACTOR * largest_output, 1e-3)
    unit = 10.0 ** (math.floor(math.log10(wanted)) - 1)
    return float(f"{math.ceil(wanted / unit) * unit:.6g}")


def ranges_of(spec: ModelSpec, weights: Weights, between: Range | None, validation: Validation | None) -> dict[str, Range]:
    """Returns the range of the arguments of every activation that a polynomial has to stand for, by layer.

    Args:
        spec: the architecture.
        weights: by parameter name; secret.
        between: one range for all; None for what the rows show, and a margin.
        validation: the rows, or None.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): neither range nor rows.
    """
    names = replaced_layers(spec)
    if between is not None:
        return dict.fromkeys(names, between)
    if validation is None:
        what = f"{', '.join(names)}: which arguments these activations have is not known"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give validation rows, or a range for all of them.")
    return activation_ranges(spec, weights, validation.rows)


def approximated(
    spec: ModelSpec, weights: Weights, ranges: Mapping[str, Range], degree: int
) -> tuple[ModelSpec, dict[str, NDArray[np.float32]]]:
    """Returns a model with polynomials of a degree in the place of its activations.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): a range or degree that is none, nothing to approximate, or an
            activation without a polynomial of this degree: one of a tanh around zero is linear where a square is asked for.
    """
    if not ranges:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the model has no activation that a polynomial has to stand for")
    made = approximate(spec, weights, ranges, degree)
    for layer in made[0].layers:
        if layer.name in ranges and isinstance(layer.operator, Polynomial):
            highest = abs(float(layer.operator.coefficients[-1]))
            if highest < _LEAST_COEFFICIENT:
                what = f"no polynomial of degree {degree} comes nearer to {layer.name!r} on its range than a straight line"
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Choose an odd degree, of 3 at least.")
    return made


def measure(plain: tuple[ModelSpec, Weights], other: tuple[ModelSpec, Weights], validation: Validation) -> Measured:
    """Compares a model with the one that it stands for, on the same rows."""
    rows, labels = validation.rows, validation.labels
    exact, found = logits(*plain, rows), logits(*other, rows)
    decides = exact.shape[1] > 1 or isinstance(plain[0].layers[-1].operator, Sigmoid | Softmax)
    accuracy: list[float | None] = [None, None]
    error: list[float | None] = [None, None]
    agreement = None
    if decides:
        chosen, expected = _decisions(found), _decisions(exact)
        agreement = float((chosen == expected).mean())
        if labels is not None:
            accuracy = [float((each == labels).mean()) for each in (chosen, expected)]
    elif labels is not None:
        error = [float(np.sqrt(((each[:, 0] - labels) ** 2).mean())) for each in (found, exact)]
    return Measured(
        largest_output=float(np.abs(found).max()),
        largest_difference=float(np.abs(found - exact).max()),
        agreement=agreement,
        accuracy=accuracy[0],
        plain_accuracy=accuracy[1],
        error=error[0],
        plain_error=error[1],
    )


def offers(
    spec: ModelSpec, weights: Weights, declared: Declared, *, ranges: Mapping[str, Range], validation: Validation | None
) -> tuple[Offer, ...]:
    """Returns an offer for every degree of which the activations have a polynomial that a lower one has not.

    Args:
        spec: the architecture, with activations to approximate.
        weights: by parameter name; secret.
        declared: of samples and outputs; without a limit of outputs the proposed one is planned for, where there are rows.
        ranges: of the activations' arguments, from `ranges_of`.
        validation: rows to measure on, or None.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): a range that is none.
    """
    found: list[Offer] = []
    before: ModelSpec | None = None
    for degree in range(MIN_DEGREE, MAX_DEGREE + 1):
        operators = {layer.name: layer.operator for layer in spec.layers}
        worst = max(fit_activation(operators[name], within, degree).max_error for name, within in ranges.items())
        try:
            made = approximated(spec, weights, ranges, degree)
        except ConfideError:  # no polynomial of this degree: the ranges were accepted above
            continue
        if made[0] != before:
            found.append(_offer((spec, weights), made, declared, degree, worst, validation))
        before = made[0]
    return tuple(found)


def _offer(
    plain: tuple[ModelSpec, Weights],
    made: tuple[ModelSpec, Weights],
    declared: Declared,
    degree: int,
    fit_error: float,
    validation: Validation | None,
) -> Offer:
    measured = None if validation is None else measure(plain, made, validation)
    limit = declared.output_limit
    if limit is None and measured is not None:
        limit = proposed_limit(measured.largest_output)
    lanes, refused = None, ""
    try:
        lanes = plan_lanes(*made, Declared(declared.input_low, declared.input_high, limit), lanes=())
    except ConfideError as error:
        if error.code is not ErrorCode.INVALID_MODEL:
            raise
        refused = error.what
    return Offer(degree, fit_error, measured, lanes, refused)


def _decisions(values: Float64) -> Float64:
    return np.asarray(values[:, 0] >= 0 if values.shape[1] == 1 else values.argmax(axis=1), np.float64)
