"""A series inside a window and constants outside, in two rounds (docs/protocols/sigmoid.md).

The window's bounds are exact to a unit of the value, which suits a function that is close to its constants long before the
series stops to be good. What lies from that unit on is short enough for two digits, so that the comparison is one product of
looked-up bits: it needs no tree, and no opening of its result, because the products of the bits' masks are dealt as numbers,
alone and times the parts of the truncation that runs in the same round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Opening, Steps
from protocols.mpc.material.window import (
    BELOW,
    LOOKED_UP,
    LOW,
    NEAR,
    NEXT,
    REST,
    SAME,
    WindowMaterial,
    digit_bits,
    digits_from,
)
from protocols.mpc.primitives.series import weighted_waves
from protocols.mpc.primitives.truncation import mask_for_truncation, public_part, recombine
from protocols.mpc.waves import Series
from protocols.ring import BitArray, RingArray, pack_bits, unpack_bits

WIDE_BITS = 62  # values are brought to this magnitude, so that the fewest bits are compared
MIN_RANGE_BITS, MAX_RANGE_BITS = 6, 21  # twice a declared value is the most; a bit more doubles a table


@dataclass(frozen=True)
class WindowedSeries:
    """An odd function that is a series on [-limit, limit] and repeats every 4 * limit; public.

    Attributes:
        series: of sines alone.
        limit_log2: log2 of the limit.
        unit_log2: log2 of what either bound of the window may be off by; the window is 2 * limit wide, and its bounds lie within
            half a unit of the limits.
        wave_bits: fractional bits of the dealt waves.
        weight_bits: fractional bits of the public weights.
        shift: how many bits are cut off the series at wave_bits + weight_bits.
    """

    series: Series
    limit_log2: int
    unit_log2: int
    wave_bits: int
    weight_bits: int
    shift: int


@dataclass(frozen=True)
class Windowed:
    """This party's shares, (count,) each: is the value above the window, is it inside, and the truncated series if it is."""

    above: RingArray
    inside: RingArray
    value: RingArray


def windowed_series(
    engine: Engine, share: RingArray, scale_bits: int, magnitude_bits: int, function: WindowedSeries
) -> Steps[Windowed]:
    """Evaluates the series inside the window.

    Two rounds, 16.75 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; absolute value at most 2^magnitude_bits.
        scale_bits: fractional bits of the value.
        magnitude_bits: at most 21 more than the fractional bits; public.
        function: what to evaluate.

    Raises:
        ConfideError: INTERNAL (ours) for another scale or magnitude.

    Learns: nobody anything; everything opened is uniform.
    """
    range_bits = max(magnitude_bits - scale_bits, MIN_RANGE_BITS)
    raised = WIDE_BITS - range_bits - scale_bits
    if scale_bits < 1 or range_bits > MAX_RANGE_BITS or raised < 0:
        what = f"a windowed series of a value with {scale_bits} fractional bits and up to 2^{magnitude_bits}"
        raise ConfideError(ErrorCode.INTERNAL, what)
    scale, wide = scale_bits + raised, share << np.int64(raised)
    period_bits, unit = scale + function.limit_log2 + 2, scale + function.unit_log2
    kind = (share.shape, period_bits, function.wave_bits, function.series.harmonics, function.shift, unit)
    material = engine.deal("windowed_waves", *kind, result=WindowMaterial)
    first = yield Opening("windowed series", (wide + material.waves.mask,))
    masked = first.numbers[0].reshape(-1)
    # The upper bound is tested half a unit above the limit; by what is left out of the bits it is off downwards, by one at most.
    bound = np.int64((1 << (function.limit_log2 + scale)) + (1 << (unit - 1)))
    looked_up = _look_up(material, masked - bound, unit, 2 << (function.limit_log2 - function.unit_log2))
    series = weighted_waves(function.series, masked, material.waves, period_bits=period_bits, weight_bits=function.weight_bits)
    hidden = pack_bits(looked_up) ^ material.masks
    second = yield Opening("window + truncation", (mask_for_truncation(engine, series, material.truncation),), (hidden,))
    opened = unpack_bits(second.bits[0], masked.size).astype(np.int64)
    return _combined(engine, opened, second.numbers[0], material, function.shift)


