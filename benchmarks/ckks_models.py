"""Models and samples of bench_ckks.py: the same numbers for every system, from fixed seeds, and what they give in the clear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
CONVOLUTION = {"kernel": 7, "stride": 3, "channels": 4, "size": 28}  # of TenSEAL's tutorial 4


@dataclass(frozen=True)
class Model:
    """Weights in layer order: matrices (outputs, inputs), or (channels, 1, kernel, kernel) for a convolution, and biases."""

    weights: tuple[Float64, ...]
    biases: tuple[Float64, ...]
    plain: Callable[[Float64], Float64]


def mlp() -> Model:
    """784-128-10 with a square between; inputs in [0, 1]."""
    rng = np.random.default_rng(0)
    weights = (_single(rng.normal(size=(128, 784)) / 28), _single(rng.normal(size=(10, 128)) / 11))
    biases = (_single(rng.normal(size=128) * 0.1), _single(rng.normal(size=10) * 0.1))
    return Model(weights, biases, lambda x: (x @ weights[0].T + biases[0]) ** 2 @ weights[1].T + biases[1])


def cnn() -> Model:
    """TenSEAL's tutorial 4: convolution 7x7 of stride 3 with 4 maps, square, 256-64, square, 64-10; images 28x28 in [0, 1]."""
    rng = np.random.default_rng(1)
    shapes = ((4, 1, 7, 7), (64, 256), (10, 64))
    weights = tuple(_single(rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))) for shape in shapes)
    biases = tuple(_single(rng.normal(size=shape[0]) * 0.1) for shape in shapes)

    def plain(x: Float64) -> Float64:
        windows = np.lib.stride_tricks.sliding_window_view(x.reshape(-1, 28, 28), (7, 7), axis=(1, 2))[:, ::3, ::3]
        maps = np.einsum("bijkl,ckl->bcij", windows, weights[0][:, 0]) + biases[0][:, None, None]
        hidden = (maps.reshape(len(x), -1) ** 2 @ weights[1].T + biases[1]) ** 2
        return hidden @ weights[2].T + biases[2]

    return Model(weights, biases, plain)


def logistic() -> Model:
    """30 features in [-1, 1] to one logit."""
    rng = np.random.default_rng(2)
    weights, bias = _single(rng.normal(size=(1, 30)) / np.sqrt(30)), _single(rng.normal(size=1) * 0.1)
    return Model((weights,), (bias,), lambda x: x @ weights.T + bias)


def samples(task: str, count: int, seed: int = 7) -> Float64:
    """Returns (count, features) float64 in the range of the task's model."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, 30)) if task.startswith("lr") else rng.uniform(0, 1, (count, 784))


def model_of(task: str) -> Model:
    """Returns the model that a task runs."""
    return logistic() if task.startswith("lr") else cnn() if task.startswith("cnn") else mlp()


def compared(found: Float64, expected: Float64) -> dict[str, float]:
    """Returns the largest error and the share of samples with the class of the plain model; both (samples, outputs)."""
    classes = [(each > 0)[:, 0] if each.shape[1] == 1 else each.argmax(axis=1) for each in (found, expected)]
    return {"max_error": float(abs(found - expected).max()), "agreement": float((classes[0] == classes[1]).mean())}


def _single(values: Float64) -> Float64:
    """Rounds to float32, as published weights are."""
    return np.asarray(values, np.float32).astype(np.float64)
