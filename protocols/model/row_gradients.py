"""The gradient of every row of a batch for itself, in float64; what an owner clips before it adds rows up.

Layers are run and derived by the functions of the plaintext oracle, so that a private training follows the same model as every
other one. No row has any effect on the gradient of another one, whatever it holds: all layers but batch norm work row by row,
and batch norm is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.job_parts import Task
from protocols.model.layers import BatchNorm, Convolution, Dropout, Embedding, LayerNorm, Linear, Sigmoid, Softmax
from protocols.model.plain_layers import Float64, Pass, Weights, layer_gradient, run_layers
from protocols.model.plain_losses import loss_slope, targets
from protocols.model.plain_windows import convolution_row_gradients
from protocols.model.spec import ModelSpec
from protocols.training import Loss

_ENDINGS = (Sigmoid, Softmax)


def row_gradients(
    spec: ModelSpec, weights: Weights, features: Float64, truth: NDArray[np.generic], *, loss: Loss, task: Task
) -> Float64:
    """Returns the derivative of every row's own loss by all trained parameters.

    Args:
        spec: the architecture, without batch norm and dropout.
        weights: by parameter name, computed with in float64.
        features: (rows, input_features) float64, secret. A row may hold anything: NaN and infinity stay in its own gradient.
        truth: (rows,) labels as registered, secret.
        loss: what is derived.
        task: what the labels are.

    Returns:
        (rows, trained numbers) float64, secret: parameters in the order of `spec.trained`, each flat.

    Raises:
        ConfideError: INVALID_MODEL (the querier's fault) for a batch norm or a dropout.
    """
    if any(isinstance(layer.operator, BatchNorm | Dropout) for layer in spec.layers):
        raise ConfideError(ErrorCode.INVALID_MODEL, "the gradient of a row alone has no batch norm and no dropout")
    with np.errstate(all="ignore"):  # a row's overflow ends in its own gradient, where it is seen
        found = _by_parameter(spec, weights, features, truth, loss=loss, task=task)
        flat = [found[parameter.name].reshape(len(features), -1) for parameter in spec.trained]
        return np.concatenate(flat, axis=1)


def _by_parameter(
    spec: ModelSpec, weights: Weights, features: Float64, truth: NDArray[np.generic], *, loss: Loss, task: Task
) -> Mapping[str, Float64]:
    # The slope of a cross-entropy is known at the logits; that of the squared error at the model's output.
    ends = isinstance(spec.layers[-1].operator, _ENDINGS) and loss is not Loss.MEAN_SQUARED_ERROR
    passes = run_layers(spec, weights, features, layers=spec.layers[: len(spec.layers) - ends], trains=True, coin=None)
    last = passes[-1]
    # The oracle's slope is of the mean over the rows.
    slope = loss_slope(loss, last.output, targets(truth, spec.output_features, task)) * len(features)
    slopes = {last.layer.name: slope}
    found: dict[str, Float64] = {}
    for done in reversed(passes):
        given = slopes[done.layer.name]
        found |= {f"{done.layer.name}.{suffix}": rows for suffix, rows in _of_layer(done, given).items()}
        for name, before in zip(done.layer.inputs, layer_gradient(done, weights, given)[0], strict=True):
            slopes[name] = slopes[name] + before if name in slopes else before
    return found


def _of_layer(done: Pass, slope: Float64) -> dict[str, Float64]:
    """The derivatives by the layer's tensors, a row's for itself: (rows, *tensor), by suffix."""
    values, rows = done.inputs[0], len(slope)
    match done.layer.operator:
        case Linear(bias=bias):
            along = slope.reshape(rows, -1, slope.shape[-1])
            found = {"weight": along.swapaxes(1, 2) @ values.reshape(rows, -1, values.shape[-1])}
            return {**found, "bias": along.sum(axis=1)} if bias else found
        case Embedding():
            along = slope.reshape(rows, -1, slope.shape[-1])
            return {"weight": values.reshape(rows, -1, values.shape[-1]).swapaxes(1, 2) @ along}
        case Convolution(bias=bias) as operator:
            found = {"weight": convolution_row_gradients(operator, values, slope)}
            return {**found, "bias": slope.sum(axis=tuple(range(2, slope.ndim)))} if bias else found
        case LayerNorm() as norm if done.normalised is not None:
            between = tuple(range(1, slope.ndim - norm.dims))
            found = {"weight": (slope * done.normalised.values).sum(axis=between)} if norm.affine else {}
            return {**found, "bias": slope.sum(axis=between)} if norm.bias else found
        case _:
            return {}
