"""Models of every depth for which bench_ckks.py compares what plans predict with what is measured; weights from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from protocols.model import reference
from protocols.model.layers import Add, AveragePool, BatchNorm, Convolution, Flatten, Linear, Polynomial, Square
from protocols.model.spec import INPUT, Layer, ModelSpec

Weights = dict[str, np.ndarray]
_VALIDATION_ROWS = 64
_ROOM = 4.0  # by which an owner declares more than validation rows give


def _convolution(channels: int, kernel: int, stride: int = 1) -> Convolution:
    return Convolution(channels, (kernel, kernel), (stride, stride), (kernel // 2, kernel // 2))


_CUBIC = Polynomial(("0.5", "0.5", "0.125", "0.0625"))
_IMAGE = (1, 28, 28)

RESIDUAL = ModelSpec(
    (3, 32, 32),
    (
        Layer("stem", _convolution(4, 3, 2), (INPUT,)),
        Layer("norm", BatchNorm(), ("stem",)),
        Layer("first", Square(), ("norm",)),
        Layer("body", _convolution(4, 3), ("first",)),
        Layer("sum", Add(), ("body", "first")),
        Layer("second", _CUBIC, ("sum",)),
        Layer("narrow", _convolution(8, 3, 2), ("second",)),
        Layer("third", Square(), ("narrow",)),
        Layer("pool", AveragePool((2, 2), (2, 2), (0, 0)), ("third",)),
        Layer("flat", Flatten(), ("pool",)),
        Layer("out", Linear(10), ("flat",)),
    ),
)
"""Depth 8: three convolutions, batch norm, a residual sum, squares, a polynomial of degree three, a pool."""

MODELS: Mapping[str, ModelSpec] = {
    "logistic, 30 features": ModelSpec.chain(30, out=Linear(1)),
    "linear, 5000 features": ModelSpec.chain(5000, out=Linear(10)),
    "squares of features": ModelSpec.chain(500, square=Square(), out=Linear(4)),
    "perceptron 784-128-10": ModelSpec.chain(784, hidden=Linear(128), square=Square(), out=Linear(10)),
    "convolution, cubic": ModelSpec.chain(_IMAGE, map=_convolution(4, 5, 2), cubic=_CUBIC, flat=Flatten(), out=Linear(10)),
    "two convolutions": ModelSpec.chain(
        _IMAGE, one=_convolution(4, 5, 2), first=Square(), two=_convolution(8, 3, 2), second=Square(), flat=Flatten(),
        out=Linear(10),
    ),
    "cubic perceptron": ModelSpec.chain(300, one=Linear(64), cubic=_CUBIC, two=Linear(32), square=Square(), out=Linear(5)),
    "four layers": ModelSpec.chain(
        256, one=Linear(128), first=Square(), two=Linear(64), second=Square(), three=Linear(32), third=Square(), out=Linear(4)
    ),
    "residual network 32x32x3": RESIDUAL,
}  # fmt: skip


def weights_of(spec: ModelSpec, seed: int = 3) -> Weights:
    """Returns weights of torch's usual size, by parameter name."""
    rng, weights = np.random.default_rng(seed), {}
    for parameter in spec.parameters:
        size = 1 / math.sqrt(math.prod(parameter.shape[1:]) or 1)
        low, high = (0.5, 1.5) if parameter.name.endswith("running_var") else (-size, size)
        values = rng.uniform(low, high, parameter.shape)
        weights[parameter.name] = np.asarray(values, np.float32).astype(np.float64)
    return weights


def rows_of(spec: ModelSpec, count: int, seed: int = 4) -> np.ndarray:
    """Returns (count, features) float64 in [0, 1]."""
    return np.random.default_rng(seed).uniform(0, 1, (count, spec.input_features))


def output_limit(spec: ModelSpec, weights: Weights) -> float:
    """Returns what an owner declares who knows the outputs on validation rows."""
    return _ROOM * float(abs(reference.logits(spec, weights, rows_of(spec, _VALIDATION_ROWS, seed=5))).max())
