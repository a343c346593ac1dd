"""Exact samples of the discrete Gaussian, many at once, from the bytes of a stream.

The discrete Gaussian of deviation s has on every whole number x a probability proportional to exp(-x^2 / (2 s^2)) (Canonne,
Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020). The area below the curve c exp(-x^2 / (2 s^2))
is covered by equal rectangles: a cell of h numbers wide, a row of height 1 high. h is a power of 2, above s / 16 and up to s / 8
(for s below 16 it is 1), and c the largest whole number for which 2^12 rectangles suffice. Of a word the highest 12 bits choose a
rectangle, the lowest ones a number of its cell. That is a candidate.

- A rectangle below the curve gives this number, whichever of its points was meant. Seven words of eight do so, for s from 8.
- In one that the curve passes, 32 further bits choose the height of the point. Above the curve, the candidate is dropped.
- Both tails, beyond 7 s, are in one rectangle. They have more numbers than a cell, so its area is cut into that many columns
  again, each as much lower. Further bits choose a number.

So all points below the curve are equally likely, and every number has its probability. (As in Marsaglia and Tsang, "The ziggurat
method for generating random variables", Journal of Statistical Software 2000, but in cells of equal width: a word is cut without
rounding, and most candidates are compared with nothing.)

Rectangles follow from bounds of the curve in whole numbers. A double says on which side of the curve a point is, and where they
are within 2^-18, far more than its error, whole numbers do, with 192 further bits of the stream if the curve passes just this one
of the 2^32 heights. So no float decides anything that it may get wrong, nor how many bytes are taken: equal streams give equal
samples on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.prg import ByteSource
from protocols.ring import RingArray

MAX_DEVIATION = 1 << 44
"""A draw is below 19 times that, 2^49, so it is exact as a double and sums of 64 owners are far from the ring's end."""

VALUE_DISTANCE = 2.0**-200
MIN_SUM_DEVIATION = 8

_PLACE_BITS = 12  # of a word, which choose a rectangle
_PLACES = 1 << _PLACE_BITS
_PARTS = 8  # of a deviation: there are as many cells, or up to twice that
_REACH = 7  # deviations from 0 to the tail
_TAIL = 12  # deviations of a tail, or more
_CURVE_BITS = 40  # of its bounds, by which rectangles are counted
_RATIO_BITS = 128
_HEIGHT_BITS = 32
_FURTHER_BITS = 192
_TAIL_HEIGHTS = 1 << 13  # of the 2^32 heights of their rectangle; above these the tails have no points
_MARGIN = 2.0**-18  # more than a double's error of 2^-38, and than those heights, 2^-19 of a row
_BATCH = 1 << 18
_DIGITS = 140
_SMOOTHING_DEVIATION = 6  # of the randomised rounding in `rounded_gaussian`

Words = NDArray[np.uint32] | NDArray[np.uint64]
Values = NDArray[np.int32] | NDArray[np.int64]


def sample(source: ByteSource, count: int, deviation: int) -> RingArray:
    """Returns (count,) int64 independent samples; secret if the source is.

    Args:
        source: of uniform bytes; how many are taken depends on the samples.
        count: how many samples; public.
        deviation: a whole number from 1 to 2^44; public.

    Raises:
        ConfideError: INTERNAL (ours) for another deviation.
    """
    samples: RingArray = sample_each([source], count, deviation)[0]
    return samples


def sample_each(sources: Sequence[ByteSource], count: int, deviation: int) -> RingArray:
    """Returns (sources, count) int64: of each source what `sample` gives, the same bytes taken, but all of it made at once.

    Much of the time of some thousand samples goes into steps that cost the same for more of them.

    Args:
        sources: as many as `num_together` says, or memory grows with them.
        count: as `sample` has it.
        deviation: the same.

    Raises:
        ConfideError: INTERNAL (ours) for another deviation.
    """
    _check_deviation(deviation)
    samples = np.empty((len(sources), count), np.int64)
    if not samples.size:
        return samples
    kept_of_each = _candidates(sources, _num_candidates(count, deviation), deviation)
    for source, row, kept in zip(sources, samples, kept_of_each, strict=True):
        filled = min(kept.size, count)
        row[:filled] = kept[:filled]
        while filled < count:
            (kept,) = _candidates([source], _num_candidates(count - filled, deviation), deviation)
            kept = kept[: count - filled]
            row[filled : filled + kept.size] = kept
            filled += kept.size
    return samples


