"""Division by a power of two with the dealer's help, without failures (docs/protocols/truncation.md).

Functionality: draw r uniformly, return floor(x / 2^shift) or one more, as the low bits of x and r fall. For
-2^62 <= x < 2^62 the error is 0 or +1 unit, always; the common local rule fails with probability |x| 2^(shift-64) or so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.truncation import TruncationMaterial
from protocols.ring import TOP, RingArray, unsigned

_LOW_63 = np.uint64(2**63 - 1)


@dataclass(frozen=True)
class PublicPart:
    """What follows from the opened number: x >> shift = base + sign * 2^(63 - shift) * top - high."""

    base: RingArray
    sign: RingArray
    shift: int


def truncate(engine: Engine, share: RingArray, shift: int) -> Steps[RingArray]:
    """Returns this party's share of the value divided by 2^shift, error 0 or +1 unit.

    One round, 8 bytes an element; corrections 16 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret; the value lies in [-2^62, 2^62).
        shift: 1 to 62, public.

    Learns: nobody anything; the opened number is uniform.
    """
    material = engine.deal("truncation", share.shape, shift, result=TruncationMaterial)
    opened = yield Opening("truncation", (mask_for_truncation(engine, share, material),))
    public = public_part(opened.numbers[0], shift)
    return engine.public(public.base) + recombine(public, material.high, material.top)


def mask_for_truncation(engine: Engine, share: RingArray, material: TruncationMaterial) -> RingArray:
    """Returns this party's share of x + r + 2^62, which is what a truncation opens."""
    masked: RingArray = share + material.mask
    return masked + np.int64(TOP) if engine.leads else masked


def public_part(opened: RingArray, shift: int) -> PublicPart:
    """Splits the opened number into what the shares of the material are combined with."""
    top = (unsigned(opened) >> np.uint64(63)).view(np.int64)
    low = ((unsigned(opened) & _LOW_63) >> np.uint64(shift)).view(np.int64)
    return PublicPart(low + (top << np.int64(63 - shift)) - np.int64(1 << (62 - shift)), 1 - 2 * top, shift)


def recombine(public: PublicPart, high: RingArray, top: RingArray) -> RingArray:
    """Returns the share of the truncated value without its public base."""
    share: RingArray = public.sign * (top << np.int64(63 - public.shift)) - high
    return share
