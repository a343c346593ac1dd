"""The largest of several shared values and where it is, and equality with zero; both exact (docs/protocols/maximum.md).

Up to sixteen values are compared pair by pair at once; who wins all comparisons is the largest. More values are first reduced
in groups of eight.
"""

from __future__ import annotations

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.maximum import WinnerMaterial
from protocols.mpc.primitives.comparison import nonnegative
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
    12.375 k (k - 1) / 2 + 16 k bytes a row; corrections 53 k (k - 1) / 2 + 16 k K, K being the least power of two from k on.

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

    Four rounds, 16.75 bytes an element; corrections 73.875 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; not -2^63, the one number of the ring whose predecessor is positive.

    Learns: nobody anything; everything opened is uniform.
    """
    bits = yield from threshold_bits(engine, share, (0, 1))
    result: RingArray = bits[0] - bits[1]
    return result


def _at_once(engine: Engine, share: RingArray) -> Steps[tuple[RingArray, RingArray]]:
    columns = share.shape[1]
    first, second = np.triu_indices(columns, 1)
    won = yield from nonnegative(engine, share[:, first] - share[:, second])
    wins = engine.public(np.broadcast_to(np.arange(columns), share.shape).copy())
    # The first of a pair wins if it is not less; the second, which counts as having won, loses then.
    for pair, (one, two) in enumerate(zip(first, second, strict=True)):
        wins[:, one] += won[:, pair]
        wins[:, two] -= won[:, pair]
    bits = (columns - 1).bit_length()
    material = engine.deal("winner", share.shape, bits, result=WinnerMaterial)
    # Only the top bits of a share matter for the number of wins, moved there; the bits below are the mask's own.
    moved = wins << np.int64(64 - bits)
    opened = yield Opening("winner", (moved + material.wins, share - material.values))
    # The winner's number of wins is columns - 1; so the mask's top bits are the opened ones less that.
    place = ((unsigned(opened.numbers[0]) >> np.uint64(64 - bits)).astype(np.intp) - (columns - 1)) % (1 << bits)
    one_hot = np.take_along_axis(material.table, place[None], axis=0)[0]
    hidden = np.take_along_axis(material.value_table, place[None], axis=0)[0]
    return (opened.numbers[1] * one_hot + hidden).sum(axis=1), one_hot
