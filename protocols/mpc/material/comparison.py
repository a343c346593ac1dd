"""Material of a sign test: a one-hot table for every 4-bit digit of a mask, and masked ANDs for a tree of two levels.

With c = x + r public, the sign of x is [c < 0] xor [r < 0] xor [c mod 2^63 < r mod 2^63]. The comparison of digits needs no
traffic: [c_i = r_i] is entry c_i of the one-hot table of r_i, and [c_i < r_i] the exclusive-or of the entries above c_i.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.material.context import Material, Shape
from protocols.ring import BitArray, RingArray, pack_bits, packed_size, unpack_bits, unsigned

NUM_DIGITS = 16
DIGIT_BITS = 4
_LOW_63 = np.uint64(2**63 - 1)

# A node of the tree joins four digits, 3 the most significant. Less-than is
#   l3 xor e3 l2 xor e3 e2 l1 xor e3 e2 e1 l0, equality is e3 e2 e1 e0. The terms exclude each other, so xor is or.
Monomial = tuple[str, ...]
LESS: tuple[Monomial, ...] = (("e3", "l2"), ("e3", "e2", "l1"), ("e3", "e2", "e1", "l0"))
EQUAL: Monomial = ("e3", "e2", "e1", "e0")


@dataclass(frozen=True)
class Level:
    """One level of the tree: which variables are masked and which monomials are wanted; public."""

    groups: int
    variables: tuple[str, ...]
    monomials: tuple[Monomial, ...]

    @property
    def products(self) -> tuple[Monomial, ...]:
        """Every product of two or more masks that the monomials expand into, each once, in a fixed order."""
        found: dict[Monomial, None] = {}
        for monomial in self.monomials:
            for size in range(2, len(monomial) + 1):
                found.update(dict.fromkeys(itertools.combinations(monomial, size)))
        return tuple(found)


LEVELS = (
    Level(4, ("e3", "e2", "e1", "e0", "l2", "l1", "l0"), (*LESS, EQUAL)),
    Level(1, ("e3", "e2", "e1", "l2", "l1", "l0"), LESS),
)


@dataclass(frozen=True)
class LevelMaterial:
    """Masks (variables, groups, bytes) and their products (products, groups, bytes), packed bits."""

    masks: BitArray
    products: BitArray


@dataclass(frozen=True)
class SignMaterial:
    """Shares (or plaintexts) for `tests` sign tests of values under one mask of `count` elements.

    Attributes:
        one_hot: (16, count) uint16; digit i of the mask as a one-hot word.
        top: packed top bits of the mask.
        levels: of the tree, over tests * count elements.
        flip: packed uniform bits that hide the results, over tests * count elements.
        flip_number: the same bits as ring elements, (tests, count).
    """

    one_hot: NDArray[np.uint16]
    top: BitArray
    levels: tuple[LevelMaterial, ...]
    flip: BitArray
    flip_number: RingArray


@dataclass(frozen=True)
class MaskedSign:
    """A mask and what a sign test of the value under it needs."""

    mask: RingArray
    sign: SignMaterial


def sign(material: Material, shape: Shape) -> MaskedSign:
    """A fresh mask and the material of one sign test of the value under it."""
    mask = material.uniform(shape)
    return MaskedSign(mask, sign_parts(material, mask, tests=1))


def sign_parts(material: Material, mask: RingArray, *, tests: int) -> SignMaterial:
    """The material of `tests` sign tests of public offsets of the value under one mask."""
    count = mask.size
    width = packed_size(tests * count)
    one_hot = material.derived_bits(lambda: _one_hot(mask), (NUM_DIGITS, count), "uint16")
    top = material.derived_bits(lambda: pack_bits(_top(mask)), (packed_size(count),), "uint8")
    levels = tuple(_level(material, level, width) for level in LEVELS)
    flip = material.uniform_bits((width,))
    number = material.derived(lambda: unpack_bits(flip, tests * count).astype(np.int64).reshape(tests, count), (tests, count))
    return SignMaterial(one_hot, top, levels, flip, number)


def _level(material: Material, level: Level, width: int) -> LevelMaterial:
    masks = material.uniform_bits((len(level.variables), level.groups, width))

    def multiply() -> BitArray:
        index = {name: masks[i] for i, name in enumerate(level.variables)}
        return np.stack([reduce(np.bitwise_and, (index[name] for name in product)) for product in level.products])

    return LevelMaterial(masks, material.derived_bits(multiply, (len(level.products), level.groups, width), "uint8"))


def _one_hot(mask: RingArray) -> NDArray[np.uint16]:
    low = unsigned(mask).reshape(-1) & _LOW_63
    words = np.empty((NUM_DIGITS, mask.size), np.uint16)
    for digit in range(NUM_DIGITS):
        words[digit] = np.uint16(1) << ((low >> np.uint64(DIGIT_BITS * digit)) & np.uint64(15)).astype(np.uint16)
    return words


def _top(mask: RingArray) -> BitArray:
    return (unsigned(mask).reshape(-1) >> np.uint64(63)).astype(np.uint8)
