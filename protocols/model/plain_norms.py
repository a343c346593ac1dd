"""Batch and layer normalisation in float64, forward and backward; part of the plaintext oracle.

With y = (v - mean) * r and r = 1 / sqrt(variance + epsilon) over n values, the derivative by the values is
r * (s - mean(s) - y * mean(s * y)), where s is the one by y (Ioffe and Szegedy 2015, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.model.layers import BatchNorm, LayerNorm

Float64 = NDArray[np.float64]
Tensors = Mapping[str, NDArray[Any]]  # of one layer, by suffix


@dataclass(frozen=True)
class Normalised:
    """What a normalisation did with a batch; secret as the rows.

    Attributes:
        values: normalised, before weight and bias.
        inverse_root: 1 / sqrt(variance + epsilon), in a shape that fits the values'.
        statistics: batch norm in training: the running statistics after this batch, by suffix.
    """

    values: Float64
    inverse_root: Float64
    statistics: Mapping[str, Float64]


def batch_norm(operator: BatchNorm, values: Float64, tensors: Tensors, *, trains: bool) -> tuple[Float64, Normalised]:
    """Normalises every channel.

    Args:
        operator: its settings.
        values: (rows, channels, *places).
        tensors: the layer's, by suffix.
        trains: whether by the batch's own mean and variance, which the running statistics then follow: by `momentum` of the
            way, with the unbiased variance, as in torch. A single value a channel has variance 0.

    Returns:
        The result and what the gradient needs.
    """
    axes = (0, *range(2, values.ndim))
    shape = (1, -1, *(1 for _ in values.shape[2:]))
    if trains:
        mean, variance = values.mean(axis=axes), values.var(axis=axes)
        count = values.size // values.shape[1]
        momentum = float(operator.momentum)
        followed = {"running_mean": mean, "running_var": variance * (count / max(count - 1, 1))}
        statistics = {
            suffix: (1 - momentum) * np.asarray(tensors[suffix], np.float64) + momentum * new for suffix, new in followed.items()
        }
    else:
        mean, variance = (np.asarray(tensors[suffix], np.float64) for suffix in ("running_mean", "running_var"))
        statistics = {}
    root = (1 / np.sqrt(variance + float(operator.epsilon))).reshape(shape)
    done = Normalised((values - mean.reshape(shape)) * root, root, statistics)
    if not operator.affine:
        return done.values, done
    weight, bias = (np.asarray(tensors[suffix], np.float64).reshape(shape) for suffix in ("weight", "bias"))
    return done.values * weight + bias, done


def batch_norm_gradient(
    operator: BatchNorm, done: Normalised, tensors: Tensors, slope: Float64
) -> tuple[Float64, dict[str, Float64]]:
    """Returns the derivatives by the values and, by suffix, by weight and bias; `slope` is the one by the result."""
    axes = (0, *range(2, slope.ndim))
    shape = (1, -1, *(1 for _ in slope.shape[2:]))
    found = {"weight": (slope * done.values).sum(axis=axes), "bias": slope.sum(axis=axes)} if operator.affine else {}
    inner = slope * np.asarray(tensors["weight"], np.float64).reshape(shape) if operator.affine else slope
    if not done.statistics:  # running statistics are constants
        return inner * done.inverse_root, found
    return _through(inner, done, axes), found


def layer_norm(operator: LayerNorm, values: Float64, tensors: Tensors) -> tuple[Float64, Normalised]:
    """Normalises every row over its last dimensions; arguments and result as for `batch_norm`."""
    axes = tuple(range(-operator.dims, 0))
    root = 1 / np.sqrt(values.var(axis=axes, keepdims=True) + float(operator.epsilon))
    done = Normalised((values - values.mean(axis=axes, keepdims=True)) * root, root, {})
    result = done.values
    if operator.affine:
        result = result * np.asarray(tensors["weight"], np.float64)
    if operator.bias:
        result = result + np.asarray(tensors["bias"], np.float64)
    return result, done


def layer_norm_gradient(
    operator: LayerNorm, done: Normalised, tensors: Tensors, slope: Float64
) -> tuple[Float64, dict[str, Float64]]:
    """Returns the derivatives by the values and, by suffix, by weight and bias; `slope` is the one by the result."""
    rows = tuple(range(slope.ndim - operator.dims))
    found = {"weight": (slope * done.values).sum(axis=rows)} if operator.affine else {}
    if operator.bias:
        found["bias"] = slope.sum(axis=rows)
    inner = slope * np.asarray(tensors["weight"], np.float64) if operator.affine else slope
    return _through(inner, done, tuple(range(-operator.dims, 0))), found


def _through(slope: Float64, done: Normalised, axes: tuple[int, ...]) -> Float64:
    centred = slope - slope.mean(axis=axes, keepdims=True)
    along = (slope * done.values).mean(axis=axes, keepdims=True)
    result: Float64 = done.inverse_root * (centred - done.values * along)
    return result
