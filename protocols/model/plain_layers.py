"""What one layer of a model computes in float64, forward and backward; part of the plaintext oracle.

Every function works on whole batches, (rows, features). Derivatives are written out by hand, so that they are independent of
every autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.model.spec import Layer, LayerKind, ModelSpec

Float64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]
Coin = Callable[[str, tuple[int, ...]], NDArray[Any]]  # layer name and shape of the values to the public 0/1 mask that keeps


@dataclass(frozen=True)
class Pass:
    """What a layer did with a batch: its input and output, and the factors of a dropout; secret as the rows."""

    layer: Layer
    values_in: Float64
    values_out: Float64
    factors: Float64 | None = None


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


def run_layers(spec: ModelSpec, weights: Weights, features: Float64, *, layers: Sequence[Layer], coin: Coin | None) -> list[Pass]:
    """Runs some of a model's layers on a batch, from the first on.

    Args:
        spec: the architecture.
        weights: arrays by parameter name, computed with in float64.
        features: (rows, input_features) float64.
        layers: the beginning of the architecture's layers that is run.
        coin: training: the masks of dropout; without it dropout does nothing, as after `eval()`.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): the width of the rows is not the model's.
    """
    if features.ndim != 2 or features.shape[1] != spec.input_features:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"features must have the shape (rows, {spec.input_features})")
    passes: list[Pass] = []
    values = np.asarray(features, np.float64)
    for layer in layers:
        factors = _dropout_factors(layer, values.shape, coin)
        passes.append(Pass(layer, values, _forward(layer, weights, values, factors), factors))
        values = passes[-1].values_out
    return passes


def layer_gradient(done: Pass, weights: Weights, slope: Float64) -> tuple[Float64, dict[str, Float64]]:
    """Carries a gradient back through one layer.

    Args:
        done: what the layer did with the batch.
        weights: as in the forward pass.
        slope: derivative of the loss by the layer's output, (rows, out_features).

    Returns:
        The derivative by its input, (rows, in_features), and by its parameters, by name.
    """
    layer, out = done.layer, done.values_out
    match layer.kind:
        case LayerKind.LINEAR:
            gradients = {f"{layer.name}.weight": slope.T @ done.values_in}
            if layer.bias:
                gradients[f"{layer.name}.bias"] = slope.sum(axis=0)
            return slope @ np.asarray(weights[f"{layer.name}.weight"], np.float64), gradients
        case LayerKind.RELU:
            return slope * (done.values_in > 0), {}
        case LayerKind.SIGMOID:
            return slope * out * (1 - out), {}
        case LayerKind.TANH:
            return slope * (1 - out**2), {}
        case LayerKind.SOFTMAX:
            return out * (slope - (slope * out).sum(axis=1, keepdims=True)), {}
        case LayerKind.DROPOUT:
            return slope if done.factors is None else slope * done.factors, {}


def _forward(layer: Layer, weights: Weights, values: Float64, factors: Float64 | None) -> Float64:
    match layer.kind:
        case LayerKind.LINEAR:
            product: Float64 = values @ np.asarray(weights[f"{layer.name}.weight"], np.float64).T
            return product + np.asarray(weights[f"{layer.name}.bias"], np.float64) if layer.bias else product
        case LayerKind.RELU:
            return np.maximum(values, 0.0)
        case LayerKind.SIGMOID:
            return sigmoid(values)
        case LayerKind.TANH:
            return np.tanh(values)
        case LayerKind.SOFTMAX:
            return softmax(values)
        case LayerKind.DROPOUT:
            return values if factors is None else values * factors


def _dropout_factors(layer: Layer, shape: tuple[int, ...], coin: Coin | None) -> Float64 | None:
    """Kept values grow by 1 / (1 - rate), so that their mean stays what it is without dropout."""
    if layer.kind is not LayerKind.DROPOUT or coin is None:
        return None
    return np.asarray(coin(layer.name, shape), np.float64) / (1.0 - float(layer.rate))
