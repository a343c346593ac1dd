"""Polynomials in the place of activations that encrypted inference does not compute, and how far they are off.

A polynomial is fitted by least squares at Chebyshev nodes of a stated range, which spreads the error evenly (Trefethen,
"Approximation Theory and Approximation Practice", chapter 4). Its argument is scaled to [-1, 1] inside the layer before, at no
cost: powers of larger numbers would amplify noise. Outside of its range a polynomial is far off, so ranges come from rows that
the model's owner has, with a margin; whether the loss of accuracy is acceptable is the owner's decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model.layers import (
    MAX_DEGREE,
    MAX_PLACES,
    BatchNorm,
    Convolution,
    Gelu,
    LeakyRelu,
    Linear,
    Operator,
    Polynomial,
    Relu,
    Sigmoid,
    Softmax,
    Tanh,
)
from protocols.model.plain_layers import normal_cdf, run_layers, sigmoid
from protocols.model.spec import Layer, ModelSpec

Float64 = NDArray[np.float64]
Weights = dict[str, NDArray[np.float32]]
Range = tuple[float, float]
_REPLACED = (Gelu, LeakyRelu, Relu, Sigmoid, Tanh)
_NODES = 512
_EPSILON = "0.00001"
_TOO_SMALL = 1e-9  # of a coefficient beside the largest one: what an odd or even function has of the other kind


@dataclass(frozen=True)
class Fit:
    """A polynomial in the place of an activation.

    Attributes:
        polynomial: of the argument scaled to [-1, 1].
        max_error: the largest difference on the range, absolute.
    """

    polynomial: Polynomial
    max_error: float


def fit_activation(operator: Operator, within: Range, degree: int) -> Fit:
    """Returns the polynomial that comes close to an activation on a range.

    Args:
        operator: ReLU, leaky ReLU, GELU, tanh or sigmoid.
        within: lowest and highest argument.
        degree: at most; an even or odd function may need less.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): another operator, a range or degree that is none.
    """
    low, high = within
    if not isinstance(operator, _REPLACED) or not 2 <= degree <= MAX_DEGREE or not -1e6 < low < high < 1e6:
        raise ConfideError(
            ErrorCode.INVALID_ARGUMENT,
            f"{operator.kind} on [{low:g}, {high:g}] cannot be replaced by a polynomial of degree {degree}",
            remedy=f"Approximate relu, leaky_relu, gelu, tanh or sigmoid on a finite range, with degree 2 to {MAX_DEGREE}.",
        )
    nodes = np.cos((np.arange(_NODES) + 0.5) * np.pi / _NODES)
    wanted = _activation(operator, _unscaled(nodes, within))
    fitted = np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebfit(nodes, wanted, degree))
    fitted[np.abs(fitted) < _TOO_SMALL * np.abs(fitted).max()] = 0.0
    texts = [f"{value:.{MAX_PLACES}f}" for value in fitted]
    while len(texts) > 3 and float(texts[-1]) == 0:
        texts.pop()
    if float(texts[-1]) == 0:  # as good as linear: the least curvature that can be written down
        texts[-1] = f"{10.0**-MAX_PLACES:.{MAX_PLACES}f}"
    grid = np.linspace(-1.0, 1.0, 4 * _NODES + 1)
    found = np.polynomial.polynomial.polyval(grid, [float(text) for text in texts])
    error = float(np.abs(found - _activation(operator, _unscaled(grid, within))).max())
    return Fit(Polynomial(tuple(texts)), error)


def replaced_layers(spec: ModelSpec) -> tuple[str, ...]:
    """Returns the names of a model's activations that a polynomial has to stand for; a last sigmoid or softmax stays."""
    return tuple(layer.name for layer in _inner(spec) if isinstance(layer.operator, _REPLACED))


def activation_ranges(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]], rows: Float64, *, margin: float = 1.2
) -> dict[str, Range]:
    """Returns the arguments that activations have on some rows, stretched about their middle; by layer name.

    Args:
        spec: the architecture.
        weights: by parameter name.
        rows: `(rows, features)`, the owner's: as secret as the ranges.
        margin: by how much ranges are stretched.
    """
    found = {}
    for done in run_layers(spec, weights, rows, layers=_inner(spec), trains=False, coin=None):
        if isinstance(done.layer.operator, _REPLACED):
            low, high = float(done.inputs[0].min()), float(done.inputs[0].max())
            middle, half = (low + high) / 2, max((high - low) / 2 * margin, 1e-3)
            found[done.layer.name] = (middle - half, middle + half)
    return found


