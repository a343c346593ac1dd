"""Material of a series inside a window and constants outside: tables of the mask's highest bits, and masks of six bits.

With c = x + r public, only the bits of r from the window's unit on are needed to say on which side of it x lies. They are dealt
as two digits, each a one-hot table, so that whether a digit lies in a public interval is the exclusive-or of entries. The
comparison needs the six bits of `LOOKED_UP`; all that enters the result is linear in products of their masks, alone and times
the parts of the series' truncation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.material.context import Material, Shape
from protocols.mpc.material.series import WaveMaterial, waves
from protocols.mpc.material.truncation import TruncationMaterial, times_parts, truncation
from protocols.ring import BitArray, RingArray, packed_size, unpack_bits, unsigned

# With D the public upper bound, of a high and a low digit: is the mask's high digit among those below D's; is it D's; is the low
# digit at most D's; is it within the window above D's; is the high digit the next one; is the low one in the window's rest there.
LOOKED_UP = ("below", "same", "low", "near", "next", "rest")
BELOW, SAME, LOW, NEAR, NEXT, REST = range(len(LOOKED_UP))
# What the inside of the window is made of: "same and near, or next and rest".
INSIDE = ((SAME,), (NEAR,), (SAME, NEAR), (NEXT,), (REST,), (NEXT, REST))
# What the region above it needs beyond that: "below, or same and low".
ABOVE = ((BELOW,), (LOW,), (SAME, LOW))
_WORD_LOG2 = 6


@dataclass(frozen=True)
class WindowMaterial:
    """Shares (or plaintexts) for `count` elements.

    Attributes:
        waves: of the series.
        high: (words, count) uint64; the mask's high digit as a one-hot table.
        low: (words, count) uint64; its low digit likewise.
        masks: (6, bytes) packed bits that hide what is looked up, in the order of `LOOKED_UP`.
        inside: (6, count); the products of masks that `INSIDE` lists, as numbers.
        above: (3, count); those that `ABOVE` lists.
        truncation: of the series, (count,).
        inside_high: (6, count); the truncation's high part times each of `inside`.
        inside_top: (6, count); its top bit times the same.
    """

    waves: WaveMaterial
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    masks: BitArray
    inside: RingArray
    above: RingArray
    truncation: TruncationMaterial
    inside_high: RingArray
    inside_top: NDArray[Any]


def digit_bits(unit_log2: int) -> tuple[int, int]:
    """Returns how many bits the high and the low digit of what lies from a unit of 2^unit_log2 on have."""
    bits = 64 - unit_log2
    return bits - bits // 2, bits // 2


def digits_from(values: RingArray, unit_log2: int) -> tuple[RingArray, RingArray]:
    """Returns the high and the low digit of the bits from `unit_log2` on, read as unsigned; of one shape with the values."""
    _, low_bits = digit_bits(unit_log2)
    whole = (unsigned(np.ascontiguousarray(values)) >> np.uint64(unit_log2)).view(np.int64)
    return whole >> np.int64(low_bits), whole & np.int64((1 << low_bits) - 1)


def windowed_waves(
    material: Material, shape: Shape, period_bits: int, wave_bits: int, harmonics: tuple[int, ...], shift: int, unit_log2: int
) -> WindowMaterial:
    """Everything for a series that repeats every 2^period_bits ring units, is truncated by `shift` bits, and has a window.

    Args:
        material: where the shares come from.
        shape: of the value.
        period_bits: of the series.
        wave_bits: fractional bits of the waves.
        harmonics: of the series.
        shift: of the truncation, 1 to 62.
        unit_log2: the window's bounds are exact to 2^unit_log2 ring units; 52 to 62, so that the tables stay small.
    """
    dealt = waves(material, shape, period_bits, wave_bits, harmonics)
    count = dealt.mask.size

    def table(place: int, bits: int) -> NDArray[np.uint64]:
        size = (max(1 << bits >> _WORD_LOG2, 1), count)
        return material.derived_bits(
            lambda: _one_hot(digits_from(dealt.mask.reshape(-1), unit_log2)[place], size), size, "uint64"
        )

    high, low = (table(place, bits) for place, bits in enumerate(digit_bits(unit_log2)))
    masks = material.uniform_bits((len(LOOKED_UP), packed_size(count)))

    def products(of: tuple[tuple[int, ...], ...]) -> RingArray:
        bits = unpack_bits(masks, count).astype(np.int64)
        return np.stack([bits[list(factors)].prod(axis=0) for factors in of])

    inside = material.derived(lambda: products(INSIDE), (len(INSIDE), count))
    above = material.derived(lambda: products(ABOVE), (len(ABOVE), count))
    cut = truncation(material, (count,), shift, ())
    inside_high, inside_top = times_parts(material, cut, shift, lambda: inside, (len(INSIDE), count))
    return WindowMaterial(dealt, high, low, masks, inside, above, cut, inside_high, inside_top)


def _one_hot(digits: RingArray, size: tuple[int, int]) -> NDArray[np.uint64]:
    table = np.zeros(size, np.uint64)
    places = unsigned(digits) & np.uint64((1 << _WORD_LOG2) - 1)
    table[digits >> np.int64(_WORD_LOG2), np.arange(digits.size)] = np.uint64(1) << places
    return table
