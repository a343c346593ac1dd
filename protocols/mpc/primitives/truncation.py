"""Division by a power of two with the dealer's help, without failures (docs/protocols/truncation.md).

Functionality: draw r uniformly, return floor(x / 2^shift) or one more, as the low bits of x and r fall. For
-2^62 <= x < 2^62 the error is 0 or +1 unit, always; the common local rule fails with probability |x| 2^(shift-64) or so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.truncation import TruncationMaterial
from protocols.mpc.values import PartialShare
from protocols.ring import TOP, RingArray, unsigned

BLOCK = 1 << 13  # elements at once: what is computed in between stays in the processor's cache


@dataclass(frozen=True)
class PublicPart:
    """What follows from the opened number: x >> shift = base + sign * 2^(63 - shift) * top - high (x = base - high for 0)."""

    base: RingArray
    sign: RingArray
    shift: int


def truncate(engine: Engine, share: RingArray | PartialShare, shift: int) -> Steps[RingArray]:
    """Returns this party's share of the value divided by 2^shift, error 0 or +1 unit.

    One round, 8 bytes an element; corrections 8 bytes an element and 1, 2, 4 or 8 more, as shift + 1 bits need.

    Args:
        engine: this party's engine.
        share: int64, secret; the value lies in [-2^62, 2^62). What it lacks is taken in at no cost.
        shift: 1 to 62, public.

    Learns: nobody anything; the opened number is uniform.
    """
    partial = PartialShare.of(share)
    material = engine.deal("truncation", share.shape, shift, partial.parameters(), result=TruncationMaterial)
    opened = yield Opening("truncation", (mask_for_truncation(engine, partial.share, material),))
    return truncated(engine, opened.numbers[0], material, shift)


def truncated(engine: Engine, opened: RingArray, material: TruncationMaterial, shift: int) -> RingArray:
    """Returns this party's share of the truncated value from the opened number.

    Args:
        engine: this party's engine.
        opened: int64, public; what `mask_for_truncation` gave, of all parties.
        material: of this truncation, of the opened number's shape.
        shift: 0 to 62, public.
    """
    result = np.empty(opened.size, np.int64)
    high, top, flat = material.high.reshape(-1), material.top.reshape(-1), opened.reshape(-1)
    for start in range(0, result.size, BLOCK):
        some = slice(start, start + BLOCK)
        public = public_part(flat[some], shift)
        share = recombine(public, high[some], top[some])
        if engine.leads:
            share += public.base
        result[some] = share
    return result.reshape(opened.shape)


def mask_for_truncation(engine: Engine, share: RingArray, material: TruncationMaterial) -> RingArray:
    """Returns this party's share of x + r + 2^62, which is what a truncation opens."""
    masked: RingArray = share + material.mask
    if engine.leads:
        masked += np.int64(TOP)
    return masked


def public_part(opened: RingArray, shift: int) -> PublicPart:
    """Splits the opened number into what the shares of the material are combined with."""
    if shift == 0:
        return PublicPart(opened - np.int64(TOP), opened[:0], 0)
    # The lower 63 bits shifted, and the top bit times 2^(63 - shift): together the unsigned number shifted.
    base = (unsigned(opened) >> np.uint64(shift)).view(np.int64)
    base -= np.int64(1 << (62 - shift))
    sign = opened >> np.int64(63)
    sign |= np.int64(1)
    return PublicPart(base, sign, shift)


def recombine(public: PublicPart, high: RingArray, top: NDArray[Any]) -> RingArray:
    """Returns the share of the truncated value, or of its product with a bit or a factor, without the public base."""
    if public.shift == 0:
        return -high
    share: RingArray = top.astype(np.int64)
    share <<= np.int64(63 - public.shift)
    share *= public.sign
    share -= high
    return share
