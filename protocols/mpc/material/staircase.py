"""Material of several sign tests of one value, and of its products with their results."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.mpc.material.comparison import MaskedSign, SignMaterial, sign_parts
from protocols.mpc.material.context import Material, Shape
from protocols.ring import RingArray


@dataclass(frozen=True)
class StaircaseMaterial:
    """Shares (or plaintexts) for `tests` sign tests of `count` elements.

    Attributes:
        mask: of the input, of its shape.
        sign: the tests.
        flip_mask: (tests, count), the mask times each hidden result's flip bit.
    """

    mask: RingArray
    sign: SignMaterial
    flip_mask: RingArray


def signs(material: Material, shape: Shape, tests: int) -> MaskedSign:
    """A fresh mask and the material of `tests` sign tests of the value under it."""
    mask = material.uniform(shape)
    return MaskedSign(mask, sign_parts(material, mask, tests=tests, low=0))


def staircase(material: Material, shape: Shape, tests: int) -> StaircaseMaterial:
    """A fresh mask, `tests` sign tests of the value under it, and what its products with their results need."""
    masked = signs(material, shape, tests)
    flips = masked.sign.flip_number
    flip_mask = material.derived(lambda: flips * masked.mask.reshape(1, -1), flips.shape)
    return StaircaseMaterial(masked.mask, masked.sign, flip_mask)
