"""Exact samples of the discrete Gaussian, many at once, from the bytes of a stream.

The discrete Gaussian of deviation s has on every whole number x a probability proportional to exp(-x^2 / (2 s^2)) (Canonne,
Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020). With cells of h = s / 16 numbers, rounded up, a
candidate is

    sign * (k h + j),    k >= 0 with probability proportional to exp(-k^2 / 512),    j uniform below h,

kept with probability exp(-((k h + j)^2 / (2 s^2) - k^2 / 512)), which is at most 1: the product of both is exp(-x^2 / (2 s^2)),
the same constant for all x. A zero with a negative sign is dropped, else it would count twice. (The decomposition is that of
Karney, "Sampling exactly from the normal distribution", 2016, with narrower cells: 97 % of the candidates are kept, and 95 % of
them by a comparison with the least probability of their cell.) k comes from a table of 512 columns with two cells each (Walker,
"An efficient method for generating discrete random variables with general distributions", ACM TOMS 1977).

All choices compare uniform words of 64 bits with thresholds that words and floats give only nearly. Where a word is so near a
threshold that its further bits or an error of the float could matter, less than once in 2^40 words, the comparison is made on
whole numbers with 192 further bits of the stream. So no float decides anything that it may get wrong, and equal streams give
equal samples on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache, lru_cache

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

_PARTS = 16  # of a deviation: the width of a cell
_CELLS = 19 * _PARTS  # what is beyond has a mass below 2^-255
_COLUMN_BITS = 9
_COLUMNS = 1 << _COLUMN_BITS
_MASS_BITS = 255  # the cells' probabilities are multiples of 2^-255; those of a column add up to 2^-9
_MARGIN = 2.0**-40
_WORD_BITS = 64
_FURTHER_BITS = 192
_BATCH = 1 << 18
_KEPT = 0.97  # of the candidates, where s is a multiple of 16
_DIGITS = 140
_WEIGHT_BITS = 400
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

    A candidate differs from an exact one in three places. The probabilities of the 304 cells are rounded down to multiples of
    2^-255, and the first gets what is left, the mass beyond the last included: together below 2^-245. Words give the cells just
    these probabilities. A comparison that all 256 bits leave equal drops the candidate (2^-256), and the exponential at 140
    digits errs by less than 2^-400. A candidate is kept with a probability of at least 1/20, so a sample is within
    20 * 2^-244 < 2^-200 of an exact one. Distances of independent samples add.

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
    kept_share = _KEPT * deviation / (_PARTS * _width(deviation))
    return min(_BATCH, int(count / kept_share) + 64) if count else 0


def _candidates(sources: Sequence[ByteSource], size: int, deviation: int) -> list[RingArray]:
    """Returns the kept ones among `size` candidates of each source, which gives the same bytes as if it were alone."""
    cells, table = _cells(), _table(deviation)
    width = np.uint64(table.width)
    first, second = np.stack([draw(source, (2, size), "uint64") for source in sources], axis=1).reshape(2, -1)
    is_negative = first.view(np.int64) >> np.int64(_WORD_BITS - 1)  # 0 or -1
    first <<= np.uint64(1)
    slots = _slots(first, cells, sources)
    # The second word is a multiple of the width and an offset. Offsets are uniform but for the words beyond the largest multiple.
    digits = second // width
    second -= digits * width
    values = table.starts.take(slots)
    values += second.view(np.int64)
    is_kept = digits < table.surely_kept.take(slots)
    at = np.flatnonzero(~is_kept)
    is_kept[at] = _accepted(digits[at], cells.cells[slots[at]], values[at], table, sources, at // max(size, 1))
    if not values.all():
        is_kept &= (values != 0) | (is_negative == 0)
    values ^= is_negative  # what a number and its negative differ by, up to 1
    values -= is_negative
    shape = (len(sources), size)
    return [row[kept] for row, kept in zip(values.reshape(shape), is_kept.reshape(shape), strict=True)]


def _slots(words: Words, cells: _Cells, sources: Sequence[ByteSource]) -> NDArray[np.int64]:
    """Returns twice the column of a word's first 9 bits, and 1 more if its other 54 bits take the column's second cell.

    Args:
        words: equally many of each source.
        cells: the table.
        sources: of what decides where a word does not.
    """
    columns = (words >> np.uint64(_WORD_BITS - _COLUMN_BITS)).view(np.int64)
    edges = cells.edges.take(columns)
    takes_second = words >= edges
    # A word that is the first bits of a threshold was counted as beyond it; its further bits decide.
    for at in np.flatnonzero(words == edges):
        threshold = cells.thresholds[columns[at]]
        takes_second[at] = _further(sources[int(at) * len(sources) // words.size]) >= threshold & ((1 << _FURTHER_BITS) - 1)
    columns += columns
    columns += takes_second
    return columns


def _accepted(
    digits: Words,
    cells: NDArray[np.int64],
    values: RingArray,
    table: _Table,
    sources: Sequence[ByteSource],
    source_of: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """Returns which candidates are kept: digits and a further word, as a number below 1, are below the probability.

    Args:
        digits: of each candidate.
        cells: the same.
        values: the same.
        table: of the deviation.
        sources: what the candidates were drawn from.
        source_of: of each candidate the place of its source, in order.
    """
    counts = np.bincount(source_of, minlength=len(sources)).tolist()
    words = np.concatenate([draw(source, (count,), "uint64") for source, count in zip(sources, counts, strict=True)])
    uniform = (digits + words * 2.0**-_WORD_BITS) / table.num_digits
    thresholds = _probabilities(cells, values, table.deviation)
    # Both factors of the exponent are exact whole numbers before they are divided. The probability errs by a few units of its
    # last place, as the number does: together below 2^-49, and the margin is 2^-40.
    kept: NDArray[np.bool_] = (uniform < thresholds) & (digits <= np.uint64(table.num_digits - 1))
    for at in np.flatnonzero(np.abs(uniform - thresholds) < _MARGIN):
        exponent = _exponent(int(cells[at]), int(values[at]), table.deviation)
        number = (((int(digits[at]) << _WORD_BITS) | int(words[at])) << _FURTHER_BITS) | _further(sources[source_of[at]])
        scaled = _scaled_exponential(exponent, _WORD_BITS + _FURTHER_BITS, table.num_digits)
        kept[at] = number < scaled and int(digits[at]) < table.num_digits
    return kept


def _probabilities(cells: NDArray[np.int64], values: RingArray, deviation: int) -> NDArray[np.float64]:
    """Returns exp(-(x^2 / (2 s^2) - k^2 / 512)) = exp(-(16 x - k s) (16 x + k s) / (512 s^2)) to within 2^-49."""
    places, edges = _PARTS * values, cells * deviation
    factor = (places - edges) / (_PARTS * deviation)
    probabilities: NDArray[np.float64] = np.exp(factor * ((places + edges) / (-2 * _PARTS * deviation)))
    return probabilities


def _exponent(cell: int, value: int, deviation: int) -> Fraction:
    return Fraction((_PARTS * value) ** 2 - (cell * deviation) ** 2, 2 * (_PARTS * deviation) ** 2)


def _further(source: ByteSource) -> int:
    """Returns 192 bits."""
    return int.from_bytes(source.take(_FURTHER_BITS // 8).tobytes(), "little")


def _width(deviation: int) -> int:
    return -(-deviation // _PARTS)


@dataclass(frozen=True, eq=False)
class _Cells:
    """How a word becomes a cell, for any deviation.

    Attributes:
        edges: (512,) by column: the word from which on it takes its second cell, but for further bits.
        thresholds: by column: the same without the column, as a number of 246 bits.
        cells: (1024,) int64: of every column the first and the second cell.
    """

    edges: Words
    thresholds: tuple[int, ...]
    cells: NDArray[np.int64]


@cache
def _cells() -> _Cells:
    column_mass = 1 << (_MASS_BITS - _COLUMN_BITS)
    masses = _masses() + [0] * (_COLUMNS - _CELLS)
    thresholds, others = [0] * _COLUMNS, list(range(_COLUMNS))
    small = [cell for cell, mass in enumerate(masses) if mass < column_mass]
    large = [cell for cell, mass in enumerate(masses) if mass >= column_mass]
    while small:
        # A column takes what is left of a cell that does not fill it, and the rest of a cell that does. The masses add up to that
        # of all columns, so there is such a cell; what is left in the end fills its columns alone.
        cell, other = small.pop(), large[-1]
        thresholds[cell], others[cell] = masses[cell], other
        masses[other] -= column_mass - masses[cell]
        if masses[other] < column_mass:
            small.append(large.pop())
    starts = (column << (_WORD_BITS - _COLUMN_BITS) for column in range(_COLUMNS))
    edges = [start | (threshold >> _FURTHER_BITS << 1) for start, threshold in zip(starts, thresholds, strict=True)]
    return _Cells(np.array(edges, np.uint64), tuple(thresholds), np.array(list(enumerate(others)), np.int64).reshape(-1))


def _masses() -> list[int]:
    """Returns the probabilities of the cells times 2^255, rounded down; the first has what is left."""
    with localcontext() as context:
        context.prec = _DIGITS
        ratio = int((Decimal(-1) / (2 * _PARTS**2)).exp() * 2**_WEIGHT_BITS)
    # exp(-(k + 1)^2 / 512) is exp(-k^2 / 512) times a ratio, which itself falls by one factor. Each of the 600 roundings costs a
    # unit of 2^-400.
    factor, weights = ratio * ratio >> _WEIGHT_BITS, [1 << _WEIGHT_BITS]
    for _ in range(_CELLS - 1):
        weights.append(weights[-1] * ratio >> _WEIGHT_BITS)
        ratio = ratio * factor >> _WEIGHT_BITS
    total = sum(weights)
    masses = [(weight << _MASS_BITS) // total for weight in weights]
    masses[0] += (1 << _MASS_BITS) - sum(masses)
    return masses


@dataclass(frozen=True, eq=False)
class _Table:
    """What depends on the deviation.

    Attributes:
        deviation: s.
        width: of a cell, h.
        num_digits: how many multiples of the width a word can be: 2^64 / h, rounded down.
        starts: (1024,) int64: k h, by column and which of its cells.
        surely_kept: (1024,): below how many digits a candidate is kept wherever in its cell it is.
    """

    deviation: int
    width: int
    num_digits: int
    starts: RingArray
    surely_kept: Words


@lru_cache(maxsize=64)
def _table(deviation: int) -> _Table:
    width, cells = _width(deviation), _cells().cells
    num_digits = (1 << _WORD_BITS) // width
    starts = cells * width
    least = _probabilities(cells, starts + (width - 1), deviation) * (1 - _MARGIN)
    return _Table(deviation, width, num_digits, starts, (least * num_digits).astype(np.uint64))


def _scaled_exponential(exponent: Fraction, bits: int, factor: int) -> int:
    """Returns exp(-exponent) * 2^bits * factor, rounded down."""
    with localcontext() as context:
        context.prec = _DIGITS
        return int((-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp() * 2**bits * factor)
