"""What one layer of a model computes in float64, forward and backward; part of the plaintext oracle.

Every function works on whole batches, (rows, *shape of a row). Derivatives are written out by hand, so that they are
independent of every autograd. Convolutions, pools and normalisations stand in modules of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf  # type: ignore[import-untyped]

from protocols.errors import ConfideError, ErrorCode
from protocols.model import plain_norms, plain_windows
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
    Sigmoid,
    Softmax,
    Square,
    Tanh,
)
from protocols.model.plain_norms import Normalised
from protocols.model.spec import INPUT, Layer, ModelSpec

Float64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]
Coin = Callable[[str, tuple[int, ...]], NDArray[Any]]  # layer name and shape of the values to the public 0/1 mask that keeps
_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Pass:
    """What a layer did with a batch; secret as the rows.

    Attributes:
        layer: which.
        inputs: what it took, in order.
        output: what it gave.
        factors: of a dropout that drops.
        normalised: of a normalisation.
    """

    layer: Layer
    inputs: tuple[Float64, ...]
    output: Float64
    factors: Float64 | None = None
    normalised: Normalised | None = None


def sigmoid(values: Float64) -> Float64:
    """Returns 1 / (1 + exp(-x)), without overflow at any x."""
    small = np.exp(-np.abs(values))
    result: Float64 = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return result


def log_softmax(values: Float64) -> Float64:
    """Returns x - log(sum of exp(x)) over the features of each row, without overflow while their differences are finite."""
    shifted = values - values.max(axis=1, keepdims=True)
    result: Float64 = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def softmax(values: Float64) -> Float64:
    """Returns exp(x) / (sum of exp(x)) over the features of each row, without overflow while their differences are finite."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    result: Float64 = powers / powers.sum(axis=1, keepdims=True)
    return result


def normal_cdf(values: Float64) -> Float64:
    """Returns the distribution function of the standard normal distribution."""
    result: Float64 = np.asarray(0.5 * (1 + erf(values * _ROOT_HALF)), np.float64)
    return result


def normal_density(values: Float64) -> Float64:
    """Returns the density of the standard normal distribution."""
    result: Float64 = np.exp(-(values**2) / 2) * _DENSITY
    return result


def run_layers(
    spec: ModelSpec, weights: Weights, features: Float64, *, layers: Sequence[Layer], trains: bool, coin: Coin | None
) -> list[Pass]:
    """Runs some of a model's layers on a batch, from the first on.

    Args:
        spec: the architecture.
        weights: arrays by parameter name, computed with in float64.
        features: (rows, input_features) float64, flat; folded to the model's input shape here.
        layers: the beginning of the architecture's layers that is run.
        trains: whether batch norms take the batch's statistics, and not the running ones.
        coin: the masks of dropout; without it dropout does nothing, as after `eval()`.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): the width of the rows is not the model's.
    """
    if features.ndim != 2 or features.shape[1] != spec.input_features:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"features must have the shape (rows, {spec.input_features})")
    results = {INPUT: np.asarray(features, np.float64).reshape(len(features), *spec.input_shape)}
    passes: list[Pass] = []
    for layer in layers:
        inputs = tuple(results[name] for name in layer.inputs)
        factors = _dropout_factors(layer, inputs[0].shape, coin)
        done = _forward(layer, weights, inputs, trains=trains, factors=factors)
        results[layer.name] = done.output
        passes.append(done)
    return passes


def layer_gradient(done: Pass, weights: Weights, slope: Float64) -> tuple[tuple[Float64, ...], dict[str, Float64]]:
    """Carries a gradient back through one layer.

    Args:
        done: what the layer did with the batch.
        weights: as in the forward pass.
        slope: derivative of the loss by the layer's output, of its shape.

    Returns:
        The derivatives by its inputs, in order, and by its parameters, by name.
    """
    layer = done.layer
    tensors = _tensors(layer, weights)
    match layer.operator:
        case Add():
            return (slope, slope), {}
        case Linear() | Embedding() | Convolution():
            by_input, found = _product_gradient(layer.operator, done.inputs[0], tensors, slope)
        case BatchNorm() if done.normalised is not None:
            by_input, found = plain_norms.batch_norm_gradient(layer.operator, done.normalised, tensors, slope)
        case LayerNorm() if done.normalised is not None:
            by_input, found = plain_norms.layer_norm_gradient(layer.operator, done.normalised, tensors, slope)
        case operator:
            by_input, found = _slope_before(operator, done, slope), {}
    return (by_input,), {f"{layer.name}.{suffix}": gradient for suffix, gradient in found.items()}


def statistics_after(passes: Sequence[Pass]) -> dict[str, Float64]:
    """Returns the running statistics of all batch norms after a batch that was trained on, by parameter name."""
    return {
        f"{done.layer.name}.{suffix}": value
        for done in passes
        if done.normalised is not None
        for suffix, value in done.normalised.statistics.items()
    }


