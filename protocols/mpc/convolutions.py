"""Convolutions of ring tensors and both their gradients, by matrix products (im2col; Chellapilla, Puri and Simard 2006).

All three are bilinear: the engine runs them on masks and differences alike, the dealer on masks. Windows are gathered with the
batch running fastest, so that every copy moves whole runs of memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np

from protocols.ring import RingArray, matmul

Pair = tuple[RingArray, RingArray]
_MAX_GATHERED = 1 << 22  # numbers in gathered windows at a time: 32 MiB


class Bilinear(IntEnum):
    """Which of a convolution's three products; the number stands in the plan.

    CONVOLVE: input and weight to output. WEIGHT_GRADIENT: input and the output's gradient to the weight's.
    INPUT_GRADIENT: the output's gradient and weight to the input's.
    """

    CONVOLVE = 0
    WEIGHT_GRADIENT = 1
    INPUT_GRADIENT = 2


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
        (rows, columns), (down, across) = self.places, self.stride
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                stop = row + down * (rows - 1) + 1, column + across * (columns - 1) + 1
                yield row, column, padded[..., row : stop[0] : down, column : stop[1] : across, :]


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
        parts = [_PRODUCTS[operation](piece, geometry) for piece in _pieces(operation, there, geometry)]
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


def _pieces(operation: Bilinear, pairs: Sequence[Pair], geometry: Geometry) -> Iterator[list[Pair]]:
    """The rows of a batch in pieces whose gathered windows take a bounded amount of memory."""
    left, right = (values.shape for values in pairs[0])
    # In the weight's gradient both operands have the batch's rows, otherwise the left one alone.
    joint = operation is Bilinear.WEIGHT_GRADIENT
    channels = right[1] * geometry.groups if operation is Bilinear.INPUT_GRADIENT else left[1]
    of_row = channels * math.prod(geometry.kernel) * math.prod(geometry.places) * len(pairs)
    step = max(1, _MAX_GATHERED // of_row)
    for start in range(0, left[0], step):
        rows = slice(start, start + step)
        yield [(one[rows], two[rows] if joint else two) for one, two in pairs]


def _convolve(pairs: Sequence[Pair], geometry: Geometry) -> RingArray:
    batch, out = pairs[0][0].shape[0], pairs[0][1].shape[0]
    windows = _gathered([values for values, _ in pairs], geometry)
    weights = np.concatenate([_by_group(weight, geometry) for _, weight in pairs], axis=2)
    product = matmul(weights, windows.reshape(geometry.groups, weights.shape[2], -1))
    return _batch_first(product.reshape(out, *geometry.places, batch))


def _weight_gradient(pairs: Sequence[Pair], geometry: Geometry) -> RingArray:
    # One product each: side by side the places would have to be copied once more.
    products = [
        matmul(_planes([gradient], geometry)[:, 0], _gathered([values], geometry)[:, 0].swapaxes(1, 2))
        for values, gradient in pairs
    ]
    values, gradient = pairs[0]
    total: RingArray = sum(products[1:], products[0])
    return total.reshape(gradient.shape[1], values.shape[1] // geometry.groups, *geometry.kernel)


def _input_gradient(pairs: Sequence[Pair], geometry: Geometry) -> RingArray:
    gradient, weight = pairs[0]
    batch, channels = gradient.shape[0], weight.shape[1] * geometry.groups
    gradients = _planes([one for one, _ in pairs], geometry)
    weights = np.concatenate([_by_group(two, geometry) for _, two in pairs], axis=1)
    product = matmul(weights.swapaxes(1, 2), gradients.reshape(geometry.groups, weights.shape[1], -1))
    parts = product.reshape(channels, *geometry.kernel, *geometry.places, batch)
    (height, width), (top, left) = geometry.size, geometry.padding
    padded = np.zeros((channels, height + 2 * top, width + 2 * left, batch), np.int64)
    for row, column, seen in geometry.windows(padded):
        seen += parts[:, row, column]
    return _batch_first(padded[:, top : top + height, left : left + width])


_PRODUCTS: Mapping[Bilinear, Callable[[Sequence[Pair], Geometry], RingArray]] = MappingProxyType(
    {
        Bilinear.CONVOLVE: _convolve,
        Bilinear.WEIGHT_GRADIENT: _weight_gradient,
        Bilinear.INPUT_GRADIENT: _input_gradient,
    }
)


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


def _gathered(several: Sequence[RingArray], geometry: Geometry) -> RingArray:
    """All windows as columns: (groups, values, channels / groups * kernel, places * batch)."""
    batch, channels = several[0].shape[:2]
    of_group = channels // geometry.groups
    columns = np.empty((geometry.groups, len(several), of_group, *geometry.kernel, *geometry.places, batch), np.int64)
    for index, values in enumerate(several):
        for row, column, seen in geometry.windows(_batch_last(values, geometry.padding)):
            columns[:, index, :, row, column] = seen.reshape(geometry.groups, of_group, *seen.shape[1:])
    return columns.reshape(geometry.groups, len(several), of_group * geometry.kernel[0] * geometry.kernel[1], -1)


def _planes(several: Sequence[RingArray], geometry: Geometry) -> RingArray:
    """(groups, values, channels / groups, places * batch) of values of (batch, channels, rows, columns)."""
    batch, channels, rows, columns = several[0].shape
    of_group = channels // geometry.groups
    planes = np.empty((geometry.groups, len(several), of_group, rows, columns, batch), np.int64)
    for index, values in enumerate(several):
        planes[:, index] = values.transpose(1, 2, 3, 0).reshape(geometry.groups, of_group, rows, columns, batch)
    return planes.reshape(geometry.groups, len(several), of_group, -1)


def _by_group(weight: RingArray, geometry: Geometry) -> RingArray:
    """(groups, out channels / groups, channels / groups * kernel)."""
    return weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, -1)


def _batch_first(values: RingArray) -> RingArray:
    return np.ascontiguousarray(values.transpose(3, 0, 1, 2))
