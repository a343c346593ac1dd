"""Exact samples of the discrete Gaussian, many at once, from the bytes of a stream.

The discrete Gaussian of deviation s has on every whole number x a probability proportional to exp(-x^2 / (2 s^2)) (Canonne,
Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020). A candidate is

    sign * (k * s + j),    k >= 0 with probability proportional to exp(-k^2 / 2),    j uniform below s,

kept with probability exp(-j (2 k s + j) / (2 s^2)): the product of both is exp(-x^2 / (2 s^2)), the same constant for all x. A
zero with a negative sign is dropped, else it would count twice. (The decomposition is that of Karney, "Sampling exactly from the
normal distribution", 2016.)

All three choices compare uniform words of 64 bits with thresholds that floats give only nearly. Where a word is so near a
threshold that an error of the float could matter, which is about once in 2^39 words, the comparison is made again on whole
numbers with 192 further bits of the stream. So no float decides anything that it may get wrong, and equal streams give equal
samples on every machine.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.prg import ByteSource
from protocols.ring import RingArray
from protocols.sharing import draw

MAX_DEVIATION = 1 << 44
"""A draw is below 19 times that, 2^49, so an offset is exact as a double and sums of 64 owners are far from the ring's end."""

VALUE_DISTANCE = 2.0**-200
MIN_SUM_DEVIATION = 8

_CELLS = 19  # k from 0 to 18; beyond is a mass below 2^-255
_MARGIN = 2.0**-40
_WORD_BITS = 64
_FURTHER_WORDS = 3
_FURTHER_BITS = _WORD_BITS * _FURTHER_WORDS
_RESERVE = 32  # further words for so many near comparisons of a batch, of which there is hardly ever one
_BATCH = 1 << 18
_KEPT = 0.70  # of the candidates, a little less than for the smallest deviations but 1
_DIGITS = 110
_SMOOTHING_DEVIATION = 6  # of the randomised rounding in `rounded_gaussian`

Words = NDArray[np.uint64]


def sample(source: ByteSource, count: int, deviation: int) -> RingArray:
    """Returns (count,) int64 independent samples; secret if the source is.

    Args:
        source: of uniform bytes; how many are taken depends on the samples.
        count: how many samples; public.
        deviation: a whole number from 1 to 2^44; public.

    Raises:
        ConfideError: INTERNAL (ours) for another deviation.
    """
    _check_deviation(deviation)
    samples = np.empty(count, np.int64)
    filled = 0
    while filled < count:
        size = min(_BATCH, int((count - filled) / _KEPT) + 64)
        kept = _candidates(source, size, deviation)[: count - filled]
        samples[filled : filled + kept.size] = kept
        filled += kept.size
    return samples


def sampler_distance(count: int, deviation: int) -> float:
    """Returns a bound of the total variation distance of `count` samples from as many exact ones, for uniform bytes.

    A candidate differs from an exact one in three places. The table of k ends at 18 (mass beyond: below 2^-255) and its
    thresholds are rounded down to 2^-255 (19 of them). A near comparison that even 256 bits leave equal drops the candidate
    (2^-256), and the exponential at 110 digits errs by less than 2^-300. That `_RESERVE` comparisons of a batch are near has a
    probability below (2^18 * 2^-39)^32 / 32! < 2^-780; the next would use equal further bits, which changes no distribution of a
    single one. A candidate is kept with a probability of at least 1/4, so a sample is within 4 * 20 * 2^-255 < 2^-200 of an exact
    one. Distances of independent samples add.

    A mechanism within distance d of an (epsilon, delta) private one is (epsilon, delta + (1 + e^epsilon) d) private.

    Args:
        count: of samples, of all owners and steps together.
        deviation: of each.

    Raises:
        ConfideError: INTERNAL (ours) for another deviation than `sample` takes.
    """
    _check_deviation(deviation)
    return count * VALUE_DISTANCE


