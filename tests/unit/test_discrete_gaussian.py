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
from protocols.discrete_gaussian import MAX_DEVIATION, rounded_gaussian, sample, sampler_distance, sum_distance
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


def words(size: int, value: int) -> NDArray[np.uint64]:
    return np.full(size, value, np.uint64)


def first_candidates(cell_word: int, offset_word: int, keep_word: int, further: int, deviation: int) -> NDArray[np.int64]:
    """All candidates of a batch from equal words, with equal further bits."""
    size, reserve = 40, discrete_gaussian._RESERVE
    bits = np.frombuffer(further.to_bytes(24, "little") * reserve, np.uint64)
    source = Chosen(words(size, cell_word), words(size, offset_word), words(size, keep_word), bits)
    return discrete_gaussian._candidates(source, size, deviation)


@pytest.mark.parametrize(
    ("deviation", "offset", "cell"),
    [(1 << 20, 777_777, 0), (1 << 40, 1 << 39, 1), ((1 << 44) - 3, 3 << 42, 3), (12_345, 12_344, 2)],
)
def test_keeping_is_decided_on_all_bits_where_a_float_could_err(deviation: int, offset: int, cell: int) -> None:
    coarse, _ = discrete_gaussian._thresholds()
    below = 0 if cell == 0 else int(coarse[cell - 1])
    cell_word = (below + 5) << 1
    with localcontext() as context:
        context.prec = 120
        exponent = Fraction(offset * (2 * cell * deviation + offset), 2 * deviation**2)
        threshold = int((-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp() * 2**256)
    first, rest = threshold >> 192, threshold & (2**192 - 1)
    value = cell * deviation + offset
    # The largest number below the threshold keeps all candidates, the threshold itself drops them all; no float sees that.
    assert set(first_candidates(cell_word, offset, first, rest - 1, deviation)) == {value}
    assert first_candidates(cell_word, offset, first, rest, deviation).size == 0
    # A word beside the threshold's decides alone.
    assert first_candidates(cell_word, offset, first - 1, 2**192 - 1, deviation).size == 40
    assert first_candidates(cell_word, offset, first + 1, 0, deviation).size == 0


@pytest.mark.parametrize("cell", [1, 2, 9, 18])
def test_cell_is_decided_on_all_bits_at_a_threshold(cell: int) -> None:
    _, fine = discrete_gaussian._thresholds()
    threshold = fine[cell - 1]
    first, rest = threshold >> 192, threshold & (2**192 - 1)
    assert set(first_candidates(first << 1, 0, 0, rest, 1000)) == {1000 * cell}
    below = first_candidates(first << 1, 0, 0, rest - 1, 1000) if rest else first_candidates((first - 1) << 1, 0, 0, 0, 1000)
    assert set(below) == {1000 * (cell - 1)}


def test_thresholds_are_those_of_the_definition() -> None:
    _, fine = discrete_gaussian._thresholds()
    total = sum(math.exp(-(k**2) / 2) for k in range(60))
    for cell, threshold in enumerate(fine):
        below = math.fsum(math.exp(-(k**2) / 2) for k in range(cell + 1)) / total
        assert threshold / 2**255 == pytest.approx(below, rel=1e-14)
    # What is beyond the table is less than what its thresholds lose by rounding.
    assert math.exp(-(19**2) / 2) < 2.0**-255


def test_negative_zero_is_dropped_and_others_keep_their_sign() -> None:
    assert first_candidates(1, 0, 0, 0, 50).size == 0
    assert set(first_candidates(0, 0, 0, 0, 50)) == {0}
    assert set(first_candidates(1, 3, 0, 0, 50)) == {-3}


def test_offset_words_beyond_the_last_multiple_are_dropped() -> None:
    largest = 2**64 // 10 * 10
    assert first_candidates(0, largest, 0, 0, 10).size == 0
    assert set(first_candidates(0, largest - 1, 0, 0, 10)) == {9}


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
