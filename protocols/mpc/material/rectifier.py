"""Material of a rectifier, and of what its saved bit gates: truncation and sign test under one mask (docs/protocols/relu.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from protocols.mpc.material.comparison import SignMaterial, sign_parts
from protocols.mpc.material.context import Kept, Material, Shape
from protocols.mpc.material.truncation import TruncationMaterial, times_parts, truncation
from protocols.ring import RingArray


@dataclass(frozen=True)
class GateMaterial:
    """Shares (or plaintexts) to truncate a value and multiply it with a hidden bit.

    Attributes:
        truncation: of the value.
        flip_high: the truncation's high part times the bit's flip, of the value's shape.
        flip_top: the truncation's top bit times the same.
    """

    truncation: TruncationMaterial
    flip_high: RingArray
    flip_top: NDArray[Any]


@dataclass(frozen=True)
class RectifierMaterial:
    """Shares (or plaintexts) to truncate a value, test its sign under the same mask, and multiply it with the result."""

    sign: SignMaterial
    gate: GateMaterial


def rectifier(material: Material, shape: Shape, shift: int, bit_id: int, kept: Kept) -> RectifierMaterial:
    """Everything for max(x / 2^shift, 0); the dealer keeps the flips of the bits under an id, for the gates they open."""
    cut = truncation(material, shape, shift, kept)
    sign = sign_parts(material, cut.mask, tests=1, low=shift)
    flip = sign.flip_number.reshape(shape)
    material.remember(bit_id, flip, for_session=False)
    return RectifierMaterial(sign, GateMaterial(cut, *times_parts(material, cut, shift, lambda: flip, shape)))


def gate(material: Material, shape: Shape, shift: int, bit_id: int, kept: Kept) -> GateMaterial:
    """Everything to truncate another value by `shift` bits and multiply it with a saved bit of its shape."""
    cut = truncation(material, shape, shift, kept)
    return GateMaterial(cut, *times_parts(material, cut, shift, lambda: material.recall(bit_id), shape))
