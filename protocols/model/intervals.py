"""What a model can give at known weights: exact intervals of every element of every layer's result, rows within [-1, 1].

Interval arithmetic (Moore 1966): a linear layer takes the interval of middle m and radius r to that of middle W m + b and radius
|W| r. Every row's values lie inside; whether a row reaches the ends is not said, but for a single linear layer, where one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.model import plain_windows
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
from protocols.model.plain_layers import normal_cdf, sigmoid
from protocols.model.spec import INPUT, ModelSpec

Float64 = NDArray[np.float64]
Weight = NDArray[np.floating]
Interval = tuple[Float64, Float64]  # the ends, each of the shape of a row
MAX_WORK = 1 << 26  # multiplications: a second or so
MAX_RESULTS = 1 << 22  # numbers that all layers together give for a row
_LOOP = 1 << 12  # what one turn of a loop in Python counts
_PIECE = 1 << 20  # weights
_LEAST_GELU = -0.17  # at -0.7518


def are_cheap(model: ModelSpec) -> bool:
    """Says whether the intervals of a model take little enough time and memory to be computed for whoever asks; public."""
    shapes = model.shapes
    work = sum(_work(layer.operator, model.shapes_into(layer)[0], shapes[layer.name]) for layer in model.layers)
    return work <= MAX_WORK and sum(map(math.prod, shapes.values())) <= MAX_RESULTS


def _work(operator: Operator, before: Shape, after: Shape) -> int:
    """Multiplications of one row, where what runs in Python counts as many."""
    match operator:
        case Linear():
            return math.prod(after) * before[-1]
        case Embedding():
            return math.prod(after) * before[1]
        case Convolution(kernel=kernel, groups=groups):
            return math.prod((*after, *kernel)) * before[0] // groups + math.prod(kernel) * _LOOP
        case MaxPool(kernel=kernel) | AveragePool(kernel=kernel):
            return math.prod((*after, *kernel))
        case AdaptiveAveragePool(size=size):
            return math.prod(before) + sum(size) * _LOOP
        case _:
            return math.prod(after)


def intervals(model: ModelSpec, weights: Mapping[str, NDArray[Any]], *, batch_rows: int | None) -> dict[str, Interval]:
    """Returns the interval of every layer's result, by layer name; ends may be infinite.

    Args:
        model: the architecture.
        weights: by parameter name; public.
        batch_rows: training: the rows of a batch, whose statistics batch norms take, and dropout drops; None for inference.
    """
    rows = np.ones((1, *model.input_shape))
    found: dict[str, Interval] = {INPUT: (-rows, rows)}
    for layer in model.layers:
        tensors = {
            tensor.suffix: weights[f"{layer.name}.{tensor.suffix}"] for tensor in layer.operator.tensors(model.shapes_into(layer))
        }
        with np.errstate(all="ignore"):
            low, high = _after(layer.operator, [found[name] for name in layer.inputs], tensors, batch_rows)
        # Of what left float64 nothing is known.
        found[layer.name] = np.nan_to_num(low, nan=-np.inf, posinf=np.inf, neginf=-np.inf), np.where(np.isnan(high), np.inf, high)
    del found[INPUT]
    return found


def _after(operator: Operator, inputs: list[Interval], tensors: Mapping[str, Weight], batch_rows: int | None) -> Interval:
    low, high = inputs[0]
    match operator:
        case Add():
            return low + inputs[1][0], high + inputs[1][1]
        case Linear() | Embedding() | Convolution():
            return _product(operator, low, high, tensors)
        case BatchNorm() | LayerNorm():
            return _normalised(operator, low, high, tensors, batch_rows)
        case Softmax():
            return np.zeros_like(low), np.ones_like(high)
        case Gelu():
            ends = low * normal_cdf(low), high * normal_cdf(high)
            return np.where(low < 0, _LEAST_GELU, ends[0]), np.maximum(*ends)
        case Square() | Polynomial():
            return polynomial_interval(coefficients_of(operator), low, high)
        case Dropout(rate=rate) if batch_rows is not None:
            scale = 1 / (1 - float(rate))
            return np.minimum(low, 0) * scale, np.maximum(high, 0) * scale
        case _:
            return _monotone(operator, low), _monotone(operator, high)


def coefficients_of(operator: Square | Polynomial) -> tuple[float, ...]:
    """Returns c0, c1, ... of a polynomial activation."""
    return tuple(map(float, operator.coefficients)) if isinstance(operator, Polynomial) else (0.0, 0.0, 1.0)


def polynomial_interval(coefficients: Sequence[float], low: Float64, high: Float64) -> Interval:
    """Returns the exact range of a polynomial on intervals: it is taken at an end, or where the derivative is zero."""
    polynomial = np.polynomial.Polynomial(coefficients)
    least, most = (take(polynomial(low), polynomial(high)) for take in (np.minimum, np.maximum))
    for root in polynomial.deriv().roots():
        # A double root may come out with a small imaginary part; a point more inside the interval does no harm.
        inside = (low < root.real) & (root.real < high)
        value = float(polynomial(root.real))
        least, most = np.where(inside, np.minimum(least, value), least), np.where(inside, np.maximum(most, value), most)
    return least, most


def _product(operator: Linear | Embedding | Convolution, low: Float64, high: Float64, tensors: Mapping[str, Weight]) -> Interval:
    weight = tensors["weight"]
    # In pieces of the result, so that a large layer is never held in float64 as a whole.
    whole = isinstance(operator, Embedding) or (isinstance(operator, Convolution) and operator.groups > 1)
    step = len(weight) if whole else max(1, _PIECE * len(weight) // weight.size)
    ends = [
        _ends(operator, low, high, np.asarray(weight[start : start + step], np.float64)) for start in range(0, len(weight), step)
    ]
    axis = 1 if isinstance(operator, Convolution) else -1
    bias = np.asarray(tensors.get("bias", np.zeros(1)), np.float64)
    if isinstance(operator, Convolution):
        bias = bias.reshape(-1, *(1 for _ in operator.kernel))
    least, most = zip(*ends, strict=True)
    return np.concatenate(least, axis=axis) + bias, np.concatenate(most, axis=axis) + bias


def _ends(operator: Linear | Embedding | Convolution, low: Float64, high: Float64, weight: Float64) -> Interval:
    middle, radius = (low + high) / 2, (high - low) / 2

    def apply(values: Float64, part: Float64) -> Float64:
        match operator:
            case Linear():
                return np.asarray(values @ part.T, np.float64)
            case Embedding():
                return np.asarray(values @ part, np.float64)
            case Convolution():
                return plain_windows.convolve(operator, values, part)

    centre, reach = apply(middle, weight), apply(radius, np.abs(weight))
    return centre - reach, centre + reach


def _normalised(
    operator: BatchNorm | LayerNorm, low: Float64, high: Float64, tensors: Mapping[str, Weight], batch_rows: int | None
) -> Interval:
    """By own statistics a value among n is at most sqrt(n - 1) deviations off; running ones are numbers like any other."""
    dims = [1] * (low.ndim - 2)
    shape = (1, -1, *dims) if isinstance(operator, BatchNorm) else (1, *low.shape[low.ndim - operator.dims :])
    if isinstance(operator, BatchNorm) and batch_rows is None:
        variance, mean = (np.asarray(tensors[name], np.float64).reshape(shape) for name in ("running_var", "running_mean"))
        root = np.sqrt(variance + float(operator.epsilon))
        low, high = (low - mean) / root, (high - mean) / root
    else:
        count = math.prod(low.shape[2:]) * (batch_rows or 1) if isinstance(operator, BatchNorm) else math.prod(shape)
        most = np.full_like(high, math.sqrt(max(count - 1, 0)))
        low, high = -most, most
    if "weight" in tensors:
        weight = np.asarray(tensors["weight"], np.float64).reshape(shape)
        low, high = np.minimum(low * weight, high * weight), np.maximum(low * weight, high * weight)
    if "bias" in tensors:
        bias = np.asarray(tensors["bias"], np.float64).reshape(shape)
        low, high = low + bias, high + bias
    return low, high


def _monotone(operator: Operator, values: Float64) -> Float64:
    """The result at one end, for operators that never fall where their input rises."""
    match operator:
        case Relu():
            return np.maximum(values, 0)
        case LeakyRelu(slope=factor):
            return np.where(values > 0, values, float(factor) * values)
        case Sigmoid():
            return sigmoid(values)
        case Tanh():
            return np.tanh(values)
        case Flatten():
            return values.reshape(1, -1)
        case MaxPool():
            return plain_windows.max_pool(operator, values)
        case AveragePool():
            return plain_windows.average_pool(operator, values)
        case AdaptiveAveragePool():
            return plain_windows.adaptive_average_pool(operator, values)
        case Dropout():  # that drops nothing
            return values
        case _:
            raise ConfideError(ErrorCode.INTERNAL, f"{operator.kind} has no intervals")
