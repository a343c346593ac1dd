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
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.ring import RingArray, unsigned

# Of sin(2 pi x), as fractions until the end: a library's powers may differ in the last bit.
_TAYLOR = tuple(float((2 * Fraction(math.pi)) ** (2 * i + 1) * (-1) ** i / math.factorial(2 * i + 1)) for i in range(10))

_QUARTER_TURN = np.uint64(2**62)
_BLOCK = 1 << 13  # numbers at once: what is computed in between stays in the processor's cache


@dataclass(frozen=True)
class Series:
    """constant + sum over k of cosines[k] cos(2 pi h_k x / P) + sines[k] sin(2 pi h_k x / P); public.

    Attributes:
        harmonics: h_k, positive, at equal distances.
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

    def __post_init__(self) -> None:
        """Raises INTERNAL (ours) for harmonics that `waves_of` could not follow."""
        if len({second - first for first, second in pairwise(self.harmonics)}) > 1:
            raise ConfideError(ErrorCode.INTERNAL, "a series whose harmonics do not stand at equal distances")


def waves_of(values: RingArray, period_bits: int, harmonics: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns sin(2 pi h v / 2^period_bits) and the cosine for every harmonic h, within 2^-40 for up to 28 of them.

    Five sines are evaluated; the others follow by sin((h + d) x) = 2 cos(d x) sin(h x) - sin((h - d) x), and likewise the
    cosines, for harmonics that stand d apart. An error of one step, of at most 2^-50, is multiplied by m + 1 at most in m steps,
    so the n-th is off by at most (n + 1) (n + 2) / 2 of these.

    Args:
        values: (count,) int64.
        period_bits: the first harmonic's period is 2^period_bits ring units.
        harmonics: positive, at equal distances; public.

    Returns:
        Two (harmonics, count) float64 arrays.
    """
    first, step = harmonics[0], harmonics[1] - harmonics[0] if len(harmonics) > 1 else 1
    turns = unsigned(np.ascontiguousarray(values)) << np.uint64(64 - period_bits)
    both = np.empty((len(harmonics), 2, values.size))
    for start in range(0, values.size, _BLOCK):
        some = slice(start, start + _BLOCK)
        _fill(both[:, :, some], turns[some], first, step)
    return both[:, 0], both[:, 1]


def _fill(both: NDArray[np.float64], turns: NDArray[np.uint64], first: int, step: int) -> None:
    """Writes sines and cosines of the multiples first, first + step, ... of phases in units of 2^-64 of a turn."""
    angle, before = turns * np.uint64(first), turns * np.uint64((first - step) % 2**64)
    phases = np.stack([angle, angle + _QUARTER_TURN, before, before + _QUARTER_TURN, turns * np.uint64(step) + _QUARTER_TURN])
    found = _sine_of_turns(phases)
    both[0] = found[:2]
    twice = 2.0 * found[4]
    earlier: NDArray[np.float64] = found[2:4]
    for place in range(1, len(both)):
        np.multiply(both[place - 1], twice, out=both[place])
        both[place] -= earlier
        earlier = both[place - 1]


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
    sine, cosine = waves_of(opened, period_bits, series.harmonics)
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
