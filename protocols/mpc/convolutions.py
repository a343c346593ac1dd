"""Convolutions of ring tensors and both their gradients, by matrix products (im2col; Chellapilla, Puri and Simard 2006).

All three are bilinear: the engine runs them on masks and differences alike, the dealer on masks. Windows are gathered with the
batch running fastest, so that every copy moves whole runs of memory, and a few places at a time, so that they are still in the
processor's cache when they are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.lib.stride_tricks import as_strided

from protocols.ring import RingArray, matmul

Pair = tuple[RingArray, RingArray]
_MAX_GATHERED = 1 << 17  # numbers in gathered windows at a time, unless one place has more: 1 MiB
_MAX_BATCH = 512  # rows of a batch at a time, which bounds the windows of one place
_LANES = 64  # the matrix product is fastest with so many columns, or a multiple
_SKEW = 8  # numbers between gathered lines, so that lines of a power of two do not fall onto one line of the cache


class Bilinear(IntEnum):
    """Which of a convolution's three products; the number stands in the plan.

    CONVOLVE: input and weight to output. WEIGHT_GRADIENT: input and the output's gradient to the weight's.
    INPUT_GRADIENT: the output's gradient and weight to the input's.
    """

    CONVOLVE = 0
    WEIGHT_GRADIENT = 1
    INPUT_GRADIENT = 2


@dataclass(frozen=True)
class _Tile:
    """A rectangle of places: from (top, left) on so many rows and columns; public."""

    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Geometry:
    """How windows lie in a plane; public.

    Attributes:
        size: height and width of the plane; a line has height 1.
        kernel: height and width of a window.
        stride: from window to window.
        padding: zeros at each border.
        groups: into how many the channels fall; outputs of a group see its inputs alone.
    """

    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int

    @property
    def places(self) -> tuple[int, int]:
        """How many windows lie along height and width."""
        along = zip(self.size, self.kernel, self.stride, self.padding, strict=True)
        height, width = ((length + 2 * border - window) // step + 1 for length, window, step, border in along)
        return height, width

    def to_numbers(self) -> tuple[int, ...]:
        """Returns the geometry as the plan writes it."""
        return (*self.size, *self.kernel, *self.stride, *self.padding, self.groups)

    @staticmethod
    def from_numbers(numbers: Sequence[int]) -> Geometry:
        """Undoes `to_numbers`."""
        height, width, *others, groups = numbers
        kernel, stride, padding = ((others[at], others[at + 1]) for at in (0, 2, 4))
        return Geometry((height, width), kernel, stride, padding, groups)

    def windows(self, padded: RingArray) -> Iterator[tuple[int, int, RingArray]]:
        """Yields, for each place in a window, what all windows have there: views of (..., padded height, width, batch)."""
        yield from self._windows(padded, _Tile(0, 0, *self.places))

    def _windows(self, padded: RingArray, tile: _Tile) -> Iterator[tuple[int, int, RingArray]]:
        down, across = self.stride
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                top, left = row + down * tile.top, column + across * tile.left
                bottom, right = top + down * (tile.rows - 1) + 1, left + across * (tile.columns - 1) + 1
                yield row, column, padded[..., top:bottom:down, left:right:across, :]

    def _all_windows(self, padded: RingArray, tile: _Tile) -> RingArray:
        """The same for all places in a window at once: (groups, channels / groups, *kernel, rows, columns, batch), read-only."""
        channels = len(padded) // self.groups
        seen = padded[:, self.stride[0] * tile.top :, self.stride[1] * tile.left :]
        plane, line, place, row = seen.strides
        shape = (self.groups, channels, *self.kernel, tile.rows, tile.columns, seen.shape[3])
        steps = (plane * channels, plane, line, place, line * self.stride[0], place * self.stride[1], row)
        return as_strided(seen, shape, steps, writeable=False)

    def _tiles(self, inner: int, batch: int) -> Iterator[_Tile]:
        """Yields all places in rectangles whose windows of `inner` numbers a row of the batch take a bounded amount of memory."""
        rows, columns = self.places
        at_once = max(_MAX_GATHERED // (inner * batch), 1)
        down = max(at_once // columns, 1)
        across = columns if at_once >= columns else -(-columns // -(-columns // at_once))
        for top in range(0, rows, down):
            for left in range(0, columns, across):
                yield _Tile(top, left, min(down, rows - top), min(across, columns - left))


def bilinear(operation: Bilinear, pairs: Sequence[Pair], geometry: Geometry) -> RingArray:
    """Returns the sum over the pairs of a product of each, modulo 2^64.

    Args:
        operation: which product.
        pairs: int64, all of the same shapes: inputs (batch, channels, height, width), weights (out channels, channels / groups,
            kernel height, kernel width), outputs and their gradients (batch, out channels, rows, columns).
        geometry: of the convolution.
    """
    # The dry run has repetitions of zero, whose products take neither time nor memory.
    there = [pair for pair in pairs if not any(_is_zero(values) for values in pair)]
    if there:
        parts = [_PRODUCTS[operation](piece, geometry) for piece in _pieces(operation, there)]
        if operation is Bilinear.WEIGHT_GRADIENT:
            return sum(parts[1:], parts[0])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    left, right = (values.shape for values in pairs[0])
    return np.broadcast_to(np.int64(0), shape_of_product(operation, left, right, geometry))


def shape_of_product(operation: Bilinear, left: Sequence[int], right: Sequence[int], geometry: Geometry) -> tuple[int, ...]:
    """Returns the shape of a product of operands of these shapes."""
    match operation:
        case Bilinear.CONVOLVE:
            return (left[0], right[0], *geometry.places)
        case Bilinear.WEIGHT_GRADIENT:
            return (right[1], left[1] // geometry.groups, *geometry.kernel)
        case Bilinear.INPUT_GRADIENT:
            return (left[0], right[1] * geometry.groups, *geometry.size)


def inner_length(operation: Bilinear, left: Sequence[int], right: Sequence[int], geometry: Geometry) -> int:
    """Returns how many products each element of a product adds up, at most."""
    match operation:
        case Bilinear.CONVOLVE:
            return right[1] * right[2] * right[3]
        case Bilinear.WEIGHT_GRADIENT:
            return left[0] * geometry.places[0] * geometry.places[1]
        case Bilinear.INPUT_GRADIENT:
            return right[0] // geometry.groups * right[2] * right[3]


def _pieces(operation: Bilinear, pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """The rows of a batch in pieces."""
    # In the weight's gradient both operands have the batch's rows, otherwise the left one alone.
    joint = operation is Bilinear.WEIGHT_GRADIENT
    for start in range(0, len(pairs[0][0]), _MAX_BATCH):
        rows = slice(start, start + _MAX_BATCH)
        yield [(one[rows], two[rows] if joint else two) for one, two in pairs]


def _convolve(pairs: Sequence[Pair], geometry: Geometry) -> RingArray:
    batch, out = pairs[0][0].shape[0], pairs[0][1].shape[0]
    planes = [_batch_last(values, geometry.padding) for values, _ in pairs]
    weights = np.concatenate([_by_group(weight, geometry) for _, weight in pairs], axis=2)
    result = np.empty((geometry.groups, out // geometry.groups, *geometry.places, batch), np.int64)
    for tile, windows in _gathered(planes, geometry):
        product = _product(weights, windows)
        _at(result, tile)[...] = product.reshape(*product.shape[:2], tile.rows, tile.columns, batch)
    return _batch_first(result.reshape(out, *geometry.places, batch))


def _weight_gradient(pairs: Sequence[Pair], geometry: Geometry) -> RingArray:
    values, gradient = pairs[0]
    out, of_group = gradient.shape[1], values.shape[1] // geometry.groups
    total = np.zeros(
        (geometry.groups, of_group * geometry.kernel[0] * geometry.kernel[1], _width(out // geometry.groups)), np.int64
    )
    for one, two in pairs:
        gradients = _channels_last(two, geometry)
        for tile, windows in _gathered([_batch_last(one, geometry.padding)], geometry):
            seen = gradients[:, tile.top : tile.top + tile.rows, tile.left : tile.left + tile.columns]
            total += _product(windows, seen.reshape(geometry.groups, -1, total.shape[2]))
    products = total[:, :, : out // geometry.groups].swapaxes(1, 2)
    return np.ascontiguousarray(products).reshape(out, of_group, *geometry.kernel)


def _input_gradient(pairs: Sequence[Pair], geometry: Geometry) -> RingArray:
    gradient, weight = pairs[0]
    batch, channels = gradient.shape[0], weight.shape[1] * geometry.groups
    planes = [_batch_last(one, (0, 0)).reshape(geometry.groups, -1, *geometry.places, batch) for one, _ in pairs]
    weights = np.concatenate([_by_group(two, geometry) for _, two in pairs], axis=1).swapaxes(1, 2)
    (height, width), (top, left) = geometry.size, geometry.padding
    padded = np.zeros((channels, height + 2 * top, width + 2 * left, batch), np.int64)
    for tile in geometry._tiles(geometry.groups * weights.shape[1], batch):
        gradients = np.concatenate([_at(plane, tile) for plane in planes], axis=1)
        product = _product(weights, gradients.reshape(geometry.groups, weights.shape[2], -1))
        parts = product.reshape(channels, *geometry.kernel, tile.rows, tile.columns, batch)
        for row, column, seen in geometry._windows(padded, tile):
            seen += parts[:, row, column]
    return _batch_first(padded[:, top : top + height, left : left + width])


_PRODUCTS: Mapping[Bilinear, Callable[[Sequence[Pair], Geometry], RingArray]] = MappingProxyType(
    {
        Bilinear.CONVOLVE: _convolve,
        Bilinear.WEIGHT_GRADIENT: _weight_gradient,
        Bilinear.INPUT_GRADIENT: _input_gradient,
    }
)


def _product(left: RingArray, right: RingArray) -> RingArray:
    """The matrix products of all groups."""
    return matmul(left[0], right[0])[None] if len(left) == 1 else matmul(left, right)


def _batch_last(values: RingArray, padding: tuple[int, int]) -> RingArray:
    """(channels, padded height, padded width, batch) of (batch, channels, height, width), zeros at the borders."""
    batch, channels, height, width = values.shape
    top, left = padding
    if not (top or left):
        return np.ascontiguousarray(values.transpose(1, 2, 3, 0))
    padded = np.zeros((channels, height + 2 * top, width + 2 * left, batch), np.int64)
    padded[:, top : top + height, left : left + width] = values.transpose(1, 2, 3, 0)
    return padded


def _is_zero(values: RingArray) -> bool:
    return values.size > 1 and not any(values.strides) and values.flat[0] == 0


def _gathered(planes: Sequence[RingArray], geometry: Geometry) -> Iterator[tuple[_Tile, RingArray]]:
    """Yields some places' windows as columns, (groups, values * channels / groups * kernel, places * batch), in one memory."""
    channels, _, _, batch = planes[0].shape
    inner = len(planes) * channels // geometry.groups * geometry.kernel[0] * geometry.kernel[1]
    memory = np.empty(0, np.int64)
    for tile in geometry._tiles(geometry.groups * inner, batch):
        width = tile.rows * tile.columns * batch
        needed = geometry.groups * inner * (width + _SKEW)
        memory = memory if memory.size >= needed else np.empty(needed, np.int64)
        columns = memory[:needed].reshape(geometry.groups, inner, width + _SKEW)[:, :, :width]
        shape = (geometry.groups, len(planes), channels // geometry.groups, *geometry.kernel, tile.rows, tile.columns, batch)
        windows = columns.reshape(shape, copy=False)
        for index, plane in enumerate(planes):
            windows[:, index] = geometry._all_windows(plane, tile)
        yield tile, columns


def _channels_last(values: RingArray, geometry: Geometry) -> RingArray:
    """(groups, rows, columns, batch, channels / groups) of (batch, channels, rows, columns), with zeros up to a good width."""
    batch, channels = values.shape[:2]
    of_group = channels // geometry.groups
    result = np.zeros((geometry.groups, *geometry.places, batch, _width(of_group)), np.int64)
    grouped = values.reshape(batch, geometry.groups, of_group, *geometry.places)
    result[..., :of_group] = grouped.transpose(1, 3, 4, 0, 2)
    return result


def _width(columns: int) -> int:
    """How wide a matrix of so many columns is made, if it is worth the zeros."""
    return columns if columns <= _LANES // 2 else -(-columns // _LANES) * _LANES


def _at(values: RingArray, tile: _Tile) -> RingArray:
    """The tile's part, a view, of values of (groups, channels, rows, columns, batch)."""
    return values[:, :, tile.top : tile.top + tile.rows, tile.left : tile.left + tile.columns]


def _by_group(weight: RingArray, geometry: Geometry) -> RingArray:
    """(groups, out channels / groups, channels / groups * kernel)."""
    return weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, -1)


def _batch_first(values: RingArray) -> RingArray:
    return np.ascontiguousarray(values.transpose(3, 0, 1, 2))