def sum_distance(owners: int, deviation: int) -> float:
    """Returns a bound of the total variation distance of a sum of samples from one sample of the whole variance, for each value.

    A sum of n independent discrete Gaussians of deviation s is no discrete Gaussian, but no probability of it differs from that
    of the discrete Gaussian of variance n s^2 by more than a factor exp(tau),

        tau = 10 * sum over k from 1 to n - 1 of exp(-2 pi^2 s^2 k / (k + 1))

    (Kairouz, Liu, Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation", ICML
    2021, on convolutions). The exponent is smallest at k = 1, so tau <= 10 (n - 1) exp(-pi^2 s^2); the distance is at most
    (exp(tau) - 1) / 2, and below tau for tau <= 1. Over all values of a training, distances add.

    Args:
        owners: that draw and do not collude.
        deviation: of one owner's samples.

    Raises:
        ConfideError: INTERNAL (ours) for fewer than one owner, or a deviation below 8, at which the bound says nothing any more.
    """
    _check_deviation(deviation)
    if owners < 1 or deviation < MIN_SUM_DEVIATION:
        raise ConfideError(ErrorCode.INTERNAL, f"a sum of draws has owners, and a deviation of at least {MIN_SUM_DEVIATION}")
    return _rounded_up(math.log2(10 * max(owners - 1, 1)) - (math.pi * deviation) ** 2 * math.log2(math.e))


def rounded_gaussian(deviation: int) -> tuple[float, float]:
    """Returns a deviation s' and a distance: a discrete Gaussian is a normal distribution of deviation s', rounded at random.

    Let y be normal around a whole number c with variance s^2 - r^2, and x a discrete Gaussian of deviation r around y (on the
    whole numbers, probabilities proportional to exp(-(x - y)^2 / (2 r^2))). The density of (y, x) is

        exp(-(x - c)^2 / (2 s^2)) * exp(-(y - m(x))^2 (1/(2 (s^2 - r^2)) + 1/(2 r^2))) / rho(y)

    where rho(y), the sum that normalises, is by Poisson summation r sqrt(2 pi) (1 + e(y)) with |e| <= 3 exp(-2 pi^2 r^2). Without
    e the integral over y is the discrete Gaussian of deviation s around c; with it no probability changes by more than a factor
    (1 + |e|) / (1 - |e|), and as much again by normalising. (Peikert, "An Efficient and Parallel Gaussian Sampler for Lattices",
    CRYPTO 2010.) So whoever sees the discrete mechanism sees a post-processing of the normal one with deviation s', up to a
    distance of 4 * 3 exp(-2 pi^2 r^2) for each value. Here r = 6.

    Args:
        deviation: s, of the discrete Gaussian.

    Returns:
        s' = sqrt(s^2 - 36), rounded down, and the distance for each value.

    Raises:
        ConfideError: INTERNAL (ours) for a deviation below 8.
    """
    _check_deviation(deviation)
    if deviation < MIN_SUM_DEVIATION:
        raise ConfideError(ErrorCode.INTERNAL, f"the rounding has no bound below a deviation of {MIN_SUM_DEVIATION}")
    smaller = math.sqrt(deviation**2 - _SMOOTHING_DEVIATION**2)
    distance = _rounded_up(math.log2(12) - 2 * (math.pi * _SMOOTHING_DEVIATION) ** 2 * math.log2(math.e))
    return math.nextafter(smaller, 0.0), distance


def _rounded_up(exponent: float) -> float:
    return math.ldexp(1.0, max(math.ceil(exponent), -1000))


def _check_deviation(deviation: int) -> None:
    if not 1 <= deviation <= MAX_DEVIATION:
        raise ConfideError(ErrorCode.INTERNAL, "the deviation of noise is a whole number from 1 to 2^44")


