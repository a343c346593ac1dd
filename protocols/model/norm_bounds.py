"""How large a model's values, slopes and gradients can become, from the L1 norms of its weights alone.

|W x| is at most the largest L1 norm of a row of W times the largest |x|, and |W^T s| at most the largest L1 norm of a column
times the largest |s|. So the bounds hold for all weights of these norms, not for the given ones only; that is what makes them
fit to say how far a training may go. Slopes are derivatives of the loss of one row; the mean over a batch is no larger.
Bounds may be infinite: those of layers multiply, and of many layers they leave float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import (
    AdaptiveAveragePool,
    Add,
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    Embedding,
    Flatten,
    Gelu,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Operator,
    Polynomial,
    Relu,
    Shape,
    Sigmoid,
    Softmax,
    Square,
    Tanh,
)
from protocols.model.plain_windows import adaptive_cuts
from protocols.model.spec import INPUT, Layer, ModelSpec
from protocols.training import Loss

_STEEPEST_GELU = 1.13


@dataclass(frozen=True)
class Sizes:
    """Bounds on absolute values, by name.

    Attributes:
        results: of every layer.
        variances: of the values that a normalisation takes, by layer.
        slopes: of every layer's result that a gradient goes back through.
        gradients: of every trained parameter.
        parameters: of every trained parameter itself.
    """

    results: Mapping[str, float]
    variances: Mapping[str, float]
    slopes: Mapping[str, float]
    gradients: Mapping[str, float]
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class Norms:
    """Of one layer's tensors.

    Attributes:
        row: the largest L1 norm of what one result is computed with.
        column: the largest L1 norm of what one input goes into.
        largest: by suffix, the largest absolute value of what is trained.
        mean: of a batch norm: the largest absolute running mean.
        variance: of a batch norm: the least running variance.
    """

    row: float
    column: float
    largest: Mapping[str, float]
    mean: float = 0.0
    variance: float = 0.0


class NormSource:
    """The norms of a model's layers: of known weights, times a growth, or of unknown ones at their declared limit.

    Args:
        model: the architecture.
        weights: by parameter name; None if nobody knows them.
        growth: norms are taken so many times as large, and then as if none had begun below what torch starts with: weights
            between -1 / sqrt(n) and 1 / sqrt(n) for n inputs.
        limit: of a weight's absolute value, where weights are unknown.
    """

    def __init__(self, model: ModelSpec, weights: Mapping[str, NDArray[Any]] | None, *, growth: float, limit: float) -> None:
        self._model = model
        self._weights = weights
        self._growth = growth
        self._limit = limit

    def of(self, layer: Layer) -> Norms:
        """Returns the norms of a layer that holds tensors."""
        tensors = {tensor.suffix: tensor.shape for tensor in layer.operator.tensors(self._model.shapes_into(layer))}
        trained = {suffix: shape for suffix, shape in tensors.items() if not suffix.startswith("running")}
        if self._weights is None:
            largest = dict.fromkeys(trained, self._limit)
            fan_in, fan_out = _fans(layer.operator, trained.get("weight", ()))
            # Nothing is known of a running variance but that it is not negative.
            return Norms(fan_in * self._limit, fan_out * self._limit, largest, mean=self._limit, variance=0.0)
        values = {suffix: np.abs(self._weights[f"{layer.name}.{suffix}"]) for suffix in trained}
        largest = {suffix: self._grown(float(array.max(initial=0)), 1.0) for suffix, array in values.items()}
        if isinstance(layer.operator, BatchNorm):
            mean, variance = (self._weights[f"{layer.name}.running_{suffix}"] for suffix in ("mean", "var"))
            return Norms(0.0, 0.0, largest, mean=float(np.abs(mean).max(initial=0)), variance=float(variance.min()))
        if not isinstance(layer.operator, Linear | Convolution | Embedding):
            return Norms(0.0, 0.0, largest)
        by_row, by_column = _summed(layer.operator, values["weight"])
        fan_in, fan_out = _fans(layer.operator, values["weight"].shape)
        usual = 0.5 / math.sqrt(fan_in)  # the mean absolute value of torch's start
        largest["weight"] = self._grown(float(values["weight"].max(initial=0)), 2 * usual)
        return Norms(self._grown(by_row, fan_in * usual), self._grown(by_column, fan_out * usual), largest)

    def _grown(self, norm: float, usual: float) -> float:
        return norm if self._growth == 1 else self._growth * max(norm, usual)


def sizes_of(model: ModelSpec, source: NormSource, *, batch_rows: int | None, loss: Loss | None) -> Sizes:
    """Returns the bounds of a model on rows within [-1, 1].

    Args:
        model: the architecture.
        source: its norms.
        batch_rows: training: the rows of a batch; None for inference.
        loss: training: what is made small; None for inference.
    """
    results, variances = {INPUT: 1.0}, {}
    norms = {layer.name: source.of(layer) for layer in model.layers}
    for layer in model.layers:
        sizes = [results[name] for name in layer.inputs]
        shape = model.shapes_into(layer)[0]
        if isinstance(layer.operator, LayerNorm) or (isinstance(layer.operator, BatchNorm) and batch_rows is not None):
            # A running variance is the unbiased one: of two values, twice the mean square of their deviations.
            variances[layer.name] = sizes[0] * sizes[0] * (2 if isinstance(layer.operator, BatchNorm) else 1)
        results[layer.name] = _result(layer.operator, sizes, norms[layer.name], shape, batch_rows)
    slopes, gradients = ({}, {}) if loss is None else _backward(model, norms, results, loss=loss, batch_rows=batch_rows or 1)
    parameters = {
        f"{layer.name}.{suffix}": largest for layer in model.layers for suffix, largest in norms[layer.name].largest.items()
    }
    del results[INPUT]
    return Sizes(results, variances, slopes, gradients, parameters)


def _result(operator: Operator, sizes: list[float], norms: Norms, shape: Shape, batch_rows: int | None) -> float:
    size = sizes[0]
    bias = norms.largest.get("bias", 0.0)
    match operator:
        case Linear() | Embedding() | Convolution():
            return _times(norms.row, size) + bias
        case BatchNorm() if batch_rows is None:
            root = math.sqrt(norms.variance + float(operator.epsilon))
            return _times(norms.largest.get("weight", 1.0), size + norms.mean) / root + bias
        case BatchNorm() | LayerNorm():
            return norms.largest.get("weight", 1.0) * _most_deviations(operator, shape, batch_rows or 1) + bias
        case Sigmoid() | Softmax():
            return 1.0
        case Tanh():
            return min(1.0, size)
        case Square():
            return size * size
        case Polynomial(coefficients=coefficients):
            return float(sum(_times(abs(float(text)), *[size] * power) for power, text in enumerate(coefficients)))
        case Dropout(rate=rate) if batch_rows is not None:
            return size / (1 - float(rate))
        case Add():
            return sum(sizes)
        case Relu() | LeakyRelu() | Gelu() | MaxPool() | AveragePool() | AdaptiveAveragePool() | Dropout() | Flatten():
            return size
        case _:
            raise ConfideError(ErrorCode.INTERNAL, f"{operator.kind} has no bounds")


@dataclass(frozen=True)
class _Slope:
    """Of one row's loss by one result: bounds on its largest element and on its L1 norm."""

    most: float
    total: float

    def plus(self, other: _Slope) -> _Slope:
        return _Slope(self.most + other.most, self.total + other.total)