def approximate(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]], ranges: Mapping[str, Range], degree: int
) -> tuple[ModelSpec, Weights]:
    """Returns a model with polynomials in the place of its activations; a last sigmoid or softmax stays.

    Args:
        spec: the architecture.
        weights: by parameter name.
        ranges: the arguments that each activation must be right for, by layer name.
        degree: of the polynomials, 2 to 7; 2 takes one level, up to 3 two, more three.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): activations without a range, all of them at once, or what
            `fit_activation` refuses.
    """
    replaced = [layer for layer in _inner(spec) if isinstance(layer.operator, _REPLACED)]
    missing = [Problem(layer.name, "has no range", "state one, as from rows") for layer in replaced if layer.name not in ranges]
    if missing:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "activations without a range", problems=missing)
    takers = [name for layer in spec.layers for name in layer.inputs]
    found: Weights = {name: np.asarray(values, np.float32) for name, values in weights.items()}
    layers: dict[str, Layer] = {}
    names = {layer.name for layer in spec.layers}
    for layer in spec.layers:
        if layer not in replaced:
            layers[layer.name] = layer
            continue
        before = layers.get(layer.inputs[0])
        within = ranges[layer.name]
        if before is not None and isinstance(before.operator, Linear | Convolution) and takers.count(before.name) == 1:
            layers[before.name] = _scaled(before, within, found)
            source = before.name
        else:
            source = next(name for number in range(len(names) + 1) if (name := f"{layer.name}_scale{number or ''}") not in names)
            names.add(source)
            layers[source] = _scaling(source, layer, spec, within, found)
        layers[layer.name] = Layer(layer.name, fit_activation(layer.operator, within, degree).polynomial, (source,))
    result = ModelSpec(spec.input_shape, tuple(layers.values()))
    return result, {parameter.name: found[parameter.name] for parameter in result.parameters}


def _inner(spec: ModelSpec) -> tuple[Layer, ...]:
    return spec.layers[:-1] if isinstance(spec.layers[-1].operator, Sigmoid | Softmax) else spec.layers


def _scaled(before: Layer, within: Range, weights: Weights) -> Layer:
    """The layer with weights that give the argument scaled to [-1, 1]."""
    middle, half = (within[0] + within[1]) / 2, (within[1] - within[0]) / 2
    kernel = weights[f"{before.name}.weight"]
    bias = weights.get(f"{before.name}.bias", np.zeros(len(kernel), np.float32))
    weights[f"{before.name}.weight"] = (kernel.astype(np.float64) / half).astype(np.float32)
    weights[f"{before.name}.bias"] = ((bias.astype(np.float64) - middle) / half).astype(np.float32)
    operator = before.operator
    return replace(before, operator=replace(operator, bias=True) if isinstance(operator, Linear | Convolution) else operator)


def _scaling(name: str, layer: Layer, spec: ModelSpec, within: Range, weights: Weights) -> Layer:
    """A layer of its own that scales, where others take what the activation takes: a batch norm, which is linear."""
    middle, half = (within[0] + within[1]) / 2, (within[1] - within[0]) / 2
    size = spec.shapes_into(layer)[0][0]
    tensors = {"weight": 1 / half, "bias": -middle / half, "running_mean": 0.0, "running_var": 1 - float(_EPSILON)}
    for suffix, value in tensors.items():
        weights[f"{name}.{suffix}"] = np.full(size, value, np.float32)
    return Layer(name, BatchNorm(epsilon=_EPSILON), layer.inputs)


def _unscaled(values: Float64, within: Range) -> Float64:
    low, high = within
    return np.asarray((low + high) / 2 + (high - low) / 2 * values, np.float64)


def _activation(operator: Operator, values: Float64) -> Float64:
    match operator:
        case Relu():
            return np.maximum(values, 0.0)
        case LeakyRelu(slope=slope):
            return np.where(values > 0, values, float(slope) * values)
        case Gelu():
            return values * normal_cdf(values)
        case Tanh():
            return np.tanh(values)
        case _:
            return sigmoid(values)
