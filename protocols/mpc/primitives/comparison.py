"""The sign of a shared value, exactly, from digit tables and a two-level tree of shared ANDs (docs/protocols/comparison.md)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.comparison import (
    DIGIT_BITS,
    EQUAL,
    LESS,
    LEVELS,
    NUM_DIGITS,
    Level,
    LevelMaterial,
    MaskedSign,
    Monomial,
    SignMaterial,
)
from protocols.ring import BitArray, RingArray, pack_bits, unpack_bits, unsigned


def nonnegative(engine: Engine, share: RingArray) -> Steps[RingArray]:
    """Returns this party's share of [x >= 0] as 0 or 1, exactly, for every x of the ring read as a signed number.

    Four rounds, 12.375 bytes an element; corrections 53 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret.

    Learns: nobody anything; everything opened is uniform.
    """
    material = engine.deal("sign", share.shape, result=MaskedSign)
    opened = yield Opening("comparison", (share + material.mask,))
    flipped = yield from hidden_nonnegative(engine, opened.numbers[0].reshape(1, -1), material.sign)
    return unflip(engine, flipped, material.sign.flip_number).reshape(share.shape)


def hidden_nonnegative(engine: Engine, opened: RingArray, material: SignMaterial) -> Steps[RingArray]:
    """Returns [v >= 0] xor flip for v = opened - r, public and uniform because of the flip bits.

    Three rounds after the opening.

    Args:
        engine: this party's engine.
        opened: (tests, count) int64, public: v + r for every test, all under the same mask r.
        material: for as many tests.

    Returns:
        (tests, count) int64 of 0 and 1, public.
    """
    tests, count = opened.shape
    less, equal = _compare_digits(opened, material.one_hot)
    for level, masks in zip(LEVELS, material.levels, strict=True):
        less, equal = yield from _join(engine, level, masks, less, equal)
    top = pack_bits(np.tile(unpack_bits(material.top, count), tests))
    hidden = less[0] ^ top ^ material.flip
    if engine.leads:
        # [v >= 0] is the complement of [c < 0] xor [r < 0] xor [c mod 2^63 < r mod 2^63].
        hidden = hidden ^ pack_bits((~unsigned(opened).reshape(-1) >> np.uint64(63)).astype(np.uint8))
    result = yield Opening("comparison result", (), (hidden,))
    return unpack_bits(result.bits[0], tests * count).astype(np.int64).reshape(tests, count)


def unflip(engine: Engine, flipped: RingArray, flip_number: RingArray) -> RingArray:
    """Returns the share of the bit that was hidden: t + (1 - 2 t) flip."""
    return engine.public(flipped) + (1 - 2 * flipped) * flip_number


def _compare_digits(opened: RingArray, one_hot: NDArray[np.uint16]) -> tuple[BitArray, BitArray]:
    """Shares of [c_i < r_i] and [c_i = r_i] for the low 63 bits, as (4 groups, 4 digits, bytes) of packed bits."""
    values = unsigned(np.ascontiguousarray(opened))
    tests, count = opened.shape
    words = np.empty((NUM_DIGITS, tests, count), np.uint16)
    for digit in range(NUM_DIGITS):
        used = 15 if digit < NUM_DIGITS - 1 else 7
        places = ((values >> np.uint64(DIGIT_BITS * digit)) & np.uint64(used)).astype(np.uint16)
        np.right_shift(one_hot[digit][None, :], places, out=words[digit])
    flat = words.reshape(NUM_DIGITS, -1)
    equal = pack_bits((flat & np.uint16(1)).astype(np.uint8))
    less = pack_bits((np.bitwise_count(flat >> np.uint16(1)) & np.uint8(1)).astype(np.uint8))
    return less.reshape(4, 4, -1), equal.reshape(4, 4, -1)


def _join(
    engine: Engine, level: Level, material: LevelMaterial, less: BitArray, equal: BitArray
) -> Steps[tuple[BitArray, BitArray]]:
    """Joins four digits of every group; one round. Returns shares shaped (1, groups, bytes) for the next level."""
    planes = {"e": equal, "l": less}
    variables = np.stack([planes[name[0]][:, int(name[1])] for name in level.variables])
    opened = yield Opening("comparison tree", (), (variables ^ material.masks,))
    differences = {name: opened.bits[0][i] for i, name in enumerate(level.variables)}
    masks: dict[Monomial, BitArray] = {(name,): material.masks[i] for i, name in enumerate(level.variables)}
    masks.update({names: material.products[i] for i, names in enumerate(level.products)})
    terms = {monomial: _multiply(monomial, differences, masks, leads=engine.leads) for monomial in level.monomials}
    joined = less[:, 3]
    for monomial in LESS:
        joined = joined ^ terms[monomial]
    # The last level has no use for equality.
    equality = terms.get(EQUAL, joined)
    return joined[None], equality[None]


def _multiply(
    monomial: Monomial, differences: Mapping[str, BitArray], masks: Mapping[Monomial, BitArray], *, leads: bool
) -> BitArray:
    """Share of the AND of all variables, each difference xor mask, from the dealt products of masks."""
    total = np.zeros_like(differences[monomial[0]])
    for size in range(0 if leads else 1, len(monomial) + 1):
        for names in itertools.combinations(monomial, size):
            term = masks[names] if names else np.full_like(total, 255)
            for name in monomial:
                if name not in names:
                    term = term & differences[name]
            total ^= term
    return total
