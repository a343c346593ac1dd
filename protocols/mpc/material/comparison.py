"""Material of a sign test: a table for every 4-bit digit of a mask, and masked ANDs for a tree of two levels.

With c = x + r public, the sign of x is [c < 0] xor [r < 0] xor [c mod 2^63 < r mod 2^63]. The comparison of digits needs no
traffic: the table of r_i has the entries [0 <= r_i] to [15 <= r_i], so that [c_i < r_i] is entry c_i + 1 (none for 15: 0), and
[c_i = r_i] the exclusive-or of this one and entry c_i.

A test may leave out the lowest bits of c and r. It then gives the sign of (c >> low) - (r >> low), which is the sign of the
truncation of x under the same mask, and of x itself if no share has any of these bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.material.context import RING, Material, Shape
from protocols.mpc.material.truncation import top_type
from protocols.ring import BitArray, RingArray, pack_bits, packed_size, unpack_bits, unsigned

DIGIT_BITS = 4
_LAST_DIGIT = 2**DIGIT_BITS - 1
MAX_LOW_BITS = 58  # leaves two digits to compare, so that the tree is never empty
_COMPARED_BITS = 63  # the top bit enters as it is
_MAX_ARITY = 4
_LOW_63 = np.uint64(2**63 - 1)
_BLOCK = 1 << 13  # elements at once: their digits stay in the processor's cache

Monomial = tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """Joins the digits arity - 1 (most significant) to 0; public.

    For four digits less-than is l3 xor e3 l2 xor e3 e2 l1 xor e3 e2 e1 l0, and equality e3 e2 e1 e0. The terms exclude each
    other, so xor is or.

    Attributes:
        arity: digits that it joins, 2 to 4.
        keeps_equal: whether the next level needs their equality; not of the lowest digits.
    """

    arity: int
    keeps_equal: bool

    @cached_property
    def less(self) -> tuple[Monomial, ...]:
        """The terms of less-than, without that of the highest digit alone."""
        return tuple((*(f"e{i}" for i in range(self.arity - 1, low, -1)), f"l{low}") for low in range(self.arity - 2, -1, -1))

    @cached_property
    def equal(self) -> Monomial:
        """Equality."""
        return tuple(f"e{i}" for i in range(self.arity - 1, -1, -1))

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """What is masked."""
        lowest = 0 if self.keeps_equal else 1
        equal = [f"e{i}" for i in range(self.arity - 1, lowest - 1, -1)]
        return (*equal, *(f"l{i}" for i in range(self.arity - 2, -1, -1)))

    @cached_property
    def places(self) -> Mapping[Monomial, int]:
        """Where every mask and every product of masks stands: none of them first, as 1, then the masks, then the products."""
        return {names: place for place, names in enumerate(((), *((name,) for name in self.variables), *self.products))}

    @cached_property
    def planes(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Of every variable whether it is less-than (0) or equality (1), and of which digit."""
        kinds = np.array([int(name[0] == "e") for name in self.variables], np.intp)
        return kinds, np.array([int(name[1:]) for name in self.variables], np.intp)

    @cached_property
    def factors(self) -> tuple[tuple[int, int], ...]:
        """Of every product the places of two factors, where places count the masks and then the products."""
        return tuple((self.places[names[:-1]] - 1, self.places[names[-1:]] - 1) for names in self.products)

    @cached_property
    def products(self) -> tuple[Monomial, ...]:
        """Every product of two or more masks that the terms expand into, each once, in a fixed order."""
        found: dict[Monomial, None] = {}
        for monomial in (*self.less, *((self.equal,) if self.keeps_equal else ())):
            for size in range(2, len(monomial) + 1):
                found.update(dict.fromkeys(itertools.combinations(monomial, size)))
        return tuple(found)


@dataclass(frozen=True)
class Batch:
    """Groups of digits that are joined alike, the lowest first; public."""

    node: Node
    groups: int


Level = tuple[Batch, ...]