def num_together(count: int) -> int:
    """Returns of how many sources `sample_each` takes so many samples in the memory of a long draw of one; at least 1."""
    return max(1, _BATCH // max(count, 1))


def sampler_distance(count: int, deviation: int) -> float:
    """Returns a bound of the total variation distance of `count` samples from as many exact ones, for uniform bytes.

    Heights have 224 bits, and a candidate differs from an exact one at the one height of its number that the curve passes: there
    it is dropped, also below the curve (2^-224, over all numbers). The tails reach to 19 deviations or more, and what is beyond
    has a mass below 2^-260. The exponential at 140 digits errs by less than 2^-400, so one height more or less at most is below
    the curve. The sum of the differences of all numbers' probabilities is below 2^-220. A candidate is kept with a probability of
    at least 1/2, so a sample is within 2 * 2^-220 < 2^-200 of an exact one. Distances of independent samples add.

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


def _num_candidates(count: int, deviation: int) -> int:
    """Returns how many candidates of one source are drawn at once where so many samples are wanted."""
    share = _table(deviation).kept_share
    return min(_BATCH, int((count + 4 * math.sqrt(count * (1 - share))) / share) + 16)


def _candidates(sources: Sequence[ByteSource], size: int, deviation: int) -> list[Values]:
    """Returns the kept ones among `size` candidates of each source, which gives the same bytes as if it were alone."""
    table = _table(deviation)
    words, heights = _drawn(sources, size, table.word_type)
    is_kept = words >= table.first_whole
    at = (~is_kept).nonzero()[0]
    places = (words >> table.place_shift).view(table.starts.dtype)
    values = table.starts.take(places)
    words &= table.offset_mask
    values += words.view(values.dtype)
    is_kept[at] = _below_curve(at, places.take(at), heights.take(at), values, table, sources)
    shape = (len(sources), size)
    return [row.take(kept.nonzero()[0]) for row, kept in zip(values.reshape(shape), is_kept.reshape(shape), strict=True)]


def _drawn(sources: Sequence[ByteSource], size: int, word_type: np.dtype[Any]) -> tuple[Words, Words]:
    """Returns so many words of every source, and as many heights."""
    # Few of the heights are needed, but a second draw of these alone would take longer.
    length = size * word_type.itemsize
    drawn = [source.take(length + size * _HEIGHT_BITS // 8) for source in sources]
    words = np.concatenate([taken[:length] for taken in drawn]).view(word_type)
    return words, np.concatenate([taken[length:] for taken in drawn]).view("<u4")


def _below_curve(
    at: NDArray[np.intp],
    places: Values,
    heights: Words,
    values: Values,
    table: _Table,
    sources: Sequence[ByteSource],
) -> NDArray[np.bool_]:
    """Returns which of some candidates are points below the curve; those of the tails get their values.

    Args:
        at: where they are among all candidates, in order.
        places: of their rectangles.
        heights: of 32 bits, within their rectangles.
        values: of all candidates, equally many of each source after each other.
        table: of the deviation.
        sources: what they were drawn from.
    """
    # By how much the curve is above the point.
    excess = values.take(at) * table.factor
    excess *= excess
    np.subtract(table.log_curve, excess, out=excess)
    np.exp(excess, out=excess)
    excess -= table.rows.take(places)
    excess -= heights * 2.0**-_HEIGHT_BITS
    is_below: NDArray[np.bool_] = excess > 0
    for near in (np.abs(excess) < _MARGIN).nonzero()[0]:
        # From here on in whole numbers. Whether bytes are taken must not depend on the float that led here.
        candidate, place = int(at[near]), int(places[near])
        source = sources[candidate * len(sources) // values.size]
        height, top = int(table.rows[place]) << _HEIGHT_BITS | int(heights[near]), table.curve
        if place == table.tail_place:
            if height >= _TAIL_HEIGHTS:
                continue
            values[candidate] = _tail_value(table, _further(source))
            top <<= table.tail_bits - table.offset_bits
        curve = _scaled_curve(int(values[candidate]), table.deviation, top << _HEIGHT_BITS + _FURTHER_BITS)
        # How many of the 2^192 points of this height are below the curve: often none or all.
        num_below = curve - (height << _FURTHER_BITS)
        is_below[near] = num_below >= 1 << _FURTHER_BITS or (num_below > 0 and _further(source) < num_below)
    return is_below


def _further(source: ByteSource) -> int:
    """Returns 192 bits."""
    return int.from_bytes(source.take(_FURTHER_BITS // 8).tobytes(), "little")


def _scaled_curve(value: int, deviation: int, top: int) -> int:
    """Returns top * exp(-value^2 / (2 deviation^2)), rounded down."""
    exponent = Fraction(value**2, 2 * deviation**2)
    with localcontext() as context:
        context.prec = _DIGITS
        return int((-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp() * top)


def _tail_value(table: _Table, bits: int) -> int:
    """Returns the number of a tail that the first of so many bits choose; all have equally many."""
    number = bits & ((1 << table.tail_bits) - 1)
    return ((table.num_cells << table.offset_bits) + (number >> 1)) ^ -(number & 1)


@dataclass(frozen=True, eq=False)
class _Table:
    """What depends on the deviation.

    Places are in order: rectangles that the curve passes, that of the tails, unused ones, and rectangles below the curve.

    Attributes:
        deviation: s.
        curve: c.
        num_cells: on either side of 0; what is beyond are the tails.
        offset_bits: a cell has 2 to so many numbers.
        tail_bits: both tails together have 2 to so many.
        kept_share: of the candidates, to be expected.
        word_type: of words with the bits of a candidate.
        first_whole: the first word that chooses a rectangle below the curve.
        place_shift: by how many bits a word is moved to its place.
        offset_mask: the bits of a word that choose a number of the cell.
        starts: (2^12,) whole numbers as long as a word: by place, the first of the cell.
        rows: by place, of those not below the curve: how many rows are below the rectangle.
        tail_place: where the tails are.
        factor: 1 / (s sqrt(2)).
        log_curve: the natural logarithm of c.
    """

    deviation: int
    curve: int
    num_cells: int
    offset_bits: int
    tail_bits: int
    kept_share: float
    word_type: np.dtype[Any]
    first_whole: np.unsignedinteger
    place_shift: np.unsignedinteger
    offset_mask: np.unsignedinteger
    starts: Values
    rows: NDArray[np.float64]
    tail_place: int
    factor: float
    log_curve: float


@lru_cache(maxsize=64)
def _table(deviation: int) -> _Table:
    offset_bits = max((deviation // _PARTS).bit_length() - 1, 0)
    width = 1 << offset_bits
    num_cells = -(-_REACH * deviation >> offset_bits)
    curve, rows, whole = _rectangles(_lower_curve(width, deviation, num_cells))
    # A cell k of positive numbers and the cell -1 - k of negative ones have the same bounds.
    cells = np.concatenate([np.arange(num_cells), -1 - np.arange(num_cells)])
    rows, whole = np.tile(rows, 2), np.tile(whole, 2)
    passed = rows - whole
    passed_rows = np.arange(passed.sum()) + np.repeat(whole - np.cumsum(passed) + passed, passed)
    # The place of the tails has a cell beyond the others, where the curve is next to 0, and unused ones are the rows above it.
    others = np.arange(_PLACES - rows.sum())
    starts = np.concatenate([np.repeat(cells, passed), np.full_like(others, num_cells), np.repeat(cells, whole)]) << offset_bits
    word_type = np.dtype("<u4" if _PLACE_BITS + offset_bits <= 32 else "<u8")
    place_shift = 8 * word_type.itemsize - _PLACE_BITS
    return _Table(
        deviation=deviation,
        curve=curve,
        num_cells=num_cells,
        offset_bits=offset_bits,
        tail_bits=1 + (_TAIL * deviation - 1).bit_length(),
        kept_share=curve * deviation * math.sqrt(2 * math.pi) / (width << _PLACE_BITS),
        word_type=word_type,
        first_whole=word_type.type((passed_rows.size + others.size) << place_shift),
        place_shift=word_type.type(place_shift),
        offset_mask=word_type.type(width - 1),
        starts=starts.astype(f"<i{word_type.itemsize}"),
        rows=np.concatenate([passed_rows, others]).astype(np.float64),
        tail_place=passed_rows.size,
        factor=1 / (deviation * math.sqrt(2)),
        log_curve=math.log(curve),
    )


def _rectangles(lower: NDArray[np.int64]) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Returns c, and by cell how many rows cover its area, and how many of these lie below the curve."""
    # A cell's greatest density is less than 2^-40 above the first bound. Where that makes too few rows by less than c times the
    # error of the bounds, the row that is added to a whole number makes up for it.
    upper = lower[:-1] + 1
    curve = (_PLACES << _CURVE_BITS) // (2 * int(upper.sum()))
    while True:
        rows = (curve * upper >> _CURVE_BITS) + 1
        if 2 * int(rows.sum()) < _PLACES:
            return curve, rows, curve * lower[1:] >> _CURVE_BITS
        curve -= 1


def _lower_curve(width: int, deviation: int, num_cells: int) -> NDArray[np.int64]:
    """Returns (num_cells + 1,) int64: exp(-(k width)^2 / (2 deviation^2)) for k from 0, times 2^40, rounded down."""
    # It is that of k - 1 times a ratio, which itself falls by one factor. Every rounding is down and costs a unit of 2^-128, so
    # that all of them together are less than 2^-100.
    ratio, weight = _scaled_curve(width, deviation, 1 << _RATIO_BITS), 1 << _RATIO_BITS
    factor, lower = ratio * ratio >> _RATIO_BITS, list[int]()
    for _ in range(num_cells + 1):
        lower.append(weight >> _RATIO_BITS - _CURVE_BITS)
        weight, ratio = weight * ratio >> _RATIO_BITS, ratio * factor >> _RATIO_BITS
    return np.array(lower)
