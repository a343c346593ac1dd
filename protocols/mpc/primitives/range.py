"""Whether any of many shared values lies outside its public limit: one bit, exactly (docs/protocols/range-check.md)."""

from __future__ import annotations

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.comparison import MaskedSign
from protocols.mpc.primitives.comparison import hidden_nonnegative, shared_nonnegative, unflip
from protocols.ring import BitArray, RingArray, unpack_bits

MAX_LIMIT = (1 << 62) - 1
_MAX_ELEMENTS = 1 << 60  # twice as many are counted


def outside_range(engine: Engine, share: RingArray, limits: RingArray) -> Steps[BitArray]:
    """Returns this party's exclusive-or share of the bit that says whether |x| > limit for any element x.

    Exact for every number of the ring, also for those that a wrap left anywhere in it. Every element's two tests give a count
    of 0, 1 or 2, and 0 only inside; the counts are added up locally and their sum is compared with zero.

    Seven rounds, 16.5 bytes an element and about 16 more; corrections 72.125 bytes an element and about 60 more. One round and
    one byte more reveal the bit (`Engine.reveal_bit`).

    Args:
        engine: this party's engine.
        share: (count,) int64, secret, at least one element.
        limits: (count,) int64, public, 0 to 2^62 - 1.

    Returns:
        (1,) uint8 of 0 or 1, secret, and uniform but for the bit, so it may be revealed.

    Raises:
        ConfideError: INTERNAL (ours) if shapes or limits are others.

    Learns: nobody anything; everything opened is uniform.
    """
    fits = share.shape == limits.shape and share.ndim == 1 and 0 < share.size < _MAX_ELEMENTS
    if not fits or limits.min() < 0 or limits.max() > MAX_LIMIT:
        raise ConfideError(ErrorCode.INTERNAL, "a range check of no vector, or with limits beyond 2^62 - 1")
    counts = yield from outside_counts(engine, share, limits)
    above_zero = counts.sum(keepdims=True) - engine.public(np.ones(1, np.int64))
    material = engine.deal("sign", (1,), 0, 64, result=MaskedSign)
    opened = yield Opening("values out of range", (above_zero + material.mask,))
    packed = yield from shared_nonnegative(engine, opened.numbers[0].reshape(1, 1), material.sign)
    return unpack_bits(packed, 1)


def outside_counts(engine: Engine, share: RingArray, limits: RingArray) -> Steps[RingArray]:
    """Returns this party's share of 0 for every element with |x| <= limit, of 1 or 2 for every other number of the ring.

    That is 1 - [x >= -limit] + [x >= limit + 1], with both differences modulo 2^64. Inside, no difference wraps. Outside, if one
    wraps it is the one on the far side of zero, whose bit then adds 1 where it would have been 0.

    Four rounds, 16.5 bytes an element; corrections 72.125 bytes an element.

    Args:
        engine: this party's engine.
        share: (count,) int64, secret.
        limits: (count,) int64, public, 0 to 2^62 - 1.

    Learns: nobody anything; everything opened is uniform.
    """
    material = engine.deal("signs", share.shape, 2, result=MaskedSign)
    opened = yield Opening("range", (share + material.mask,))
    masked = opened.numbers[0].reshape(1, -1) - np.stack([-limits, limits + 1])
    flipped = yield from hidden_nonnegative(engine, masked, material.sign)
    bits = unflip(engine, flipped, material.sign.flip_number)
    counts: RingArray = engine.public(np.ones_like(limits)) - bits[0] + bits[1]
    return counts
