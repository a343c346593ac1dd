"""The largest of a few values, by a tournament, and the way of a gradient back to it (docs/protocols/max-pool.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.relu import SavedBit, gate, rectify
from protocols.ring import RingArray


@dataclass(frozen=True, repr=False)
class Won:
    """How a tournament went; secret.

    Attributes:
        largest: this party's share of the largest values.
        bits: of each level, whether the first of a pair won.
        entrants: how many values there were at the first level; public.
    """

    largest: RingArray
    bits: tuple[SavedBit, ...]
    entrants: int


def tournament(engine: Engine, entrants: RingArray) -> Steps[Won]:
    """Returns this party's share of the largest of the entrants, elementwise, and who won; exact. Ties go to the first.

    max(a, b) = b + max(a - b, 0), level by level: four rounds a level, the base-2 logarithm of the number of entrants many. 12.25
    bytes and 60.125 bytes of corrections for each of the pairs that meet, one less than there are entrants.

    Args:
        engine: this party's engine.
        entrants: (entrants, ...) int64, secret, at least one; any difference of two lies in [-2^63, 2^63).

    Learns: nobody anything; everything opened is uniform.
    """
    if not len(entrants):
        raise ConfideError(ErrorCode.INTERNAL, "the largest of no values")
    left, bits = entrants, []
    while len(left) > 1:
        pairs = len(left) // 2
        first, second = left[0 : 2 * pairs : 2], left[1 : 2 * pairs : 2]
        ahead = yield from rectify(engine, first - second, 0)
        winners = second + ahead.kept
        bits.append(ahead.bit)
        # Who has no opponent stays last, so that the order of the entrants is kept.
        left = winners if 2 * pairs == len(left) else np.concatenate([winners, left[2 * pairs :]])
    return Won(left[0], tuple(bits), len(entrants))


def to_winners(engine: Engine, gradient: RingArray, won: Won) -> Steps[RingArray]:
    """Returns this party's share, (entrants, ...), of a gradient where an entrant is the largest, and of 0 elsewhere; exact.

    One round a level, 8 bytes and 8 bytes of corrections for each pair.

    Args:
        engine: this party's engine.
        gradient: int64, secret, of the shape of the largest values.
        won: by which tournament.

    Learns: nobody anything; everything opened is uniform.
    """
    sizes, size = [], won.entrants
    for _ in won.bits:
        sizes.append(size)
        size -= size // 2
    shares = gradient[None]
    for bit, size in zip(reversed(won.bits), reversed(sizes), strict=True):
        pairs = size // 2
        kept = (yield from gate(engine, np.ascontiguousarray(shares[:pairs]), bit, 0)).kept
        level = np.empty((size, *gradient.shape), np.int64)
        level[0 : 2 * pairs : 2] = kept
        np.subtract(shares[:pairs], kept, out=level[1 : 2 * pairs : 2])
        level[2 * pairs :] = shares[pairs:]
        shares = level
    return shares
