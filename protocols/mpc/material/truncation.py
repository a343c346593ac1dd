"""Material of a truncation: a mask r, its high part r >> shift with r read as a signed number, and its top bit, as numbers.

The top bit enters the result times 2^(64 - shift), so it only matters modulo 2^shift, and is dealt in the narrowest type that
holds so many bits. A truncation by 0 bits, which other protocols fuse with, has the whole mask as its high part.

A short truncation opens the highest 32 bits alone: its mask is a number of 32 bits, and what is left to cut is less by 32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.material.context import RING, SHORT, Kept, Material, Shape
from protocols.ring import SHORT_BITS, RingArray, ShortArray, unsigned


@dataclass(frozen=True)
class TruncationMaterial:
    """Shares (or plaintexts) of one truncation, of the value's shape.

    Attributes:
        mask: int64; a party's share is what it masks its share of the value with.
        high: int64.
        top: of the type `top_type(shift)`; empty if nothing is cut off.
    """

    mask: RingArray
    high: RingArray
    top: NDArray[Any]


@dataclass(frozen=True)
class ShortTruncationMaterial:
    """Shares (or plaintexts) of one short truncation, of the value's shape.

    Attributes:
        mask: uint32; a party's share is what it masks the highest 32 bits of its share of the value with.
        high: int64.
        top: of the type `top_type(shift)`.
    """

    mask: ShortArray
    high: RingArray
    top: NDArray[Any]


def truncation(material: Material, shape: Shape, shift: int, kept: Kept) -> TruncationMaterial:
    """A fresh mask and its parts for a truncation by `shift` bits, 0 to 62.

    Args:
        material: where the shares come from.
        shape: of the value.
        shift: how many bits are cut off.
        kept: what the parties' shares of the value lack of it (`Material.less`). What they add to their shares are then shares
            not of the mask but of the mask less that, so that they need no share of a product that goes into a truncation.
    """
    mask = material.less(material.uniform(shape), kept)
    if shift == 0:
        high = material.derived(lambda: mask, shape) if kept else mask
        return TruncationMaterial(mask, high, np.empty(0, np.uint8))
    high = material.derived(lambda: mask >> np.int64(shift), shape)
    return TruncationMaterial(mask, high, material.derived(lambda: top_bit(mask), shape, top_type(shift)))


def short_truncation(material: Material, shape: Shape, shift: int, kept: Kept) -> ShortTruncationMaterial:
    """A fresh mask of 32 bits and its parts for a truncation by `shift` bits, 32 to 62, that opens the highest 32 bits.

    Args:
        material: where the shares come from.
        shape: of the value.
        shift: how many bits are cut off.
        kept: as for `truncation`; the highest 32 bits of what is lacking are taken out of the mask.
    """
    mask = material.less(material.uniform(shape, SHORT), kept)
    high = material.derived(lambda: mask.view(np.int32).astype(np.int64) >> np.int64(shift - SHORT_BITS), shape)
    top = material.derived(lambda: mask >> np.uint32(SHORT_BITS - 1), shape, top_type(shift))
    return ShortTruncationMaterial(mask, high, top)


def top_type(shift: int) -> str:
    """Returns the narrowest type that holds numbers modulo 2^shift."""
    return next((f"uint{bits}" for bits in (8, 16, 32) if shift <= bits), RING)


def times_parts(
    material: Material, cut: TruncationMaterial, shift: int, factor: Callable[[], RingArray], shape: Shape
) -> tuple[RingArray, NDArray[Any]]:
    """Returns a truncation's high part and top bit, each times a number that only the dealer sees whole.

    Args:
        material: where the shares come from.
        cut: the truncation's own parts.
        shift: how many bits it cuts off.
        factor: gives the plaintexts, at the dealer alone.
        shape: of the products.
    """
    high = material.derived(lambda: cut.high * factor(), shape)
    if shift == 0:
        return high, cut.top
    return high, material.derived(lambda: cut.top.astype(np.int64) * factor(), shape, top_type(shift))


def top_bit(mask: RingArray) -> RingArray:
    """The top bit of r as 0 or 1."""
    return (unsigned(mask) >> np.uint64(63)).view(np.int64)
