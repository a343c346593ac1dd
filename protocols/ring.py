"""Arithmetic in Z_2^64, held in numpy int64 arrays that wrap around.

Signed and unsigned views hold the same ring element. Every function takes and gives arrays (never numpy scalars, whose
overflow warns); the caller says what is public and what is a share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

RingArray = NDArray[np.int64]
BitArray = NDArray[np.uint8]
ShortArray = NDArray[np.uint32]  # the highest bits of ring elements, which add up modulo 2^32

_NARROW = 32
SHORT_BITS = 32
TOP = 1 << 62  # values that are truncated or compared lie in [-TOP, TOP)


def unsigned(values: RingArray) -> NDArray[np.uint64]:
    """Returns the same ring elements as numbers from 0 to 2^64 - 1, sharing memory."""
    return values.view(np.uint64)


def highest(values: RingArray) -> ShortArray:
    """Returns the highest 32 bits of every element, rounded to the nearest: modulo 2^32, value / 2^32 within half a unit."""
    rounded = unsigned(values) + np.uint64(1 << (SHORT_BITS - 1))
    rounded >>= np.uint64(SHORT_BITS)
    return rounded.astype(np.uint32)


def subtract(left: RingArray, right: RingArray) -> RingArray:
    """Returns left - right modulo 2^64, of one shape; repetitions of one number, as the dry run has them, take no memory."""
    if left.size > 1 and not any(left.strides) and not any(right.strides):
        return np.broadcast_to(left.reshape(-1)[:1] - right.reshape(-1)[:1], left.shape)
    return left - right


def matmul(left: RingArray, right: RingArray) -> RingArray:
    """Returns the matrix product modulo 2^64.

    Args:
        left: (..., rows, inner) int64.
        right: (..., inner, columns) int64; leading dimensions are broadcast.
    """
    if left.ndim == right.ndim == 2 and (right.shape[1] == 1 or (left.shape[0] == 1 and right.shape[1] < _NARROW)):
        # numpy is not slower with a vector, and torch takes longer to begin.
        return np.asarray(np.dot(left, right))
    # numpy multiplies int64 matrices ten times slower than torch. Loading torch takes seconds, so only who multiplies pays: a
    # researcher's command shares and combines, and does without.
    import torch

    if left.ndim == right.ndim == 2 and 1 < right.shape[1] < _NARROW <= left.shape[0]:
        # torch is twice as fast where the rows of the result are long.
        narrow: RingArray = torch.matmul(_tensor(right.T), _tensor(left.T)).numpy()
        return np.ascontiguousarray(narrow.T)
    product: RingArray = torch.matmul(_tensor(left), _tensor(right)).numpy()
    return product


def pack_bits(bits: BitArray) -> BitArray:
    """Packs (..., n) bits of 0 or 1 into (..., ceil(n / 8)) bytes, the first bit lowest."""
    return np.packbits(bits, axis=-1, bitorder="little")


def unpack_bits(packed: BitArray, count: int) -> BitArray:
    """Undoes `pack_bits`: (..., ceil(count / 8)) bytes to (..., count) bits."""
    return np.unpackbits(packed, axis=-1, count=count, bitorder="little")


def packed_size(count: int) -> int:
    """Bytes that hold `count` packed bits."""
    return (count + 7) // 8


def _tensor(values: RingArray) -> torch.Tensor:
    import torch

    # torch refuses read-only memory (what links hand out) and negative strides.
    usable = values if values.flags.writeable and min(values.strides, default=0) >= 0 else values.copy()
    return torch.from_numpy(usable)
