"""Material of a truncation between two parties: bits that each knows alone, and their products (docs/protocols/truncation.md).

Whether two shares wrap around when they are added up follows from one bit of each, where the sum is known to be small enough.
Each party knows its bit, so all that the dealer deals is the product of two random bits that hide them, as a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.material.context import RING, SHORT, Kept, Material, Shape
from protocols.mpc.material.truncation import top_type
from protocols.ring import BitArray, RingArray, ShortArray, highest, packed_size, unpack_bits


@dataclass(frozen=True)
class WrapMaterial:
    """A party's own bits and its shares (or everything in plain, at the dealer) of one truncation.

    Attributes:
        lacks: of the value's shape, int64 or uint32; what the parties' shares of the value, or of its highest 32 bits, lack of
            it. None if nothing.
        own: packed bits that hide this party's bits; (2, bytes) at the dealer.
        product: of the value's shape and the type `top_type(shift)`; the product of both parties' hiding bits.
    """

    lacks: RingArray | ShortArray | None
    own: BitArray
    product: NDArray[Any]


def wrap(material: Material, shape: Shape, shift: int, kept: Kept) -> WrapMaterial:
    """Everything to truncate by `shift` bits, 1 to 62.

    Args:
        material: where the shares come from.
        shape: of the value.
        shift: how many bits are cut off.
        kept: what the parties' shares of the value lack of it (`Material.lacking`).
    """
    lacks = material.derived(lambda: material.lacking(kept), shape, RING) if kept else None
    return WrapMaterial(lacks, *_hiding(material, shape, shift))


def short_wrap(material: Material, shape: Shape, shift: int, kept: Kept) -> WrapMaterial:
    """Everything to truncate by `shift` bits, 32 to 62, where only the highest 32 bits of what is lacking matter."""
    lacks = material.derived(lambda: highest(material.lacking(kept)), shape, SHORT) if kept else None
    return WrapMaterial(lacks, *_hiding(material, shape, shift))


def _hiding(material: Material, shape: Shape, shift: int) -> tuple[BitArray, NDArray[Any]]:
    count = int(np.prod(shape))
    own = material.own_bits(packed_size(count))
    return own, material.derived(lambda: unpack_bits(own[0] & own[1], count).reshape(shape), shape, top_type(shift))
