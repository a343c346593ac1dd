"""The largest of several shared values, and where it is; the few largest; equality with zero: exact (docs/protocols/maximum.md).

Up to sixteen values are compared pair by pair at once; who wins all comparisons is the largest. More values are first reduced
in groups of eight. For the few largest all pairs are compared, however many there are: the rounds do not grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.maximum import WinnerMaterial
from protocols.mpc.primitives.comparison import nonnegative_modulo
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.staircase import threshold_bits
from protocols.ring import RingArray, unsigned

MAX_AT_ONCE = 16
GROUP = 8
_LEAST = -(1 << 61)  # fills up the last group; never wins, since ties go to the lowest index


def maximum(engine: Engine, share: RingArray) -> Steps[tuple[RingArray, RingArray]]:
    """Returns this party's shares of each row's largest value, and of where it is as zeros and a single 1; exact.

    Ties go to the lowest index.

    Five rounds for up to 16 columns, eleven for up to 128, six more for every further factor of eight. For k up to 16 columns
    12.25 k (k - 1) / 2 + 16 k bytes a row; corrections 45.125 k (k - 1) / 2 + 16 k K, K being the least power of two from k on.

    Args:
        engine: this party's engine.
        share: (rows, columns) int64, secret; the values lie in [-2^61, 2^61).

    Returns:
        (rows,) at the scale of the values, and (rows, columns) of 0 and 1.

    Raises:
        ConfideError: INTERNAL (ours) if there is no column.

    Learns: nobody anything; everything opened is uniform.
    """
    rows, columns = share.shape
    if columns == 0:
        raise ConfideError(ErrorCode.INTERNAL, "the largest of no values")
    if columns == 1:
        return share[:, 0], engine.public(np.ones_like(share))
    if columns <= MAX_AT_ONCE:
        return (yield from _at_once(engine, share))
    groups = -(-columns // GROUP)
    padding = engine.public(np.full((rows, groups * GROUP - columns), _LEAST, np.int64))
    grouped = np.concatenate([share, padding], axis=1).reshape(rows * groups, GROUP)
    largest, places = yield from _at_once(engine, grouped)
    result, group = yield from maximum(engine, largest.reshape(rows, groups))
    one_hot = yield from multiply(engine, places.reshape(rows, groups, GROUP), group[:, :, None])
    return result, one_hot.reshape(rows, -1)[:, :columns]


def equal_zero(engine: Engine, share: RingArray) -> Steps[RingArray]:
    """Returns this party's share of [x = 0] as 0 or 1, exactly: [x >= 0] minus [x >= 1].

    Four rounds, 16.5 bytes an element; corrections 72.125 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; not -2^63, the one number of the ring whose predecessor is positive.

    Learns: nobody anything; everything opened is uniform.
    """
    bits = yield from threshold_bits(engine, share, (0, 1))
    result: RingArray = bits[0] - bits[1]
    return result


def keep_largest(engine: Engine, ranked: RingArray, values: RingArray, *, count: int) -> Steps[RingArray]:
    """Returns this party's share of the values at each row's `count` largest ranks, and of exactly 0 elsewhere; exact.

    Exactly `count` values of every row are kept: ties go to the lowest index.

    One round after `wins`; 16 bytes an element; corrections 16 K bytes an element, K being the least power of two from the number
    of columns on.

    Args:
        engine: this party's engine.
        ranked: (rows, columns) int64, secret: the numbers of wins, as `wins` returns them for as many columns.
        values: (rows, columns) int64, secret, any numbers of the ring.
        count: 1 to the number of columns, public.

    Learns: nobody anything; everything opened is uniform.
    """
    columns = ranked.shape[1]
    kept = yield from _where_wins(engine, ranked, values, range(columns - count, columns))
    return kept.values


def wins(engine: Engine, share: RingArray) -> Steps[RingArray]:
    """Returns this party's share of how many others of its row each value beats: each of 0 to columns - 1 once; exact.

    A value beats what is less, and what is equal at a higher index. The shares add up modulo 2^b, b being the bits of
    columns - 1, and need not modulo 2^64.

    Four rounds; 12.25 k (k - 1) / 2 bytes a row of k columns; corrections 45.125 k (k - 1) / 2 for up to 256 columns.

    Args:
        engine: this party's engine.
        share: (rows, columns) int64, secret, at least two columns; the values lie in [-2^61, 2^61).

    Learns: nobody anything; everything opened is uniform.
    """
    columns = share.shape[1]
    pairs = _pairs(columns)
    bits = yield from nonnegative_modulo(engine, share[:, pairs.first] - share[:, pairs.second], _bits_of(columns))
    won = bits.astype(np.int64)
    counts = engine.public(np.broadcast_to(np.arange(columns), share.shape).copy())
    # The first of a pair wins if it is not less; the second, which counts as having won, loses then.
    counts[:, :-1] += np.add.reduceat(won, pairs.starts_of_first, axis=1)
    counts[:, 1:] -= np.add.reduceat(won[:, pairs.by_second], pairs.starts_of_second, axis=1)
    return counts


def _bits_of(columns: int) -> int:
    """How many bits a number of wins has."""
    return (columns - 1).bit_length()


@dataclass(frozen=True)
class _Pairs:
    """All pairs of columns, the first before the second; public.

    Attributes:
        first: column of each pair, ascending.
        second: column of each pair.
        by_second: the pairs in the order of their second columns.
        starts_of_first: where the pairs of each first column begin.
        starts_of_second: where those of each second column begin, in that order.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    by_second: NDArray[np.intp]
    starts_of_first: NDArray[np.intp]
    starts_of_second: NDArray[np.intp]


@lru_cache(maxsize=64)
def _pairs(columns: int) -> _Pairs:
    first, second = np.triu_indices(columns, 1)
    by_second = np.argsort(second, kind="stable")
    starts_of_first = np.flatnonzero(np.diff(first, prepend=-1))
    starts_of_second = np.flatnonzero(np.diff(second[by_second], prepend=0))
    return _Pairs(first, second, by_second, starts_of_first, starts_of_second)


@dataclass(frozen=True)
class _Kept:
    """This party's shares, (rows, columns): 1 where a number of wins is among those asked for, and the value there; else 0."""

    places: RingArray
    values: RingArray


def _at_once(engine: Engine, share: RingArray) -> Steps[tuple[RingArray, RingArray]]:
    columns = share.shape[1]
    counts = yield from wins(engine, share)
    kept = yield from _where_wins(engine, counts, share, range(columns - 1, columns))
    return kept.values.sum(axis=1), kept.places


def _where_wins(engine: Engine, counts: RingArray, share: RingArray, wanted: range) -> Steps[_Kept]:
    bits = _bits_of(share.shape[1])
    material = engine.deal("winner", share.shape, bits, result=WinnerMaterial)
    # Only the top bits of a share matter for the number of wins, moved there; the bits below are the mask's own.
    moved = counts << np.int64(64 - bits)
    opened = yield Opening("winner", (moved + material.wins, share - material.values))
    # Where a number of wins is n, the mask's top bits are the opened ones less n.
    top = (unsigned(opened.numbers[0]) >> np.uint64(64 - bits)).astype(np.intp)
    places, hidden = np.zeros_like(share), np.zeros_like(share)
    for number in wanted:
        place = ((top - number) % (1 << bits))[None]
        places += np.take_along_axis(material.table, place, axis=0)[0]
        hidden += np.take_along_axis(material.value_table, place, axis=0)[0]
    return _Kept(places, opened.numbers[1] * places + hidden)
