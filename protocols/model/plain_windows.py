"""Convolutions and pools in float64, forward and backward, over one or two dimensions; part of the plaintext oracle.

Values are (rows, channels, *places). A window is what a kernel covers at one place of the result. Derivatives are written out
by hand, so that they are independent of every autograd.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

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
    windows = _windows(_padded(values, operator.padding, 0.0), operator.kernel, operator.stride)
    summed = _channels_and_kernel(windows)
    parts = [
        np.moveaxis(np.tensordot(chosen, kernels, axes=(summed, range(1, kernels.ndim))), -1, 1)
        for chosen, kernels in zip(_groups(windows, operator, 1), _groups(weight, operator, 0), strict=True)
    ]
    return np.concatenate(parts, axis=1)


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
    found = np.zeros((*values.shape[:2], *operator.size))
    spatial = tuple(range(2, values.ndim))
    for place, covered in adaptive_windows(values.shape[2:], operator.size):
        found[_all_rows(place)] = values[_all_rows(covered)].mean(axis=spatial)
    return found


def adaptive_average_pool_gradient(operator: AdaptiveAveragePool, values: Float64, slope: Float64) -> Float64:
    """Returns the derivative by the values."""
    found = np.zeros_like(values)
    for place, covered in adaptive_windows(values.shape[2:], operator.size):
        part = slope[_all_rows(place)]
        count = math.prod(cut.stop - cut.start for cut in covered)
        found[_all_rows(covered)] += part.reshape(*part.shape, *(1 for _ in covered)) / count
    return found


def adaptive_windows(spatial: Shape, size: Shape) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Yields every place of an adaptive pool's result and what it covers: from floor(i * L / n) to ceil((i + 1) * L / n)."""
    cuts = [
        [slice(place * length // places, -(-(place + 1) * length // places)) for place in range(places)]
        for length, places in zip(spatial, size, strict=True)
    ]
    for place in itertools.product(*map(range, size)):
        yield place, tuple(cuts[axis][index] for axis, index in enumerate(place))


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


def _channels_and_kernel(windows: Float64) -> tuple[int, ...]:
    return (1, *(axis % windows.ndim for axis in _kernel_axes(windows)))


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
