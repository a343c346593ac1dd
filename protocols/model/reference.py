"""The plaintext oracle: what a model computes, and what training must arrive at, in float64.

Joint results are compared with these functions. They see rows and weights in the clear, so they run only where one person may
see both: in tests, and in comparisons on public data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Training
from protocols.model.spec import LayerKind, ModelSpec

Float64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]


def sigmoid(values: Float64) -> Float64:
    """Returns 1 / (1 + exp(-x)), without overflow at any x."""
    small = np.exp(-np.abs(values))
    result: Float64 = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return result


def logits(spec: ModelSpec, weights: Weights, features: Float64) -> Float64:
    """Returns the model's output before its last sigmoid, if it ends in one; else its output.

    Args:
        spec: the architecture.
        weights: arrays by parameter name, computed with in float64.
        features: (rows, input_features) float64.

    Returns:
        (rows, output_features) float64.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): the width of the rows is not the model's.
    """
    if features.ndim != 2 or features.shape[1] != spec.input_features:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"features must have the shape (rows, {spec.input_features})")
    ends_in_sigmoid = spec.layers[-1].kind is LayerKind.SIGMOID
    values = np.asarray(features, np.float64)
    for layer in spec.layers[:-1] if ends_in_sigmoid else spec.layers:
        match layer.kind:
            case LayerKind.LINEAR:
                values = values @ np.asarray(weights[f"{layer.name}.weight"], np.float64).T
                if layer.bias:
                    values = values + np.asarray(weights[f"{layer.name}.bias"], np.float64)
            case LayerKind.SIGMOID:
                values = sigmoid(values)
    return values


def probabilities(spec: ModelSpec, weights: Weights, features: Float64) -> Float64:
    """Returns sigmoid(logit) per row and output, (rows, output_features) float64; arguments as for `logits`."""
    return sigmoid(logits(spec, weights, features))


def labels(spec: ModelSpec, weights: Weights, features: Float64) -> NDArray[np.int64]:
    """Returns 1 where the logit is at least 0, else 0, as (rows, output_features) int64; arguments as for `logits`."""
    return (logits(spec, weights, features) >= 0).astype(np.int64)


def accuracy(spec: ModelSpec, weights: Weights, features: Float64, truth: Float64) -> float:
    """Returns the share of rows whose predicted label is the true one; `truth` is (rows,) of 0 and 1, one output."""
    return float(np.mean(labels(spec, weights, features)[:, 0] == truth))


def train_logistic_regression(
    spec: ModelSpec,
    initial: Weights,
    features: Float64,
    truth: Float64,
    *,
    training: Training,
    order: NDArray[np.int64],
) -> dict[str, Float64]:
    """Trains one linear layer with mini-batch SGD and momentum on the mean binary cross-entropy.

    The update is torch's: v = momentum * v + g, w = w - learning_rate * v, with v = 0 before the first step. The rows are
    put in one order and cut into batches once; every epoch runs over the same batches, the last of which may be smaller.

    Args:
        spec: one linear layer with one output, with or without a sigmoid after it.
        initial: its weights before the first step, by parameter name.
        features: (rows, input_features) float64.
        truth: (rows,) float64, 0 or 1.
        training: hyper-parameters; the shuffle seed is not used, the order is.
        order: (rows,) int64, a permutation of the row numbers, as derived from the shuffle seed.

    Returns:
        The weights after the last step, float64, by parameter name.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): another architecture, or an order that is no permutation.
    """
    layer = spec.layers[0]
    after = [other.kind for other in spec.layers[1:]]
    if layer.kind is not LayerKind.LINEAR or layer.out_features != 1 or after not in ([], [LayerKind.SIGMOID]):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "logistic regression is one linear layer with one output")
    if not np.array_equal(np.sort(order), np.arange(len(truth))) or len(features) != len(truth):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the order must name every row once")
    rate, momentum = float(training.learning_rate), float(training.momentum)
    weight = np.array(initial[f"{layer.name}.weight"], np.float64)[0]
    bias = np.array(initial[f"{layer.name}.bias"], np.float64) if layer.bias else np.zeros(1)
    weight_velocity, bias_velocity = np.zeros_like(weight), np.zeros_like(bias)
    shuffled, targets = features[order], truth[order]
    for _ in range(training.epochs):
        for start in range(0, len(order), training.batch_size):
            rows, wanted = shuffled[start : start + training.batch_size], targets[start : start + training.batch_size]
            # d(mean BCE)/d(logit) of every row of the batch
            slope = (sigmoid(rows @ weight + bias) - wanted) / len(rows)
            weight_velocity = momentum * weight_velocity + slope @ rows
            weight = weight - rate * weight_velocity
            if layer.bias:
                bias_velocity = momentum * bias_velocity + slope.sum()
                bias = bias - rate * bias_velocity
    trained: dict[str, Float64] = {f"{layer.name}.weight": weight[np.newaxis, :]}
    if layer.bias:
        trained[f"{layer.name}.bias"] = bias
    return trained