def _backward(
    model: ModelSpec, norms: Mapping[str, Norms], results: Mapping[str, float], *, loss: Loss, batch_rows: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The slopes of layers' results and the gradients of their tensors."""
    last = model.layers[-1].operator
    ending = isinstance(last, Sigmoid | Softmax)
    layers = model.layers[:-1] if ending and loss is not Loss.MEAN_SQUARED_ERROR else model.layers
    slopes: dict[str, _Slope] = {}
    gradients: dict[str, float] = {}
    if layers:
        # Labels of classes lie in [0, 1] as the softmax does; a real label in [-1, 1], also beside a sigmoid.
        distance = 1.0 if isinstance(last, Softmax) else results[layers[-1].name] + 1
        slopes[layers[-1].name] = _loss_slope(loss, distance, model.output_features)
    for layer in reversed(layers):
        slope, shape = slopes[layer.name], model.shapes_into(layer)[0]
        own = norms[layer.name]
        places = _places(layer.operator, model.shapes[layer.name])
        summed = min(slope.total, slope.most * places)
        for suffix in own.largest:
            if isinstance(layer.operator, BatchNorm) and suffix == "weight":
                # The mean over rows of the sum over places of |s y|, where y has the mean square 1: at most places * max |s|,
                # since the mean of |y| is at most 1; and at most sqrt(places) * sum |s| of a row, by the largest |y| of each row.
                gradients[f"{layer.name}.{suffix}"] = min(slope.most * places, slope.total * math.sqrt(places))
                continue
            factor = _factor(layer.operator, suffix, results[layer.inputs[0]], shape)
            gradients[f"{layer.name}.{suffix}"] = _times(summed, factor)
        before = _before(layer.operator, slope, own, shape, batch_rows)
        for name in layer.inputs:
            if name != INPUT:
                slopes[name] = slopes[name].plus(before) if name in slopes else before
    return {name: slope.most for name, slope in slopes.items()}, gradients


def _loss_slope(loss: Loss, distance: float, width: int) -> _Slope:
    """By the logits a cross-entropy has the slope p - y, of L1 norm at most 2 over classes; the squared error 2 (v - y) / k."""
    match loss:
        case Loss.CROSS_ENTROPY:
            return _Slope(1.0, 2.0)
        case Loss.BINARY_CROSS_ENTROPY:
            return _Slope(1.0, float(width))
        case Loss.MEAN_SQUARED_ERROR:
            return _Slope(2 * distance / width, 2 * distance)


def _before(operator: Operator, slope: _Slope, norms: Norms, shape: Shape, batch_rows: int) -> _Slope:
    """The slope by an input."""
    match operator:
        case Linear() | Embedding() | Convolution():
            most = min(_times(norms.column, slope.most), _times(norms.largest["weight"], slope.total))
            total = _times(norms.row, slope.total)
        case BatchNorm() | LayerNorm():  # other rows and places have a part in it
            most = _times(_steepness(operator, norms, shape, batch_rows), slope.most)
            total = most * math.prod(shape)
        case MaxPool() | AveragePool() | AdaptiveAveragePool():
            most, total = _times(_steepness(operator, norms, shape, batch_rows), slope.most), slope.total
        case _:
            steepness = _steepness(operator, norms, shape, batch_rows)
            most, total = _times(steepness, slope.most), _times(steepness, slope.total)
    return _Slope(min(most, total), total)


def _factor(operator: Operator, suffix: str, size: float, shape: Shape) -> float:
    """What a slope is multiplied with in the gradient of a tensor."""
    if suffix == "bias":
        return 1.0
    match operator:
        case LayerNorm():
            return _most_deviations(operator, shape, 1)
        case _:
            return size


def _steepness(operator: Operator, norms: Norms, shape: Shape, batch_rows: int) -> float:
    """How much larger the largest slope by an input is than that by the result, of an operator without a matrix."""
    match operator:
        case BatchNorm() | LayerNorm():
            most = _most_deviations(operator, shape, batch_rows)
            return norms.largest.get("weight", 1.0) * (2 + most) / math.sqrt(float(operator.epsilon))
        case Sigmoid():
            return 0.25
        case Softmax():
            return 0.5
        case Gelu():
            return _STEEPEST_GELU
        case Dropout(rate=rate):
            return 1 / (1 - float(rate))
        case Square() | Polynomial():
            raise ConfideError(ErrorCode.INVALID_MODEL, f"{operator.kind} activations are not trained jointly")
        case MaxPool() | AveragePool():
            covering = math.prod(-(-size // step) for size, step in zip(operator.kernel, operator.stride, strict=True))
            return covering / (math.prod(operator.kernel) if isinstance(operator, AveragePool) else 1)
        case AdaptiveAveragePool():
            return _adaptive_steepness(operator, shape)
        case Relu() | LeakyRelu() | Tanh() | Flatten() | Add():
            return 1.0
        case _:
            raise ConfideError(ErrorCode.INTERNAL, f"{operator.kind} has no bounds")


def _adaptive_steepness(operator: AdaptiveAveragePool, shape: Shape) -> float:
    """Windows are products of intervals, so what covers a place is a product over the dimensions."""
    found = 1.0
    for length, places in zip(shape[1:], operator.size, strict=True):
        covering = np.zeros(length)
        for cut in adaptive_cuts(length, places):
            covering[cut] += 1 / (cut.stop - cut.start)
        found *= float(covering.max())
    return found


def _times(*factors: float) -> float:
    """The product of bounds; 0 where one is 0, also beside one that is infinite."""
    return 0.0 if 0.0 in factors else math.prod(factors)


def _most_deviations(operator: BatchNorm | LayerNorm, shape: Shape, batch_rows: int) -> float:
    """How many standard deviations a value can be off the mean of the n values it belongs to: sqrt(n - 1)."""
    count = batch_rows * math.prod(shape[1:]) if isinstance(operator, BatchNorm) else math.prod(shape[-operator.dims :])
    return math.sqrt(max(count - 1, 0))


def _places(operator: Operator, shape: Shape) -> int:
    """How often one tensor of a layer is used in a row."""
    match operator:
        case Linear() | Embedding():
            return math.prod(shape[:-1])
        case Convolution() | BatchNorm():
            return math.prod(shape[1:])
        case LayerNorm():
            return math.prod(shape[: -operator.dims])
        case _:
            return 1


def _summed(operator: Operator, weight: NDArray[Any]) -> tuple[float, float]:
    """The largest L1 norms of a row and of a column, where torch's weights have outputs first, but for an embedding's."""
    outputs, inputs = (1, 0) if isinstance(operator, Embedding) else (0, 1)
    if not isinstance(operator, Convolution):
        return _largest(weight, (inputs,)), _largest(weight, (outputs,))
    grouped = weight.reshape(operator.groups, -1, *weight.shape[1:])
    kernel = tuple(range(3, grouped.ndim))
    return _largest(grouped, (2, *kernel)), _largest(grouped, (1, *kernel))


def _largest(sizes: NDArray[Any], summed: tuple[int, ...]) -> float:
    return float(sizes.sum(axis=summed, dtype=np.float64).max(initial=0))


def _fans(operator: Operator, shape: Shape) -> tuple[int, int]:
    """How many weights one result is computed with, and how many one input goes into."""
    if not shape:
        return 1, 1
    if isinstance(operator, Embedding):
        return shape[0], shape[1]
    if isinstance(operator, Convolution):
        kernel = math.prod(shape[2:])
        return shape[1] * kernel, shape[0] // operator.groups * kernel
    return shape[-1], shape[0]
