"""Material of a truncation: a mask r, its high part (r mod 2^63) >> shift, and its top bit, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.mpc.material.context import Material, Shape
from protocols.ring import RingArray, unsigned

_LOW_63 = np.uint64(2**63 - 1)


@dataclass(frozen=True)
class TruncationMaterial:
    """Shares (or plaintexts) of one truncation; all int64 of the value's shape."""

    mask: RingArray
    high: RingArray
    top: RingArray


def truncation(material: Material, shape: Shape, shift: int) -> TruncationMaterial:
    """A fresh mask and its parts for a truncation by `shift` bits."""
    mask = material.uniform(shape)
    return TruncationMaterial(
        mask,
        material.derived(lambda: high_part(mask, shift), shape),
        material.derived(lambda: top_bit(mask), shape),
    )


def high_part(mask: RingArray, shift: int) -> RingArray:
    """(r mod 2^63) >> shift."""
    return ((unsigned(mask) & _LOW_63) >> np.uint64(shift)).view(np.int64)


def top_bit(mask: RingArray) -> RingArray:
    """The top bit of r as 0 or 1."""
    return (unsigned(mask) >> np.uint64(63)).view(np.int64)