def _forward(layer: Layer, weights: Weights, inputs: tuple[Float64, ...], *, trains: bool, factors: Float64 | None) -> Pass:
    tensors = _tensors(layer, weights)
    values = inputs[0]
    match layer.operator:
        case BatchNorm():
            output, normalised = plain_norms.batch_norm(layer.operator, values, tensors, trains=trains)
            return Pass(layer, inputs, output, normalised=normalised)
        case LayerNorm():
            output, normalised = plain_norms.layer_norm(layer.operator, values, tensors)
            return Pass(layer, inputs, output, normalised=normalised)
        case Add():
            return Pass(layer, inputs, inputs[0] + inputs[1])
        case Dropout():
            return Pass(layer, inputs, values if factors is None else values * factors, factors)
        case Linear() | Embedding() | Convolution():
            return Pass(layer, inputs, _product(layer.operator, values, tensors))
        case operator:
            return Pass(layer, inputs, _applied(operator, values))


def _product(operator: Linear | Embedding | Convolution, values: Float64, tensors: Mapping[str, Float64]) -> Float64:
    match operator:
        case Linear(bias=bias):
            product: Float64 = values @ tensors["weight"].T
            return product + tensors["bias"] if bias else product
        case Embedding():
            looked_up: Float64 = values @ tensors["weight"]
            return looked_up
        case Convolution(bias=bias, kernel=kernel):
            product = plain_windows.convolve(operator, values, tensors["weight"])
            return product + tensors["bias"].reshape(-1, *(1 for _ in kernel)) if bias else product


def _product_gradient(
    operator: Linear | Embedding | Convolution, values: Float64, tensors: Mapping[str, Float64], slope: Float64
) -> tuple[Float64, dict[str, Float64]]:
    outer = tuple(range(slope.ndim - 1))
    match operator:
        case Linear(bias=bias):
            found = {"weight": np.tensordot(slope, values, axes=(outer, outer))}
            by_bias = slope.sum(axis=outer)
            by_values: Float64 = slope @ tensors["weight"]
        case Embedding():
            found, bias = {"weight": np.tensordot(values, slope, axes=(outer, outer))}, False
            by_bias, by_values = slope, slope @ tensors["weight"].T
        case Convolution(bias=bias):
            by_values, by_weight = plain_windows.convolution_gradient(operator, values, tensors["weight"], slope)
            found = {"weight": by_weight}
            by_bias = slope.sum(axis=(0, *range(2, slope.ndim)))
    return by_values, {**found, "bias": by_bias} if bias else found


def _applied(operator: Operator, values: Float64) -> Float64:
    """The result of an operator of one input that holds no tensors."""
    match operator:
        case Relu():
            return np.maximum(values, 0.0)
        case LeakyRelu(slope=factor):
            return np.where(values > 0, values, float(factor) * values)
        case Sigmoid():
            return sigmoid(values)
        case Tanh():
            return np.tanh(values)
        case Gelu():
            return values * normal_cdf(values)
        case Square():
            return values * values
        case Polynomial(coefficients=coefficients):
            return np.asarray(np.polynomial.polynomial.polyval(values, [float(text) for text in coefficients]), np.float64)
        case Softmax():
            return softmax(values)
        case Flatten():
            return values.reshape(len(values), -1)
        case MaxPool():
            return plain_windows.max_pool(operator, values)
        case AveragePool():
            return plain_windows.average_pool(operator, values)
        case AdaptiveAveragePool():
            return plain_windows.adaptive_average_pool(operator, values)
        case _:
            raise _no_oracle(operator)


def _slope_before(operator: Operator, done: Pass, slope: Float64) -> Float64:
    """The derivative by the input of an operator of one input that holds no tensors."""
    values, out = done.inputs[0], done.output
    match operator:
        case Relu():
            return slope * (values > 0)
        case LeakyRelu(slope=factor):
            return slope * np.where(values > 0, 1.0, float(factor))
        case Sigmoid():
            return slope * out * (1 - out)
        case Tanh():
            return slope * (1 - out**2)
        case Gelu():
            return slope * (normal_cdf(values) + values * normal_density(values))
        case Square():
            return slope * 2 * values
        case Polynomial(coefficients=coefficients):
            steepness = np.polynomial.polynomial.polyder([float(text) for text in coefficients])
            return slope * np.polynomial.polynomial.polyval(values, steepness)
        case Softmax():
            along: Float64 = (slope * out).sum(axis=1, keepdims=True)
            return out * (slope - along)
        case Dropout():
            return slope if done.factors is None else slope * done.factors
        case Flatten():
            return slope.reshape(values.shape)
        case MaxPool():
            return plain_windows.max_pool_gradient(operator, values, slope)
        case AveragePool():
            return plain_windows.average_pool_gradient(operator, values, slope)
        case AdaptiveAveragePool():
            return plain_windows.adaptive_average_pool_gradient(operator, values, slope)
        case _:
            raise _no_oracle(operator)


def _tensors(layer: Layer, weights: Weights) -> dict[str, Float64]:
    """The layer's tensors by suffix; names of layers may hold dots, suffixes do not."""
    named = ((*name.rpartition("."), values) for name, values in weights.items())
    return {suffix: np.asarray(values, np.float64) for before, _, suffix, values in named if before == layer.name}


def _no_oracle(operator: Operator) -> ConfideError:
    return ConfideError(ErrorCode.INTERNAL, f"{operator.kind} has no plain counterpart")


def _dropout_factors(layer: Layer, shape: tuple[int, ...], coin: Coin | None) -> Float64 | None:
    """Kept values grow by 1 / (1 - rate), so that their mean stays what it is without dropout."""
    if not isinstance(layer.operator, Dropout) or coin is None:
        return None
    return np.asarray(coin(layer.name, shape), np.float64) / (1.0 - float(layer.operator.rate))
