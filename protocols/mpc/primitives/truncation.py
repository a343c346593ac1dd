"""Division by a power of two with the dealer's help, without failures (docs/protocols/truncation.md).

Functionality: draw r uniformly, return floor(x / 2^shift) or one more, as the low bits of x and r fall. For
-2^62 <= x < 2^62 the error is 0 or +1 unit, always; the common local rule fails with probability |x| 2^(shift-64) or so. Two
parties have a cheaper way to the same (`primitives.wrapping`), in which the lead's share of x takes the place of r.

A short truncation opens half as many bytes: the parties round their shares to the highest 32 bits before they mask them, which
costs half a unit of 2^32 each and cannot fail either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.truncation import ShortTruncationMaterial, TruncationMaterial
from protocols.mpc.primitives.wrapping import truncate_highest, truncate_own
from protocols.mpc.values import PartialShare
from protocols.ring import SHORT_BITS, TOP, RingArray, highest, unsigned

_LONG_BITS = 64
BLOCK = 1 << 13  # elements at once: what is computed in between stays in the processor's cache


@dataclass(frozen=True)
class PublicPart:
    """What follows from the opened number: x >> shift = base - high - (2^(64 - shift) * top where `wraps`, all ones, is set).

    For a shift of 0 bits it is x = base - high.
    """

    base: RingArray
    wraps: RingArray
    shift: int


def truncate(engine: Engine, share: RingArray | PartialShare, shift: int) -> Steps[RingArray]:
    """Returns this party's share of the value divided by 2^shift, error 0 or +1 unit.

    One round. Between two parties 1 bit an element, and corrections of 1, 2, 4 or 8 bytes an element, as `shift` bits need, 8
    more for what the share lacks; among more parties 8 bytes an element, and corrections of 8 bytes and as many more.

    Args:
        engine: this party's engine.
        share: int64, secret; the value lies in [-2^62, 2^62). What it lacks is taken in.
        shift: 1 to 62, public.

    Learns: nobody anything; what is opened is uniform.
    """
    partial = PartialShare.of(share)
    if engine.is_pair:
        return (yield from truncate_own(engine, partial, shift))
    material = engine.deal("truncation", share.shape, shift, partial.parameters(), result=TruncationMaterial)
    opened = yield Opening("truncation", (mask_for_truncation(engine, partial.share, material),))
    return _truncated(engine, opened.numbers[0], material, shift, public_part)


def truncate_roughly(engine: Engine, share: RingArray | PartialShare, shift: int) -> Steps[RingArray]:
    """Returns this party's share of the value divided by 2^shift, opening the highest 32 bits alone where the shift allows it.

    From 32 bits on the error is below 1 + (n + 1) / 2^(s - 31) units for a shift of s bits and n parties, and at most (n + 1) / 2
    for 32 bits: 1.5 among two parties. It is 0 on average. Otherwise as `truncate`.

    One round. Between two parties 1 bit an element, and corrections of 4 bytes an element, 8 for a shift above 32 bits, and 4
    more for what the share lacks; among more parties 4 bytes an element, and corrections of 8 bytes and 4 or 8 more.

    Args:
        engine: this party's engine.
        share: int64, secret; the value lies in [-2^62, 2^62), among n parties n 2^32 away from its borders. What it lacks is
            taken in.
        shift: 1 to 62, public.

    Learns: nobody anything; what is opened is uniform.
    """
    if shift < SHORT_BITS:
        return (yield from truncate(engine, share, shift))
    partial = PartialShare.of(share)
    if engine.is_pair:
        return (yield from truncate_highest(engine, partial, shift))
    material = engine.deal("short_truncation", share.shape, shift, partial.parameters(), result=ShortTruncationMaterial)
    masked = highest(partial.share) + material.mask
    if engine.leads:
        masked += np.uint32(TOP >> SHORT_BITS)
    opened = yield Opening("truncation", (masked,))
    return _truncated(engine, opened.numbers[0], material, shift, _public_part_of_short)


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
    base = (unsigned(opened) >> np.uint64(shift)).view(np.int64)
    base -= np.int64(1 << (62 - shift))
    # With r read as a signed number, x + 2^62 + r wraps only below zero, which the opened top bit shows where r is negative.
    return PublicPart(base, opened >> np.int64(63), shift)


def recombine(public: PublicPart, high: RingArray, top: NDArray[Any], *, into: RingArray | None = None) -> RingArray:
    """Returns the share of the truncated value, or of its product with a bit or a factor, without the public base.

    Args:
        public: from `public_part`.
        high: share of the mask's high part, or of that times a bit or a factor.
        top: likewise of its top bit.
        into: where the share is to stand, of its shape; new memory if None.
    """
    if public.shift == 0:
        return np.negative(high, out=into)
    share = np.empty(top.shape, np.int64) if into is None else into
    share[...] = top
    share *= np.int64(-(1 << (_LONG_BITS - public.shift)))
    share &= public.wraps
    share -= high
    return share


def _public_part_of_short(opened: NDArray[Any], shift: int) -> PublicPart:
    """Likewise for the opened highest 32 bits."""
    base = (opened >> np.uint32(shift - SHORT_BITS)).astype(np.int64)
    base -= np.int64(1 << (62 - shift))
    return PublicPart(base, (opened.view(np.int32) >> np.int32(31)).astype(np.int64), shift)


def _truncated(
    engine: Engine,
    opened: RingArray,
    material: TruncationMaterial | ShortTruncationMaterial,
    shift: int,
    split: Callable[[RingArray, int], PublicPart],
) -> RingArray:
    """Returns this party's share of the truncated value from the opened number, split by `split`."""
    result = np.empty(opened.size, np.int64)
    high, top, flat = material.high.reshape(-1), material.top.reshape(-1), opened.reshape(-1)
    for start in range(0, result.size, BLOCK):
        some = slice(start, start + BLOCK)
        public = split(flat[some], shift)
        share = recombine(public, high[some], top[some], into=result[some])
        if engine.leads:
            share += public.base
    return result.reshape(opened.shape)
