"""Truncates a series while sign tests of its argument run, and multiplies it with their bits at no further round.

Shared by the functions that are a series inside an interval, exact up to its bounds, and a constant outside: error function,
GELU, exponential.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Opened, Opening, Steps, together
from protocols.mpc.material.clamping import ClampedWaveMaterial, ClampMaterial
from protocols.mpc.primitives.comparison import hidden_nonnegative, unflip
from protocols.mpc.primitives.series import weighted_waves
from protocols.mpc.primitives.truncation import mask_for_truncation, public_part, recombine
from protocols.mpc.waves import Series
from protocols.ring import RingArray

MAX_SCALE_BITS = 46  # beyond, a phase loses digits in float64


@dataclass(frozen=True)
class Gated:
    """This party's shares, (tests, count) each: the bits [v >= 0] as 0 or 1, and the truncated series times each of them.

    Where a bit is 0 its product is exactly 0, whatever the series is there.
    """

    bits: RingArray
    products: RingArray


@dataclass(frozen=True)
class OddSeries:
    """An odd function that is a series on [-limit, limit] and repeats every 4 * limit; public.

    Attributes:
        series: of sines alone.
        limit_log2: log2 of the limit.
        wave_bits: fractional bits of the dealt waves.
        weight_bits: fractional bits of the public weights.
        shift: how many bits are cut off the series at wave_bits + weight_bits.
    """

    series: Series
    limit_log2: int
    wave_bits: int
    weight_bits: int
    shift: int


def gated_odd_series(engine: Engine, share: RingArray, scale_bits: int, function: OddSeries) -> Steps[Gated]:
    """Evaluates the series; the bits are [x >= -limit] and [x >= limit].

    Four rounds, 24.5 bytes an element; corrections 116.125 to 120.125 bytes an element (for shifts from 16 on; less below) and 16
    an element and harmonic.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the value lies in [-2^62, 2^62) and so does its sum with the limit.
        scale_bits: fractional bits of the value, 1 to 46.
        function: what to evaluate.

    Raises:
        ConfideError: INTERNAL (ours) for another scale.
    """
    if not 1 <= scale_bits <= MAX_SCALE_BITS:
        raise ConfideError(ErrorCode.INTERNAL, f"a clamped series of a value with {scale_bits} fractional bits")
    period_bits = scale_bits + function.limit_log2 + 2
    kind = (share.shape, period_bits, function.wave_bits, function.series.harmonics, function.shift)
    material = engine.deal("clamped_waves", *kind, result=ClampedWaveMaterial)
    opened = yield Opening("clamped series", (share + material.waves.mask,))
    masked = opened.numbers[0].reshape(1, -1)
    bound = np.int64(1 << (function.limit_log2 + scale_bits))
    thresholds = np.concatenate([masked + bound, masked - bound])
    series = weighted_waves(function.series, masked, material.waves, period_bits=period_bits, weight_bits=function.weight_bits)
    return (yield from gated_series(engine, thresholds, series, material.clamp, function.shift))


def gated_series(engine: Engine, thresholds: RingArray, series: RingArray, material: ClampMaterial, shift: int) -> Steps[Gated]:
    """Runs the tests and the truncation in the same three rounds.

    Args:
        engine: this party's engine.
        thresholds: (tests, count) int64, public: v + r for every test, under the mask of the material.
        series: (count,) int64, secret; in [-2^62, 2^62) wherever a bit keeps it.
        material: for as many tests.
        shift: how many bits the truncation removes.
    """

    def tests() -> Steps[RingArray]:
        return (yield from hidden_nonnegative(engine, thresholds, material.sign))

    def truncation() -> Steps[RingArray]:
        opened: Opened = yield Opening("truncation", (mask_for_truncation(engine, series, material.truncation),))
        return opened.numbers[0]

    flipped, masked = yield from together(tests(), truncation())
    cut = public_part(masked, shift)
    value = engine.public(cut.base) + recombine(cut, material.truncation.high, material.truncation.top)
    flip_times_value = cut.base * material.sign.flip_number + recombine(cut, material.flip_high, material.flip_top)
    bits = unflip(engine, flipped, material.sign.flip_number)
    return Gated(bits, flipped * value + (1 - 2 * flipped) * flip_times_value)
