"""The sigmoid as a short series of sines, and sines that every machine computes to the same bit.

On -16 <= x <= 16 the sigmoid is 1/2 + S(x)/2 with S(x) = sum over odd k of b_k sin(2 pi k x / 64); the coefficients are a
minimax fit of tanh(x/2), whose extension by reflection at 16 repeats every 64. Every computing party multiplies its share by
weights that follow from a public number; if two parties' weights differed in one unit the result would be garbage, so the
sines are evaluated by basic float64 operations only (IEEE 754 fixes their results; library sines may differ).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.ring import RingArray, unsigned

LIMIT = 16  # the series holds on [-LIMIT, LIMIT]; beyond, the sigmoid is 0 or 1 to 1.2e-7
PERIOD_LOG2 = 6  # 4 * LIMIT = 2^6
HARMONICS = tuple(range(1, 28, 2))
WAVE_BITS = 24  # fractional bits of the dealt sines and cosines
WEIGHT_BITS = 24  # fractional bits of the public weights
COEFFICIENTS = (21026465, 6197517, 2954048, 1541719, 824086, 443486, 239132, 129015, 69618, 37567, 20273, 10940, 5904, 4495)

_TAYLOR = tuple((-1) ** i * (2 * math.pi) ** (2 * i + 1) / math.factorial(2 * i + 1) for i in range(10))


def sines(values: RingArray, period_bits: int) -> NDArray[np.float64]:
    """Returns sin(2 pi k v / 2^period_bits) for every harmonic k: (harmonics, count) float64 from (count,) int64."""
    return _sine_of_turns(_phases(values, period_bits))


def cosines(values: RingArray, period_bits: int) -> NDArray[np.float64]:
    """Returns cos(2 pi k v / 2^period_bits) for every harmonic k: (harmonics, count) float64 from (count,) int64."""
    return _sine_of_turns(_phases(values, period_bits) + np.uint64(2**62))


def series_weights(opened: RingArray, period_bits: int) -> tuple[RingArray, RingArray]:
    """Returns the weights of the dealt cosines and sines of a mask r that give S(c - r), from the public c.

    sin(k w (c - r)) = sin(k w c) cos(k w r) - cos(k w c) sin(k w r).

    Args:
        opened: (count,) int64, public.
        period_bits: the series repeats every 2^period_bits ring units.

    Returns:
        Two (harmonics, count) int64 arrays at 2^WEIGHT_BITS, public.
    """
    scale = np.array(COEFFICIENTS, np.float64)[:, None] * 2.0 ** (WEIGHT_BITS - 24)
    for_cosines = np.rint(sines(opened, period_bits) * scale)
    for_sines = np.rint(cosines(opened, period_bits) * -scale)
    return for_cosines.astype(np.int64), for_sines.astype(np.int64)


def _phases(values: RingArray, period_bits: int) -> NDArray[np.uint64]:
    # As fractions of a turn in units of 2^-64, so that every multiple wraps exactly.
    turns = unsigned(np.ascontiguousarray(values)) << np.uint64(64 - period_bits)
    return turns[None, :] * np.array(HARMONICS, np.uint64)[:, None]


def _sine_of_turns(phases: NDArray[np.uint64]) -> NDArray[np.float64]:
    turns = phases.view(np.int64).astype(np.float64) * 2.0**-64  # in [-1/2, 1/2]
    folded = np.where(turns > 0.25, 0.5 - turns, np.where(turns < -0.25, -0.5 - turns, turns))
    square = folded * folded
    total = np.full_like(folded, _TAYLOR[-1])
    for coefficient in reversed(_TAYLOR[:-1]):
        total = total * square + coefficient
    return np.asarray(total * folded)
