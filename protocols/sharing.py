"""n-party sharing: additive over Z_2^64 for numbers, exclusive-or for bits.

All shares together give the value; any n - 1 of them are uniform and independent of it, if the source's bytes are uniform
and nobody else knows them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.prg import ByteSource
from protocols.ring import BitArray, RingArray


def draw_ring(source: ByteSource, shape: tuple[int, ...]) -> RingArray:
    """Returns uniform ring elements from the source's next 8 bytes each, little endian."""
    return draw(source, shape, "int64")


def draw(source: ByteSource, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Returns uniform numbers of a type of whole numbers from the source's next bytes, little endian."""
    wanted = np.dtype(dtype)
    drawn = source.take(wanted.itemsize * math.prod(shape)).view(wanted.newbyteorder("<"))
    return drawn.astype(wanted, copy=False).reshape(shape)


def share_additive(value: RingArray, *, num_parties: int, source: ByteSource) -> list[RingArray]:
    """Shares ring elements among `num_parties` >= 2 parties.

    Args:
        value: secret int64 array.
        num_parties: how many shares.
        source: fresh randomness of the one who shares.

    Returns:
        One array of the value's shape for each party.

    Raises:
        ConfideError: INTERNAL (ours) for fewer than two parties.
    """
    _check_parties(num_parties)
    random = [draw_ring(source, value.shape) for _ in range(num_parties - 1)]
    return [*random, value - sum_ring(random)]


def combine_additive(shares: Sequence[RingArray]) -> RingArray:
    """Opens a value from all its additive shares."""
    return sum_ring(shares)


def share_bits(value: BitArray, *, num_parties: int, source: ByteSource) -> list[BitArray]:
    """Shares bytes of packed bits by exclusive-or among `num_parties` >= 2 parties.

    Raises:
        ConfideError: INTERNAL (ours) for fewer than two parties.
    """
    _check_parties(num_parties)
    random = [source.take(value.size).reshape(value.shape) for _ in range(num_parties - 1)]
    return [*random, value ^ combine_bits(random)]


def combine_bits(shares: Sequence[BitArray]) -> BitArray:
    """Opens bits from all their exclusive-or shares."""
    return reduce(np.bitwise_xor, shares)


def sum_ring(shares: Sequence[RingArray]) -> RingArray:
    """Adds arrays modulo 2^64."""
    total: NDArray[np.int64] = reduce(np.add, shares)
    return total


def _check_parties(num_parties: int) -> None:
    if num_parties < 2:
        raise ConfideError(ErrorCode.INTERNAL, "sharing needs at least two parties")