def _look_up(material: WindowMaterial, bound: RingArray, unit: int, width: int) -> BitArray:
    """Returns this party's exclusive-or shares of the six bits, (6, count) uint8 of 0 and 1.

    With v the mask's bits from the unit on and D those of the opened number less the upper bound, the value is above the window
    where D - v, which is the distance from it, is not negative, and inside where v is one of the `width` numbers that follow D.
    All of it is modulo the digits, and a value is never so far off that half of them does not tell its sign.
    """
    high, low = digits_from(bound, unit)
    high_bits, low_bits = digit_bits(unit)
    high_size, low_size = 1 << high_bits, 1 << low_bits
    opposite = (high - (high_size >> 1)) % high_size
    found = np.empty((len(LOOKED_UP), bound.size), np.uint8)
    before, before_opposite, everything = _entries_before(
        material.high, np.stack([high, opposite, np.full_like(high, high_size)])
    )
    # Of the half of all digits that ends before D's; around the end of the table it is all of it less the other half.
    found[BELOW] = before ^ before_opposite ^ (everything & (high < opposite).view(np.uint8))
    found[SAME] = _entry(material.high, high)
    found[NEXT] = _entry(material.high, (high + 1) % high_size)
    ends = np.stack([low + 1, np.minimum(low + 1 + width, low_size), np.maximum(low + 1 + width - low_size, 0)])
    found[LOW], up_to_near, found[REST] = _entries_before(material.low, ends)
    found[NEAR] = up_to_near ^ found[LOW]
    return found


def _entries_before(table: NDArray[np.uint64], ends: RingArray) -> NDArray[np.uint8]:
    """Returns the exclusive-or of a table's first entries for every end: (ends, count) uint8 from (ends, count)."""
    elements = np.arange(table.shape[1])
    words = np.zeros((len(table) + 1, table.shape[1]), np.uint8)
    np.bitwise_xor.accumulate(np.bitwise_count(table), axis=0, out=words[1:])
    whole = ends >> np.int64(6)
    part = table[np.minimum(whole, len(table) - 1), elements]
    part &= (np.uint64(1) << (ends & np.int64(63)).view(np.uint64)) - np.uint64(1)
    found: NDArray[np.uint8] = words[whole, elements]
    found ^= np.bitwise_count(part)
    found &= np.uint8(1)
    return found


def _entry(table: NDArray[np.uint64], places: RingArray) -> NDArray[np.uint8]:
    words = table[places >> np.int64(6), np.arange(places.size)]
    words >>= (places & np.int64(63)).view(np.uint64)
    return np.asarray(words.astype(np.uint8) & np.uint8(1))


def _combined(engine: Engine, opened: RingArray, cut: RingArray, material: WindowMaterial, shift: int) -> Windowed:
    """Combines what is public with shares of products of masks.

    A hidden bit is v = t + (1 - 2 t) m, with t public and m its mask, so a product of two is linear in their masks and their
    product.
    """
    sign = 1 - 2 * opened
    same, near, following, rest, low = (opened[place] for place in (SAME, NEAR, NEXT, REST, LOW))
    public_inside = same * near + following * rest
    weights = np.stack(
        [
            near * sign[SAME],
            same * sign[NEAR],
            sign[SAME] * sign[NEAR],
            rest * sign[NEXT],
            following * sign[REST],
            sign[NEXT] * sign[REST],
        ]
    )
    above_masks = material.above
    above = sign[BELOW] * above_masks[0] + same * sign[LOW] * above_masks[1] + sign[SAME] * sign[LOW] * above_masks[2]
    above += low * sign[SAME] * material.inside[0]
    inside = (weights * material.inside).sum(axis=0)
    if engine.leads:
        above += opened[BELOW] + same * low
        inside += public_inside
    # The truncation's own parts stand beside their products with the masks, as if multiplied with a mask of 1.
    high = public_inside * material.truncation.high + (weights * material.inside_high).sum(axis=0)
    top = public_inside * material.truncation.top.astype(np.int64)
    top += (weights * material.inside_top.astype(np.int64)).sum(axis=0)
    part = public_part(cut, shift)
    return Windowed(above, inside, part.base * inside + recombine(part, high, top))