@lru_cache(maxsize=64)
def levels_of(low: int) -> tuple[Level, ...]:
    """Returns the tree for a comparison that leaves out the lowest `low` bits, from the digits up."""
    digits = num_digits(low)
    groups = -(-digits // _MAX_ARITY)
    # The lowest group is cheapest, since nobody asks for its equality, so it is the largest.
    sizes = [digits // groups + (index < digits % groups) for index in range(groups)]
    first = [Node(size, keeps_equal=index > 0) for index, size in enumerate(sizes)]
    level = tuple(Batch(node, len(list(same))) for node, same in itertools.groupby(first))
    return (level,) if groups == 1 else (level, (Batch(Node(groups, keeps_equal=False), 1),))


def num_digits(low: int) -> int:
    """Returns how many digits are compared."""
    return -(-(_COMPARED_BITS - low) // DIGIT_BITS)


@dataclass(frozen=True)
class BatchMaterial:
    """Masks (variables, groups, bytes) and their products (products, groups, bytes), packed bits."""

    masks: BitArray
    products: BitArray


@dataclass(frozen=True)
class SignMaterial:
    """Shares (or plaintexts) for `tests` sign tests of values under one mask of `count` elements.

    Attributes:
        low: how many low bits are left out; public.
        tables: (digits, count) uint16; of every digit of the mask the word whose bits 0 to the digit are set.
        top: packed top bits of the mask.
        levels: of the tree, over tests * count elements.
        flip: packed uniform bits that hide the results, over tests * count elements.
        flip_number: the same bits as numbers, (tests, count); of a narrower type where they matter modulo less than 2^64.
    """

    low: int
    tables: NDArray[np.uint16]
    top: BitArray
    levels: tuple[tuple[BatchMaterial, ...], ...]
    flip: BitArray
    flip_number: NDArray[Any]


@dataclass(frozen=True)
class MaskedSign:
    """A mask and what a sign test of the value under it needs."""

    mask: RingArray
    sign: SignMaterial


def sign(material: Material, shape: Shape, low: int, number_bits: int) -> MaskedSign:
    """A fresh mask and the material of one sign test of the value under it; the flip bits as numbers modulo 2^number_bits."""
    mask = material.uniform(shape)
    return MaskedSign(mask, sign_parts(material, mask, tests=1, low=low, number_type=top_type(number_bits)))


def sign_parts(material: Material, mask: RingArray, *, tests: int, low: int, number_type: str = RING) -> SignMaterial:
    """The material of `tests` sign tests of public offsets of the value under one mask.

    Args:
        material: where the shares come from.
        mask: of the value.
        tests: how many.
        low: how many low bits are left out, 0 to 58.
        number_type: of the flip bits as numbers; an unsigned type if they only matter modulo less than 2^64.
    """
    count = mask.size
    width = packed_size(tests * count)
    tables = material.derived_bits(lambda: _tables(mask, low), (num_digits(low), count), "uint16")
    top = material.derived_bits(lambda: pack_bits(_top(mask)), (packed_size(count),), "uint8")
    levels = tuple(tuple(_batch(material, batch, width) for batch in level) for level in levels_of(low))
    flip = material.uniform_bits((width,))
    number = material.derived(lambda: unpack_bits(flip, tests * count).reshape(tests, count), (tests, count), number_type)
    return SignMaterial(low, tables, top, levels, flip, number)


def _batch(material: Material, batch: Batch, width: int) -> BatchMaterial:
    node = batch.node
    masks = material.uniform_bits((len(node.variables), batch.groups, width))

    def multiply() -> BitArray:
        # Every product but its last factor stands before it, since a factor that is left out leaves a product of the list.
        known = np.empty((len(node.variables) + len(node.products), batch.groups, width), np.uint8)
        known[: len(node.variables)] = masks
        for place, (one, two) in enumerate(node.factors, len(node.variables)):
            np.bitwise_and(known[one], known[two], out=known[place])
        return known[len(node.variables) :]

    return BatchMaterial(masks, material.derived_bits(multiply, (len(node.products), batch.groups, width), "uint8"))


def digits_of(values: RingArray, low: int) -> NDArray[np.uint16]:
    """Returns the digits that are compared, (digits, count) uint16, of (count,) ring elements, the lowest first."""
    kept = (unsigned(np.ascontiguousarray(values)) & _LOW_63) >> np.uint64(low)
    words = np.ascontiguousarray(kept.view("<u2").reshape(-1, 4).T)
    digits = np.empty((num_digits(low), values.size), np.uint16)
    for index in range(len(digits)):
        np.right_shift(words[index // 4], np.uint16(DIGIT_BITS * (index % 4)), out=digits[index])
    digits &= np.uint16(_LAST_DIGIT)
    return digits


def _tables(mask: RingArray, low: int) -> NDArray[np.uint16]:
    flat = mask.reshape(-1)
    tables = np.empty((num_digits(low), flat.size), np.uint16)
    for start in range(0, flat.size, _BLOCK):
        some = slice(start, start + _BLOCK)
        unset = digits_of(flat[some], low)
        unset ^= np.uint16(_LAST_DIGIT)
        np.right_shift(np.uint16(2**16 - 1), unset, out=tables[:, some])
    return tables


def _top(mask: RingArray) -> BitArray:
    return (unsigned(mask).reshape(-1) >> np.uint64(63)).astype(np.uint8)
