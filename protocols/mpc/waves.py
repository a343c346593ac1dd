"""Functions as short Fourier series, and waves that every machine computes to the same bit.

With c = x + r public, cos(kw(c - r)) and sin(kw(c - r)) are linear in dealt cosines and sines of the mask r, so a series of
any length costs one opening (Zheng et al., ACSAC 2023). Its period is a power of two of ring units, so that wrapping does no
harm; a function that is not periodic is fitted on an interval shorter than the period and must stay inside.

Every computing party multiplies its share by weights that follow from a public number; if two parties' weights differed in one
unit the result would be garbage, so the sines are evaluated by basic float64 operations only (IEEE 754 fixes their results;
library sines may differ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocols.ring import RingArray, unsigned

# Of sin(2 pi x), as fractions until the end: a library's powers may differ in the last bit.
_TAYLOR = tuple(float((2 * Fraction(math.pi)) ** (2 * i + 1) * (-1) ** i / math.factorial(2 * i + 1)) for i in range(10))


@dataclass(frozen=True)
class Series:
    """constant + sum over k of cosines[k] cos(2 pi h_k x / P) + sines[k] sin(2 pi h_k x / P); public.

    Attributes:
        harmonics: h_k, positive.
        constant: an integer at 2^coefficient_bits, like the other coefficients.
        cosines: one for every harmonic.
        sines: one for every harmonic.
        coefficient_bits: fractional bits of the coefficients, all of which are below 2^53.
    """

    harmonics: tuple[int, ...]
    constant: int
    cosines: tuple[int, ...]
    sines: tuple[int, ...]
    coefficient_bits: int


def sines(values: RingArray, period_bits: int, harmonics: tuple[int, ...]) -> NDArray[np.float64]:
    """Returns sin(2 pi h v / 2^period_bits) for every harmonic h: (harmonics, count) float64 from (count,) int64."""
    return _sine_of_turns(_phases(values, period_bits, harmonics))


def cosines(values: RingArray, period_bits: int, harmonics: tuple[int, ...]) -> NDArray[np.float64]:
    """Returns cos(2 pi h v / 2^period_bits) for every harmonic h: (harmonics, count) float64 from (count,) int64."""
    return _sine_of_turns(_phases(values, period_bits, harmonics) + np.uint64(2**62))


def series_weights(series: Series, opened: RingArray, *, period_bits: int, weight_bits: int) -> tuple[RingArray, RingArray]:
    """Returns the weights of the dealt cosines and sines of a mask r that give the series of c - r, from the public c.

    The constant is left out.

    Args:
        series: what to evaluate.
        opened: (count,) int64, public.
        period_bits: the series repeats every 2^period_bits ring units.
        weight_bits: fractional bits of the result.

    Returns:
        Two (harmonics, count) int64 arrays at 2^weight_bits, public.
    """
    sine, cosine = sines(opened, period_bits, series.harmonics), cosines(opened, period_bits, series.harmonics)
    unit = 2.0 ** (weight_bits - series.coefficient_bits)
    of_cosines = np.array(series.cosines, np.float64)[:, None] * unit
    of_sines = np.array(series.sines, np.float64)[:, None] * unit
    for_cosines = np.rint(of_cosines * cosine + of_sines * sine)
    for_sines = np.rint(of_cosines * sine - of_sines * cosine)
    return for_cosines.astype(np.int64), for_sines.astype(np.int64)


def _phases(values: RingArray, period_bits: int, harmonics: tuple[int, ...]) -> NDArray[np.uint64]:
    # As fractions of a turn in units of 2^-64, so that every multiple wraps exactly.
    turns = unsigned(np.ascontiguousarray(values)) << np.uint64(64 - period_bits)
    return turns[None, :] * np.array(harmonics, np.uint64)[:, None]


def _sine_of_turns(phases: NDArray[np.uint64]) -> NDArray[np.float64]:
    turns = phases.view(np.int64).astype(np.float64) * 2.0**-64  # in [-1/2, 1/2]
    folded = np.where(turns > 0.25, 0.5 - turns, np.where(turns < -0.25, -0.5 - turns, turns))
    square = folded * folded
    total = np.full_like(folded, _TAYLOR[-1])
    for coefficient in reversed(_TAYLOR[:-1]):
        total = total * square + coefficient
    return np.asarray(total * folded)
