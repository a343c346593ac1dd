"""Whether the numbers of a job stay within the limits declared for them, said before the run, for every layer.

Two bounds are set beside each limit. At the start: for the very weights that a training begins with, by interval arithmetic
(`protocols.model.intervals`) and L1 norms (`protocols.model.norm_bounds`). Grown: for all weights whose L1 norms are up to
`GROWTH` times as large as at the start (or as torch's usual start, if that is more). Neither supposes anything of the rows but
that they lie within [-1, 1], so real values are far below both. GROWTH is 4 because that is how much the norms of small
networks grow in training (docs/models.md shows figures); those of larger ones grow less.

Models that are too large for intervals have the bounds by norms alone, so that nobody can make an institution compute for long.

A bound beyond its limit proves no overflow; a value that is beyond it for every row does, and such a job is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import Problem
from protocols.fixed_point import FixedPoint
from protocols.model.intervals import Interval, are_cheap, intervals
from protocols.model.layers import BatchNorm, LayerNorm, Operator
from protocols.model.norm_bounds import NormSource, Sizes, sizes_of
from protocols.model.spec import ModelSpec
from protocols.training import Loss, OptimiserKind, Training

GROWTH = 4.0
RESULT, VARIANCE, SLOPE, GRADIENT, MOMENTUM, PARAMETER = "result", "variance", "slope", "gradient", "momentum", "parameter"
_STEPS = (GRADIENT, MOMENTUM)
_CERTAIN = {RESULT: "its result", PARAMETER: "a number of it", VARIANCE: "the variance of what it takes"}
_BEYOND_BITS = 1025  # what float64 does not hold


class Standing(Enum):
    """What is known of a bound and its limit."""

    CANNOT = "cannot overflow"
    NOT_PROVEN = "not proven"
    WILL = "will overflow"


@dataclass(frozen=True)
class Bound:
    """One quantity of a layer beside its limit; all in bits: the absolute value is below 2^bits.

    Attributes:
        where: the layer, or for gradients, momenta and parameters the parameter.
        quantity: `result`, `variance` (of what a normalisation takes), `slope` (of one row's loss by the result),
            `gradient` (of the batch's mean loss), `momentum`, or `parameter` where one is beyond its limit.
        start_bits: at the weights that the job starts with, or at their declared limit where nobody knows them.
        grown_bits: at norms up to `GROWTH` times as large.
        limit_bits: declared.
        is_certain: whether the value is beyond the limit whatever the rows are.
    """

    where: str
    quantity: str
    start_bits: int
    grown_bits: int
    limit_bits: int
    is_certain: bool = False

    @property
    def headroom_bits(self) -> int:
        """How many bits lie between the bound at the start and the limit; negative beyond it."""
        return self.limit_bits - self.start_bits

    @property
    def standing(self) -> Standing:
        """What is known."""
        if self.is_certain:
            return Standing.WILL
        return Standing.CANNOT if max(self.start_bits, self.grown_bits) <= self.limit_bits else Standing.NOT_PROVEN


@dataclass(frozen=True)
class RangeReport:
    """All bounds of a job.

    Attributes:
        bounds: results first, in order of the layers; then slopes and what is made of them, from the last layer to the first.
        weights_known: whether the job starts from public weights.
    """

    bounds: tuple[Bound, ...]
    weights_known: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """At most one sentence each for results, variances, slopes and steps that are not proven to stay within their limits.

        Each names the first layer or parameter where that is so. None where nobody knows the weights: see `in_words`.
        """
        doubtful = [bound for bound in self.bounds if bound.standing is Standing.NOT_PROVEN and self.weights_known]
        kinds = [[b for b in doubtful if b.quantity in quantities] for quantities in ((VARIANCE,), (RESULT,), (SLOPE,), _STEPS)]
        return tuple(_sentence(bounds) for bounds in kinds if bounds)

    @property
    def in_words(self) -> tuple[str, ...]:
        """The warnings, or why there are none."""
        doubtful = [bound for bound in self.bounds if bound.standing is not Standing.CANNOT]
        if not doubtful:
            return ("no result, gradient or step can leave its limit, whatever the rows are",)
        if not self.weights_known:
            return (f"the weights are held as shares, so nothing is proven of what layers give, from {doubtful[0].where} on",)
        return self.warnings

    @property
    def problems(self) -> tuple[Problem, ...]:
        """One for each parameter that is beyond its limit, and each layer whose result is, whatever the rows are."""
        return tuple(
            Problem(
                bound.where,
                f"{_CERTAIN[bound.quantity]} is beyond 2^{bound.limit_bits} whatever the rows are",
                "start from smaller weights and biases, or normalise between the layers",
            )
            for bound in self.bounds
            if bound.standing is Standing.WILL
        )


def analyse(
    model: ModelSpec,
    weights: Mapping[str, NDArray[Any]] | None,
    *,
    numbers: FixedPoint,
    training: Training | None,
    batch_rows: int,
) -> RangeReport:
    """Returns the bounds of everything that a job computes with a model.

    Args:
        model: the architecture.
        weights: public initial weights by parameter name; None where the job starts from shares.
        numbers: the declared limits.
        training: hyper-parameters; None where the model is only used.
        batch_rows: training: rows of a batch.
    """
    rows = batch_rows if training is not None else None
    loss = None if training is None else training.loss
    limit = 2.0**numbers.parameter_limit_bits
    start = sizes_of(model, NormSource(model, weights, growth=1.0, limit=limit), batch_rows=rows, loss=loss)
    bounds = partial(_bounds, model, start, numbers=numbers, training=training, batch_rows=batch_rows)
    if weights is None:
        return RangeReport(tuple(bounds(start, {})), weights_known=False)
    grown = sizes_of(model, NormSource(model, weights, growth=GROWTH, limit=limit), batch_rows=rows, loss=loss)
    exact = intervals(model, weights, batch_rows=rows) if are_cheap(model) else {}
    return RangeReport((*_parameters(weights, numbers), *bounds(grown, exact)), weights_known=True)


def _parameters(weights: Mapping[str, NDArray[Any]], numbers: FixedPoint) -> Iterator[Bound]:
    """Parameters and running statistics that are beyond their limit from the start."""
    for name, values in weights.items():
        size = float(np.abs(values).max(initial=0))
        if size >= 2.0**numbers.parameter_limit_bits:
            yield Bound(name, PARAMETER, _bits(size), _bits(size), numbers.parameter_limit_bits, is_certain=True)


def _bounds(
    model: ModelSpec,
    start: Sizes,
    grown: Sizes,
    exact: Mapping[str, Interval],
    *,
    numbers: FixedPoint,
    training: Training | None,
    batch_rows: int,
) -> Iterator[Bound]:
    values = numbers.value_limit_bits
    for layer in model.layers:
        name = layer.name
        size, certain = start.results[name], False
        if name in exact:
            low, high = exact[name]
            size = min(size, float(np.maximum(np.abs(low), np.abs(high)).max()))
            certain = bool(((low >= 2.0**values) | (high <= -(2.0**values))).any())
        if name in start.variances:
            # A running variance is a parameter; the variance that a layer norm takes is a value like any other.
            limit = numbers.parameter_limit_bits if isinstance(layer.operator, BatchNorm) else values
            beyond = _least_variance(layer.operator, exact.get(layer.inputs[0])) >= 2.0**limit
            yield Bound(name, VARIANCE, _bits(start.variances[name]), _bits(grown.variances[name]), limit, beyond)
        yield Bound(name, RESULT, _bits(size), _bits(grown.results[name]), values, certain)
    if training is None:
        return
    for name, slope in start.slopes.items():
        yield Bound(name, SLOPE, _bits(slope), _bits(grown.slopes[name]), values)
    for name in start.gradients:
        yield from _steps(name, start, grown, numbers=numbers, training=training, batch_rows=batch_rows)


def _steps(name: str, start: Sizes, grown: Sizes, *, numbers: FixedPoint, training: Training, batch_rows: int) -> Iterator[Bound]:
    """The gradient of a parameter, and what an optimiser keeps of it."""
    optimiser = training.optimiser
    decay = float(optimiser.weight_decay)
    decayed = [sizes.gradients[name] + decay * sizes.parameters[name] for sizes in (start, grown)]
    if optimiser.kind is OptimiserKind.ADAM:
        yield Bound(name, GRADIENT, _bits(decayed[0]), _bits(decayed[1]), numbers.gradient_limit_bits)
        return
    limit = numbers.value_limit_bits
    if training.loss is not Loss.MEAN_SQUARED_ERROR:
        # Kept as a sum over the batch until its factor, the rate over the rows, is worked in.
        limit = min(numbers.update_limit_bits, limit - (batch_rows - 1).bit_length())
    yield Bound(name, GRADIENT, _bits(start.gradients[name]), _bits(grown.gradients[name]), limit)
    momentum = float(optimiser.momentum)
    if momentum > 0:
        # A sum of gradients of which each counts `momentum` times as much a step later.
        kept = [_bits(size / (1 - momentum)) for size in decayed]
        yield Bound(name, MOMENTUM, kept[0], kept[1], numbers.parameter_limit_bits)


def _bits(size: float) -> int:
    """The least whole number of bits with size < 2^bits, -16 for what is too small to matter."""
    if not math.isfinite(size):
        return _BEYOND_BITS
    return max(-16, math.frexp(size)[1])


def _least_variance(operator: Operator, taken: Interval | None) -> float:
    """What the variance of a normalisation's groups is at least, whatever the rows are, for the largest group.

    Two of n values that are a gap g apart have a variance of at least g^2 / (2 n) together with the others.
    """
    if taken is None:
        return 0.0
    dims = operator.dims if isinstance(operator, LayerNorm) else taken[0].ndim - 2
    axes = tuple(range(-dims, 0))
    with np.errstate(invalid="ignore"):
        gaps = np.maximum(taken[0].max(axis=axes) - taken[1].min(axis=axes), 0.0)
    count = math.prod(taken[0].shape[taken[0].ndim - dims :])
    # An end of an interval that is infinite says nothing.
    return float((np.where(np.isfinite(gaps), gaps, 0.0) ** 2).max(initial=0.0)) / (2 * count)


def _sentence(bounds: list[Bound]) -> str:
    first = bounds[0]
    others = len({bound.where for bound in bounds}) - 1
    words = {
        RESULT: "its result",
        VARIANCE: "the variance of what it takes",
        SLOPE: "the slope of the loss by its result",
        GRADIENT: "its gradient",
        MOMENTUM: "its momentum",
    }
    more = f" (and {others} more)" if others else ""
    limit = f"{first.where}{more}: {words[first.quantity]} is not proven to stay below 2^{first.limit_bits}"
    if first.start_bits > first.limit_bits:
        return f"{limit}: the worst rows give 2^{first.start_bits} at the initial weights"
    grown = f"2^{first.grown_bits} once their norms are {GROWTH:g} times as large"
    return f"{limit}: at most 2^{first.start_bits} at the initial weights, {grown}"
