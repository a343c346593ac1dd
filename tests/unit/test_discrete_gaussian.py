"""The sampler of the discrete Gaussian against its definition, and the bounds that the accountant adds to delta."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, norm  # type: ignore[import-untyped]

from protocols import discrete_gaussian
from protocols.discrete_gaussian import MAX_DEVIATION, rounded_gaussian, sample, sample_each, sampler_distance, sum_distance
from protocols.errors import ConfideError
from tests.support.mpc_world import stream

COUNT = 400_000
CHANCE = 1e-7  # of a sound sampler failing one of the tests below, whose seeds are fixed


def probabilities(deviation: int, most: int) -> NDArray[np.float64]:
    """Of -most to most, from the definition."""
    weights = np.exp(-(np.arange(-most, most + 1) ** 2) / (2 * deviation**2))
    total = sum(math.exp(-(k**2) / (2 * deviation**2)) for k in range(-60 * deviation, 60 * deviation + 1))
    return np.asarray(weights / total)


@pytest.mark.parametrize("deviation", [1, 2, 3, 7, 10, 100])
def test_samples_have_the_probabilities_of_the_definition(deviation: int) -> None:
    samples = sample(stream(f"chi-squared {deviation}"), COUNT, deviation)
    most = 4 * deviation
    expected = COUNT * probabilities(deviation, most)
    counts = np.bincount(samples[np.abs(samples) <= most] + most, minlength=2 * most + 1)
    kept = expected >= 8
    outside = COUNT - expected[kept].sum()
    statistic = float(np.sum((counts[kept] - expected[kept]) ** 2 / expected[kept]))
    statistic += (COUNT - counts[kept].sum() - outside) ** 2 / outside
    assert chi2.sf(statistic, kept.sum()) > CHANCE


@pytest.mark.parametrize("deviation", [17, 1 << 20, (1 << 32) + 5, MAX_DEVIATION])
def test_samples_have_the_moments_and_the_tails_of_the_normal_distribution(deviation: int) -> None:
    values = sample(stream(f"moments {deviation}"), COUNT, deviation) / deviation
    z = norm.isf(CHANCE / 10)
    # Of the means of x, x^2, x^3, x^4 of a standard normal distribution: expectations and variances.
    for power, (mean, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], 1):
        assert abs(np.mean(values**power) - mean) < z * math.sqrt(variance / COUNT)
    for edge in (-4, -3, -2, -1, 0.5, 1.5, 2.5, 3.5):
        chance = norm.sf(abs(edge))
        # The grid puts at most a cell of 1 / deviation, of density below 0.4, on the other side.
        allowed = z * math.sqrt(chance / COUNT) + 1 / deviation
        assert abs(np.mean(values * np.sign(edge) > abs(edge)) - chance) < allowed


def test_equal_streams_give_equal_samples() -> None:
    one, two = sample(stream("x"), 100_001, 1 << 20), sample(stream("x"), 100_001, 1 << 20)
    assert np.array_equal(one, two)
    assert not np.array_equal(one[:100], sample(stream("y"), 100, 1 << 20))


def test_no_samples_take_nothing() -> None:
    assert sample(stream("x"), 0, 5).shape == (0,)


@pytest.mark.parametrize("deviation", [0, -1, MAX_DEVIATION + 1])
def test_deviation_outside_is_refused(deviation: int) -> None:
    with pytest.raises(ConfideError, match="from 1 to"):
        sample(stream("x"), 1, deviation)
    with pytest.raises(ConfideError, match="from 1 to"):
        sampler_distance(1, deviation)


@pytest.mark.parametrize("deviation", [1, 50, 1 << 40])
@pytest.mark.parametrize("count", [0, 1, 2_000, 270_000])
def test_samples_of_several_streams_are_those_of_each_alone(count: int, deviation: int) -> None:
    together = sample_each([stream(name) for name in "abc"], count, deviation)
    np.testing.assert_array_equal(together, [sample(stream(name), count, deviation) for name in "abc"])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_undecided_candidate_is_decided_by_its_own_stream(place: int) -> None:
    """A digit at the threshold: with further bits of zeros it is kept, with ones dropped, whatever the streams beside it say."""
    deviation, offset, cell = 1 << 40, 1 << 35, 16
    width = deviation // 16
    value, num_digits = cell * width + offset, 2**64 // width
    chance = math.exp(-(value**2 / (2 * deviation**2) - cell**2 / 512))
    second = int(chance * num_digits) * width + offset
    words = np.array([word_of(cell), second], np.uint64)
    for further, count in ((0, 1), (2**64 - 1, 0)):
        sources = [Chosen(words, np.full(1, further if other == place else 2**63, np.uint64)) for other in range(3)]
        assert discrete_gaussian._candidates(sources, 1, deviation)[place].size == count


class Chosen:
    """A stream whose first words are chosen; what follows is random."""

    def __init__(self, *words: NDArray[np.uint64]) -> None:
        self._words = list(words)
        self._rest = stream("what follows")

    def take(self, count: int) -> NDArray[np.uint8]:
        if not self._words:
            return self._rest.take(count)
        taken = self._words.pop(0).view(np.uint8)
        assert taken.size == count
        return taken


SIZE = 40


def word_of(cell: int) -> int:
    """A word, of a positive sign, that takes a cell: the middle of the widest part of a column that it has."""
    cells, parts = discrete_gaussian._cells(), list[tuple[int, int]]()
    for column, threshold in enumerate(cells.thresholds):
        start = column << 246
        parts += [(threshold, start)] if cells.cells[2 * column] == cell else []
        parts += [(2**246 - threshold, start + threshold)] if cells.cells[2 * column + 1] == cell else []
    size, start = max(parts)
    return (start + size // 2) >> 192


def candidates(cell_word: int, second_word: int, *further: int, deviation: int) -> NDArray[np.int64]:
    """All candidates of a batch from equal words; `further` is one number of 64 bits, then one of 192, for those undecided."""
    words = np.repeat(np.array([cell_word, second_word], np.uint64), SIZE)
    undecided, *rest = further or (0,)
    more = [np.full(SIZE, undecided, np.uint64)] if further else []
    bits = [np.frombuffer(each.to_bytes(24, "little"), np.uint64).copy() for each in rest for _ in range(SIZE)]
    (kept,) = discrete_gaussian._candidates([Chosen(words, *more, *bits)], SIZE, deviation)
    return kept


@pytest.mark.parametrize(
    ("deviation", "offset", "cell"),
    [(1 << 20, 65_535, 0), (1 << 40, 1 << 35, 16), ((1 << 44) - 3, 3 << 38, 40), (12_345, 700, 20)],
)
def test_keeping_is_decided_on_all_bits_where_a_float_could_err(deviation: int, offset: int, cell: int) -> None:
    width = -(-deviation // 16)
    num_digits = 2**64 // width
    value = cell * width + offset
    with localcontext() as context:
        context.prec = 160
        exponent = Fraction(256 * value**2 - (cell * deviation) ** 2, 512 * deviation**2)
        threshold = int((-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp() * 2**256 * num_digits)
    digits, word, rest = threshold >> 256, (threshold >> 192) & (2**64 - 1), threshold & (2**192 - 1)
    second = digits * width + offset
    # The largest number below the threshold keeps all candidates, the threshold itself drops them all; no float sees that.
    assert set(candidates(word_of(cell), second, word, rest - 1, deviation=deviation)) == {value}
    assert candidates(word_of(cell), second, word, rest, deviation=deviation).size == 0
    # Digits beside the threshold's decide alone.
    beside = max(num_digits >> 30, 1)
    assert candidates(word_of(cell), second - beside * width, deviation=deviation).size == SIZE
    assert candidates(word_of(cell), second + beside * width, deviation=deviation).size == 0


@pytest.mark.parametrize("column", [3, 40, 77])
def test_cell_is_decided_on_all_bits_at_a_threshold(column: int) -> None:
    cells = discrete_gaussian._cells()
    first, rest = cells.thresholds[column] >> 192, cells.thresholds[column] & (2**192 - 1)
    words = np.full(1, (column << 55) | (first << 1), np.uint64)
    for further, second in [(rest - 1, 0), (rest, 1)]:
        bits = np.frombuffer(further.to_bytes(24, "little"), np.uint64)
        assert discrete_gaussian._slots(words, cells, [Chosen(bits)]).tolist() == [2 * column + second]
    for beside, second in [(-2, 0), (2, 1)]:
        assert discrete_gaussian._slots(words + np.int64(beside).view(np.uint64), cells, [Chosen()]).tolist() == [
            2 * column + second
        ]


def test_columns_give_the_cells_the_probabilities_of_the_definition() -> None:
    cells = discrete_gaussian._cells()
    masses = [0] * 512
    for column, threshold in enumerate(cells.thresholds):
        masses[int(cells.cells[2 * column])] += threshold
        masses[int(cells.cells[2 * column + 1])] += 2**246 - threshold
    assert sum(masses) == 2**255
    assert not any(masses[304:])
    with localcontext() as context:
        context.prec = 120
        weights = [(Decimal(-k * k) / 512).exp() for k in range(400)]
        total = sum(weights)
        exact = [int(weight / total * 2**255) for weight in weights]
    # Each is rounded down once, and of a total that leaves out what is beyond; the first has what that makes in all.
    assert all(abs(mass - other) <= 2 for mass, other in zip(masses[1:304], exact[1:304], strict=True))
    assert 0 <= masses[0] - exact[0] < 2 * 304
    assert sum(weights[304:]) / total < Decimal(2) ** -255


@pytest.mark.parametrize("deviation", [1, 15, 16, 17, 1000, (1 << 35) + 7, MAX_DEVIATION])
def test_what_is_kept_at_once_is_below_the_probability_everywhere_in_its_cell(deviation: int) -> None:
    table, cells = discrete_gaussian._table(deviation), discrete_gaussian._cells().cells
    with localcontext() as context:
        context.prec = 60
        for slot in range(0, 1024, 7):
            cell = int(cells[slot])
            last = (cell + 1) * table.width - 1
            exponent = Fraction(256 * last**2 - (cell * deviation) ** 2, 512 * deviation**2)
            assert exponent >= 0
            least = (-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp() * table.num_digits
            assert least * (1 - Decimal(2) ** -39) - 1 <= int(table.surely_kept[slot]) <= least


def test_negative_zero_is_dropped_and_others_keep_their_sign() -> None:
    negative = 1 << 63
    assert candidates(negative | word_of(0), 0, deviation=50).size == 0
    assert set(candidates(word_of(0), 0, deviation=50)) == {0}
    assert set(candidates(negative | word_of(0), 3, deviation=50)) == {-3}
    assert set(candidates(negative | word_of(2), 3, deviation=50)) == {-11}


def test_words_beyond_the_last_multiple_of_the_width_are_dropped() -> None:
    largest = 2**64 // 7 * 7
    assert candidates(word_of(0), largest, 0, deviation=112).size == 0
    assert set(candidates(word_of(0), 7 * 1000 + 6, deviation=112)) == {6}


def test_a_sixteenth_of_one_is_sampled_too() -> None:
    """The smallest deviation has cells of one number, each wider than a sixteenth, and words of full size as digits."""
    assert set(candidates(word_of(1), 0, deviation=1)) == {1}
    assert candidates(word_of(1), 2**64 - 1, 2**64 - 1, deviation=1).size == 0


def test_sum_of_draws_is_as_near_to_one_draw_as_the_bound_says() -> None:
    # At a deviation of 1 the exact distance of two draws' sum can be computed, and the formula behind the bound too.
    one = probabilities(1, 40)
    total = np.convolve(one, one)
    exact = np.exp(-(np.arange(-80, 81) ** 2) / 4)
    distance = 0.5 * np.abs(total - exact / exact.sum()).sum()
    assert 1e-7 < distance <= 10 * math.exp(-(math.pi**2))
    assert 0 < sum_distance(2, 8) < 10 * math.exp(-(8**2) * 9) < 1e-200
    assert sum_distance(10, 8) >= 9 * sum_distance(2, 8) / 2
    assert sum_distance(3, 1 << 20) == 2.0**-1000


def test_distances_of_samples_add_up() -> None:
    assert sampler_distance(10**9, 1 << 20) <= 2.0**-170
    assert sampler_distance(2, 5) == 2 * sampler_distance(1, 5)


@pytest.mark.parametrize("owners", [0, -1])
def test_sum_of_nobody_is_refused(owners: int) -> None:
    with pytest.raises(ConfideError):
        sum_distance(owners, 100)


def test_rounding_a_smaller_normal_distribution_gives_the_discrete_one() -> None:
    """The claim of `rounded_gaussian` by integration, at deviations at which its error can be seen."""
    wide, narrow = 2.0, 0.7
    grid = np.linspace(-14, 14, 28_001)
    density = norm.pdf(grid, scale=math.sqrt(wide**2 - narrow**2))
    whole = np.arange(-20, 21)
    rounding = np.exp(-((whole[:, None] - grid[None, :]) ** 2) / (2 * narrow**2))
    rounding /= rounding.sum(axis=0)
    found = (rounding * density).sum(axis=1) * (grid[1] - grid[0])
    exact = np.exp(-(whole**2) / (2 * wide**2))
    distance = 0.5 * np.abs(found - exact / exact.sum()).sum()
    assert distance <= 12 * math.exp(-2 * (math.pi * narrow) ** 2)
    smaller, bound = rounded_gaussian(1 << 20)
    assert 0 < (1 << 20) - smaller < 1e-4
    assert bound < 2.0**-1000 * 2


def test_rounded_gaussian_refuses_small_deviations() -> None:
    with pytest.raises(ConfideError):
        rounded_gaussian(7)