def _candidates(source: ByteSource, size: int, deviation: int) -> RingArray:
    """Returns the kept ones among `size` candidates; how many bytes it takes depends on `size` alone."""
    first, second, third = (draw(source, (size,), "uint64") for _ in range(3))
    further = _Further(source)
    cells = _cells(first >> np.uint64(1), further)
    is_negative = (first & np.uint64(1)).astype(bool)
    # Words beyond the largest multiple of s are dropped with their candidate, whatever else it is: the rest is uniform.
    is_kept = second < np.uint64((1 << _WORD_BITS) // deviation * deviation) if (1 << _WORD_BITS) % deviation else np.True_
    offsets = second % np.uint64(deviation)
    is_kept = is_kept & _accepted(third, cells, offsets, deviation, further)
    values = cells.astype(np.int64) * deviation + offsets.astype(np.int64)
    is_kept &= ~(is_negative & (values == 0))
    signed: RingArray = np.where(is_negative, -values, values)[is_kept]
    return signed


def _cells(words: Words, further: _Further) -> NDArray[np.intp]:
    """Returns k for uniform words of 63 bits: how many thresholds are not above the number whose first bits the word is."""
    coarse, fine = _thresholds()
    cells = np.searchsorted(coarse, words, side="right")
    # A word that is the first 63 bits of a threshold was counted as beyond it; its further bits decide.
    for at in np.flatnonzero(coarse[np.maximum(cells, 1) - 1] == words):
        number = (int(words[at]) << _FURTHER_BITS) | further.take()
        cells[at] = sum(number >= threshold for threshold in fine)
    return np.minimum(cells, _CELLS - 1)


def _accepted(words: Words, cells: NDArray[np.intp], offsets: Words, deviation: int, further: _Further) -> NDArray[np.bool_]:
    """Returns which candidates are kept: the word, as a number below 1, is below exp(-j (2 k s + j) / (2 s^2))."""
    share = offsets.astype(np.float64) / deviation
    thresholds = np.exp(-share * (cells + 0.5 * share))
    uniform = words.astype(np.float64) * 2.0**-_WORD_BITS
    # The exponent is below 19 and errs by four roundings, the exponential by a few units of its last place, the word by 2^-54:
    # together below 2^-45, and the margin is 2^-40.
    kept: NDArray[np.bool_] = uniform < thresholds
    for at in np.flatnonzero(np.abs(uniform - thresholds) < _MARGIN):
        offset = int(offsets[at])
        exponent = Fraction(offset * (2 * int(cells[at]) * deviation + offset), 2 * deviation**2)
        number = (int(words[at]) << _FURTHER_BITS) | further.take()
        kept[at] = number < _scaled_exponential(exponent, _WORD_BITS + _FURTHER_BITS)
    return kept


class _Further:
    """The further bits of a batch: taken from the stream in any case, so that what follows does not depend on their use."""

    def __init__(self, source: ByteSource) -> None:
        self._words = draw(source, (_RESERVE, _FURTHER_WORDS), "uint64")
        self._used = 0

    def take(self) -> int:
        """Returns 192 bits."""
        words = self._words[self._used % _RESERVE]
        self._used += 1
        return int.from_bytes(words.astype("<u8").tobytes(), "little")


@cache
def _thresholds() -> tuple[Words, tuple[int, ...]]:
    """Returns the distribution function of k at 0 to 18, as whole numbers of 63 bits and of 255, both rounded down."""
    bits = _WORD_BITS - 1 + _FURTHER_BITS
    with localcontext() as context:
        context.prec = _DIGITS
        weights = [(-Decimal(k * k) / 2).exp() for k in range(_CELLS + 6)]
        total = sum(weights, Decimal(0))
        below = [sum(weights[: k + 1], Decimal(0)) / total for k in range(_CELLS)]
        fine = tuple(int(part * 2**bits) for part in below)
    coarse = np.array([threshold >> _FURTHER_BITS for threshold in fine], np.uint64)
    return coarse, fine


def _scaled_exponential(exponent: Fraction, bits: int) -> int:
    """Returns exp(-exponent) * 2^bits, rounded down."""
    with localcontext() as context:
        context.prec = _DIGITS
        return int((-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp() * 2**bits)
