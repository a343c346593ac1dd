"""Convolutions and pools in float64, forward and backward, over one or two dimensions; part of the plaintext oracle.

Values are (rows, channels, *places). A window is what a kernel covers at one place of the result. Derivatives are written out
by hand, so that they are independent of every autograd.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from protocols.model.layers import AdaptiveAveragePool, AveragePool, Convolution, MaxPool, Shape

Float64 = NDArray[np.float64]


def convolve(operator: Convolution, values: Float64, weight: Float64) -> Float64:
    """Returns the convolution without its bias, (rows, out_channels, *places).

    Args:
        operator: its settings.
        values: (rows, in_channels, *places).
        weight: (out_channels, in_channels / groups, *kernel).
    """
    padded = _padded(values, operator.padding, 0.0)
    places = _places(padded, operator)
    grouped = (len(values), operator.groups, -1, math.prod(places))
    kernels = weight.reshape(operator.groups, -1, *weight.shape[1:])
    found = np.zeros((len(values), operator.groups, kernels.shape[1], grouped[-1]))
    # One element of the kernel after the other: all windows side by side would take as many times the memory.
    for offset in itertools.product(*map(range, operator.kernel)):
        part, chosen = (
            kernels[_all_rows((slice(None), *offset))],
            padded[_covered(offset, operator.stride, places)].reshape(grouped),
        )
        found += part * chosen if part.shape[-1] == 1 else part @ chosen
    return found.reshape(len(values), -1, *places)


def convolution_gradient(operator: Convolution, values: Float64, weight: Float64, slope: Float64) -> tuple[Float64, Float64]:
    """Returns the derivatives by values and weight; `slope` is that by the result, other arguments as for `convolve`."""
    padded = _padded(values, operator.padding, 0.0)
    windows = _windows(padded, operator.kernel, operator.stride)
    rows_and_places = (0, *range(2, slope.ndim))
    by_values = np.zeros_like(padded)
    by_weight = []
    groups = (
        _groups(windows, operator, 1),
        _groups(weight, operator, 0),
        _groups(slope, operator, 1),
        _groups(by_values, operator, 1),
    )
    for chosen, kernels, slopes, into in zip(*groups, strict=True):
        by_weight.append(np.tensordot(slopes, chosen, axes=(rows_and_places, rows_and_places)))
        for offset in itertools.product(*map(range, operator.kernel)):
            part = np.tensordot(slopes, kernels[_all_rows(offset)], axes=(1, 0))
            into[_covered(offset, operator.stride, slope.shape[2:])] += np.moveaxis(part, -1, 1)
    return _cropped(by_values, operator.padding), np.concatenate(by_weight, axis=0)


def convolution_row_gradients(operator: Convolution, values: Float64, slope: Float64) -> Float64:
    """Returns the derivative by the weight of every row for itself, (rows, *weight); arguments as for `convolution_gradient`."""
    windows = _windows(_padded(values, operator.padding, 0.0), operator.kernel, operator.stride)
    rows, places = len(slope), math.prod(slope.shape[2:])
    size = math.prod(operator.kernel) * values.shape[1] // operator.groups
    found = []
    for chosen, slopes in zip(_groups(windows, operator, 1), _groups(slope, operator, 1), strict=True):
        covered = np.moveaxis(chosen, 1, slope.ndim - 1).reshape(rows, places, size)  # places, then channels, then the kernel
        found.append(slopes.reshape(rows, -1, places) @ covered)
    per_row = np.concatenate(found, axis=1)
    return per_row.reshape(rows, slope.shape[1], values.shape[1] // operator.groups, *operator.kernel)


def max_pool(operator: MaxPool, values: Float64) -> Float64:
    """Returns the largest value of every window, (rows, channels, *places); padding never wins."""
    windows = _windows(_padded(values, operator.padding, -np.inf), operator.kernel, operator.stride)
    result: Float64 = windows.max(axis=_kernel_axes(windows))
    return result


def max_pool_gradient(operator: MaxPool, values: Float64, slope: Float64) -> Float64:
    """Returns the derivative by the values: the first of the largest values of a window gets all of it."""
    padded = _padded(values, operator.padding, -np.inf)
    windows = _windows(padded, operator.kernel, operator.stride)
    winners = windows.reshape(*slope.shape, math.prod(operator.kernel)).argmax(axis=-1)
    found = np.zeros_like(padded)
    for number, offset in enumerate(itertools.product(*map(range, operator.kernel))):
        found[_covered(offset, operator.stride, slope.shape[2:])] += slope * (winners == number)
    return _cropped(found, operator.padding)


def average_pool(operator: AveragePool, values: Float64) -> Float64:
    """Returns the mean of every window, (rows, channels, *places); zeros at the borders count."""
    windows = _windows(_padded(values, operator.padding, 0.0), operator.kernel, operator.stride)
    result: Float64 = windows.mean(axis=_kernel_axes(windows))
    return result


def average_pool_gradient(operator: AveragePool, values: Float64, slope: Float64) -> Float64:
    """Returns the derivative by the values."""
    found = np.zeros_like(_padded(values, operator.padding, 0.0))
    for offset in itertools.product(*map(range, operator.kernel)):
        found[_covered(offset, operator.stride, slope.shape[2:])] += slope / math.prod(operator.kernel)
    return _cropped(found, operator.padding)


def adaptive_average_pool(operator: AdaptiveAveragePool, values: Float64) -> Float64:
    """Returns the means of as many windows as the result has places, as torch cuts them."""
    found = values
    for axis, places in enumerate(operator.size, start=2):
        cuts = adaptive_cuts(values.shape[axis], places)
        found = np.stack([found[_along(axis, cut)].mean(axis=axis) for cut in cuts], axis=axis)
    return found


def adaptive_average_pool_gradient(operator: AdaptiveAveragePool, values: Float64, slope: Float64) -> Float64:
    """Returns the derivative by the values."""
    found = slope
    for axis, places in enumerate(operator.size, start=2):
        spread = np.zeros((*found.shape[:axis], values.shape[axis], *found.shape[axis + 1 :]))
        for place, cut in enumerate(adaptive_cuts(values.shape[axis], places)):
            spread[_along(axis, cut)] += found[_along(axis, slice(place, place + 1))] / (cut.stop - cut.start)
        found = spread
    return found


def adaptive_cuts(length: int, places: int) -> list[slice]:
    """Returns what every place of an adaptive pool's result covers in one dimension: floor(i L / n) to ceil((i + 1) L / n)."""
    return [slice(place * length // places, -(-(place + 1) * length // places)) for place in range(places)]


def _padded(values: Float64, padding: Shape, border: float) -> Float64:
    if not any(padding):
        return values
    widths = ((0, 0), (0, 0), *((size, size) for size in padding))
    return np.pad(values, widths, constant_values=border)


def _cropped(values: Float64, padding: Shape) -> Float64:
    return values[(slice(None), slice(None), *(slice(size, values.shape[axis + 2] - size) for axis, size in enumerate(padding)))]


def _windows(padded: Float64, kernel: Shape, stride: Shape) -> Float64:
    """(rows, channels, *places of the result, *kernel), a view."""
    axes = tuple(range(2, padded.ndim))
    every = sliding_window_view(padded, kernel, axis=axes)  # type: ignore[call-overload, unused-ignore]
    result: Float64 = every[(slice(None), slice(None), *(slice(None, None, step) for step in stride))]
    return result


def _kernel_axes(windows: Float64) -> tuple[int, ...]:
    dims = (windows.ndim - 2) // 2
    return tuple(range(-dims, 0))


def _places(padded: Float64, operator: Convolution) -> tuple[int, ...]:
    sizes = zip(padded.shape[2:], operator.kernel, operator.stride, strict=True)
    return tuple((length - size) // step + 1 for length, size, step in sizes)


def _along(axis: int, cut: slice) -> tuple[slice, ...]:
    """The index of a part of one dimension."""
    return (*(slice(None) for _ in range(axis)), cut)


def _covered(offset: tuple[int, ...], stride: Shape, places: tuple[int, ...]) -> tuple[slice | int, ...]:
    """Where in the padded values the windows have the kernel's element at this offset."""
    cuts = (slice(o, o + step * (n - 1) + 1, step) for o, step, n in zip(offset, stride, places, strict=True))
    return _all_rows(cuts)


def _all_rows(places: Iterable[slice | int]) -> tuple[slice | int, ...]:
    """The index of some places in all rows and channels."""
    return (slice(None), slice(None), *places)


def _groups(values: Float64, operator: Convolution, axis: int) -> list[Float64]:
    """Views of the channels of every group."""
    return np.split(values, operator.groups, axis=axis)
