"""The linear operators of a model as sparse matrices over flat rows, `(outputs, inputs)`, with constants.

Rows are flat with the last dimension running fastest, as everywhere. A matrix built from weights of one shows where the
architecture has weights: nothing cancels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from protocols.model.layers import (
    AdaptiveAveragePool,
    AveragePool,
    BatchNorm,
    Convolution,
    Embedding,
    Linear,
    Operator,
    Shape,
)
from protocols.model.plain_windows import adaptive_cuts

Float64 = NDArray[np.float64]
Sparse = Any  # scipy has no types: a csr matrix of float64
LINEAR = (AdaptiveAveragePool, AveragePool, BatchNorm, Convolution, Embedding, Linear)


def linear_operator(operator: Operator, shape: Shape, tensors: Mapping[str, Float64]) -> tuple[Sparse, Float64]:
    """Returns matrix `(outputs, inputs)` and constants `(outputs,)` of an operator of `LINEAR`.

    Args:
        operator: its settings.
        shape: of a row that it takes.
        tensors: by suffix, float64; batch norms go by their running statistics.
    """
    match operator:
        case Linear():
            places = math.prod(shape[:-1])
            matrix = sparse.kron(sparse.identity(places), sparse.csr_matrix(tensors["weight"]), format="csr")
            return matrix, np.tile(tensors.get("bias", np.zeros(operator.out_features)), places)
        case Embedding():
            matrix = sparse.kron(sparse.identity(shape[0]), sparse.csr_matrix(tensors["weight"].T), format="csr")
            return matrix, np.zeros(matrix.shape[0])
        case Convolution():
            matrix = _convolution(operator, shape, tensors["weight"])
            places = matrix.shape[0] // operator.out_channels
            return matrix, np.repeat(tensors.get("bias", np.zeros(operator.out_channels)), places)
        case AveragePool(kernel=kernel):
            # A convolution of each channel with itself alone.
            channels = shape[0]
            alone = Convolution(channels, kernel, operator.stride, operator.padding, groups=channels, bias=False)
            matrix = _convolution(alone, shape, np.full((channels, 1, *kernel), 1 / math.prod(kernel)))
            return matrix, np.zeros(matrix.shape[0])
        case AdaptiveAveragePool():
            matrix = _adaptive(operator, shape)
            return matrix, np.zeros(matrix.shape[0])
        case BatchNorm():
            return _batch_norm(operator, shape, tensors)
        case _:
            raise TypeError(f"{operator.kind} is not linear")


def _convolution(operator: Convolution, shape: Shape, weight: Float64) -> Sparse:
    """One entry per output channel, input channel of its group, place of the result and element of the kernel."""
    spatial = shape[1:]
    places = operator.output_shape([shape])[1:]
    per_group, group_inputs = operator.out_channels // operator.groups, shape[0] // operator.groups
    out_channel = np.arange(operator.out_channels)[:, None, None]
    in_channel = (out_channel // per_group) * group_inputs + np.arange(group_inputs)[None, :, None]
    place = np.arange(math.prod(places))[None, None, :]
    starts = np.array(np.unravel_index(np.arange(math.prod(places)), places)).T * operator.stride - operator.padding
    rows, columns, values = [], [], []
    taps = weight.reshape(*weight.shape[:2], 1, -1)
    for number, offset in enumerate(itertools.product(*map(range, operator.kernel))):
        at = starts + offset
        inside = ((at >= 0) & (at < spatial)).all(axis=1)
        source = np.ravel_multi_index(tuple(np.clip(at, 0, np.array(spatial) - 1).T), spatial)
        row = (out_channel * math.prod(places) + place) + 0 * in_channel
        column = in_channel * math.prod(spatial) + source[None, None, :]
        value = np.broadcast_to(taps[:, :, :, number], row.shape)
        rows.append(row[:, :, inside].ravel())
        columns.append(column[:, :, inside].ravel())
        values.append(value[:, :, inside].ravel())
    size = (operator.out_channels * math.prod(places), math.prod(shape))
    return sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=size)


def _adaptive(operator: AdaptiveAveragePool, shape: Shape) -> Sparse:
    matrix = sparse.identity(shape[0])
    for length, places in zip(shape[1:], operator.size, strict=True):
        means = sparse.lil_matrix((places, length))
        for place, cut in enumerate(adaptive_cuts(length, places)):
            means[place, cut] = 1 / (cut.stop - cut.start)
        matrix = sparse.kron(matrix, means, format="csr")
    return matrix


def _batch_norm(operator: BatchNorm, shape: Shape, tensors: Mapping[str, Float64]) -> tuple[Sparse, Float64]:
    places = math.prod(shape[1:])
    factor = tensors.get("weight", np.ones(shape[0])) / np.sqrt(tensors["running_var"] + float(operator.epsilon))
    added = tensors.get("bias", np.zeros(shape[0])) - tensors["running_mean"] * factor
    return sparse.diags(np.repeat(factor, places), format="csr"), np.repeat(added, places)
