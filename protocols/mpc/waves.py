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

_QUARTER_TURN = np.uint64(2**62)
_BLOCK = 1 << 13  # numbers at once: what is computed in between stays in the processor's cache


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
    return _sine_of_turns(_phases(values, period_bits, harmonics) + _QUARTER_TURN)


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
    phases = _phases(opened, period_bits, series.harmonics)
    sine = _sine_of_turns(phases)
    phases += _QUARTER_TURN
    cosine = _sine_of_turns(phases)
    unit = 2.0 ** (weight_bits - series.coefficient_bits)
    of_sines = np.array(series.sines, np.float64)[:, None] * unit
    if any(series.cosines):
        of_cosines = np.array(series.cosines, np.float64)[:, None] * unit
        for_cosines = of_cosines * cosine + of_sines * sine
        for_sines = of_cosines * sine - of_sines * cosine
    else:
        # An odd series: what is left out would add zeros.
        for_cosines, for_sines = np.multiply(of_sines, sine, out=sine), np.multiply(-of_sines, cosine, out=cosine)
    return np.rint(for_cosines, out=for_cosines).astype(np.int64), np.rint(for_sines, out=for_sines).astype(np.int64)


def _phases(values: RingArray, period_bits: int, harmonics: tuple[int, ...]) -> NDArray[np.uint64]:
    # As fractions of a turn in units of 2^-64, so that every multiple wraps exactly.
    turns = unsigned(np.ascontiguousarray(values)) << np.uint64(64 - period_bits)
    return turns[None, :] * np.array(harmonics, np.uint64)[:, None]


def _sine_of_turns(phases: NDArray[np.uint64]) -> NDArray[np.float64]:
    turns = phases.view(np.int64).astype(np.float64)
    turns *= 2.0**-64  # in [-1/2, 1/2]
    result = np.empty_like(turns)
    at_once = max(_BLOCK // max(turns.shape[-1], 1), 1)
    for start in range(0, len(turns), at_once):
        some = slice(start, start + at_once)
        _sine(turns[some], result[some])
    return result


def _sine(turns: NDArray[np.float64], result: NDArray[np.float64]) -> None:
    """Writes the sine of turns into `result`."""
    folded = np.where(np.abs(turns) > 0.25, np.copysign(0.5, turns) - turns, turns)
    square = folded * folded
    np.multiply(square, _TAYLOR[-1], out=result)
    result += _TAYLOR[-2]
    for coefficient in _TAYLOR[-3::-1]:
        result *= square
        result += coefficient
    result *= folded
