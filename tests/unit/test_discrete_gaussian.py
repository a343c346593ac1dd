"""The sampler of the discrete Gaussian against its definition, and the bounds that the accountant adds to delta."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal, localcontext

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, norm  # type: ignore[import-untyped]

from protocols import discrete_gaussian
from protocols.discrete_gaussian import MAX_DEVIATION, rounded_gaussian, sample, sample_each, sampler_distance, sum_distance
from protocols.discrete_gaussian import _candidates as candidates_of
from protocols.discrete_gaussian import _table as table_of
from protocols.errors import ConfideError
from tests.support.mpc_world import stream

COUNT = 400_000
CHANCE = 1e-7  # of a sound sampler failing one of the tests below, whose seeds are fixed


def probabilities(deviation: int, most: int) -> NDArray[np.float64]:
    """Of -most to most, from the definition."""
    weights = np.exp(-(np.arange(-most, most + 1) ** 2) / (2 * deviation**2))
    total = sum(math.exp(-(k**2) / (2 * deviation**2)) for k in range(-60 * deviation, 60 * deviation + 1))
    return np.asarray(weights / total)


@pytest.mark.parametrize("deviation", [1, 2, 3, 7, 10, 16, 100, 1000])
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


def test_no_streams_give_no_samples() -> None:
    assert sample_each([], 5, 5).shape == (0, 5)


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


class Chosen:
    """A stream whose first bytes are chosen, as it is asked for them, and which has no others."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = list(parts)

    def take(self, count: int) -> NDArray[np.uint8]:
        taken = self._parts.pop(0)
        assert len(taken) == count
        return np.frombuffer(taken, np.uint8)


def drawn(words: list[int], heights: list[int], deviation: int) -> bytes:
    """What a stream gives to so many candidates."""
    return np.array(words, table_of(deviation).word_type).tobytes() + np.array(heights, "<u4").tobytes()


def further(bits: int) -> bytes:
    return bits.to_bytes(24, "little")


def kept_of(place: int, offset: int, height: int, *rest: int, deviation: int) -> list[int]:
    """What is kept of one candidate: the whole stream is taken, `rest` are further bits."""
    source = Chosen(drawn([word_of(place, offset, deviation)], [height], deviation), *map(further, rest))
    (kept,) = candidates_of([source], 1, deviation)
    assert not source._parts
    return [int(value) for value in kept]


def word_of(place: int, offset: int, deviation: int) -> int:
    return place << int(table_of(deviation).place_shift) | offset


def curve_at(value: int, deviation: int, top: int) -> int:
    """Top * exp(-value^2 / (2 deviation^2)), rounded down."""
    with localcontext() as context:
        context.prec = 160
        return int((-(Decimal(value) ** 2) / (2 * Decimal(deviation) ** 2)).exp() * top)


def near_the_curve(deviation: int, value: int, top: int) -> tuple[int, int, int]:
    """The row, the height and the further bits of the first point that is not below the curve."""
    point = curve_at(value, deviation, top << 224)
    return point >> 224, (point >> 192) & (2**32 - 1), point & (2**192 - 1)


def place_at(deviation: int, value: int, row: int) -> int:
    """The place of the rectangle that the curve passes, of a value's cell and a row."""
    table = table_of(deviation)
    starts = table.starts[: table.tail_place]
    (place,) = np.flatnonzero((starts == value >> table.offset_bits << table.offset_bits) & (table.rows[: starts.size] == row))
    return int(place)


# With cells of one number, words of 32 and of 64 bits, and the longest. At 9 a larger curve would leave the tails no place.
DEVIATIONS = [1, 2, 9, 15, 16, 17, 1000, 12_345, 10 << 20, (1 << 24) - 1, 1 << 24, (1 << 35) + 7, (1 << 44) - 3, MAX_DEVIATION]


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_rectangles_cover_the_curve_and_those_below_it_are_below_it(deviation: int) -> None:
    table, top = table_of(deviation), table_of(deviation).curve << 40
    width = 1 << table.offset_bits
    first = int(table.first_whole) >> int(table.place_shift)
    assert table.starts.size == 1 << 12
    assert table.tail_place < table.rows.size == first
    # A word's place and offset are bits of their own, and every number of a cell has the length of a word.
    assert int(table.offset_mask) == width - 1 < 1 << int(table.place_shift)
    assert 12 + int(table.place_shift) == 8 * table.word_type.itemsize == 8 * table.starts.itemsize
    whole = Counter(table.starts[first:].tolist())
    passed: dict[int, list[int]] = {}
    for start, row in zip(table.starts[: table.tail_place].tolist(), table.rows.tolist(), strict=False):
        passed.setdefault(start, []).append(int(row))
    reach = table.num_cells * width
    assert passed.keys() == set(range(-reach, reach, width)) >= whole.keys()
    for start, rows in passed.items():
        assert rows == list(range(whole[start], rows[-1] + 1))
        ends = curve_at(start, deviation, top), curve_at(start + width - 1, deviation, top)
        assert whole[start] << 40 <= min(ends)
        assert (rows[-1] + 1) << 40 > max(ends)


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_no_larger_curve_has_room_in_the_rectangles(deviation: int) -> None:
    table = table_of(deviation)
    width = 1 << table.offset_bits

    def rectangles(curve: int) -> int:
        return 2 * sum(curve_at(cell * width, deviation, curve) + 1 for cell in range(table.num_cells))

    assert rectangles(table.curve) == table.tail_place + 4096 - table.rows.size < 4096 <= rectangles(table.curve + 1)


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_tails_are_within_the_margin_and_reach_to_where_nothing_is_kept(deviation: int) -> None:
    table = table_of(deviation)
    first, count = table.num_cells << table.offset_bits, 1 << table.tail_bits - 1
    assert 7 * deviation <= first
    top = table.curve << table.tail_bits - table.offset_bits
    assert curve_at(first, deviation, top << 224) < 1 << 224 - 19
    assert first + count >= 19 * deviation
    assert curve_at(19 * deviation, deviation, top << 224) == 0


@pytest.mark.parametrize("deviation", [*range(1, 40), *DEVIATIONS, 255, 256, 257])
def test_share_that_is_kept_is_the_area_below_the_curve(deviation: int) -> None:
    share, size = table_of(deviation).kept_share, 1 << 16
    assert share > 0.5
    assert share > 0.9 or deviation < 16
    (kept,) = candidates_of([stream(f"share {deviation}")], size, deviation)
    assert abs(kept.size - size * share) < norm.isf(CHANCE) * math.sqrt(size * share * (1 - share))


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_samples_are_those_of_whole_numbers_alone(deviation: int) -> None:
    """Every candidate decided without a float, from the same bytes."""
    table, size, source = table_of(deviation), 3_000, stream(f"whole {deviation}")
    words = source.take(size * table.word_type.itemsize).view(table.word_type).tolist()
    heights = source.take(4 * size).view("<u4").tolist()
    expected = []
    for word, height in zip(words, heights, strict=True):
        place = word >> int(table.place_shift)
        value = int(table.starts[place]) + word % (1 << table.offset_bits)
        if place < table.rows.size:
            # No point of this stream is so near to the curve that 192 further bits matter, nor is any of a tail kept.
            point = (int(table.rows[place]) << 32) + height
            curve = curve_at(value, deviation, table.curve << 32)
            assert abs(point - curve) > 1
            if point > curve or place == table.tail_place:
                continue
        expected.append(value)
    (kept,) = candidates_of([stream(f"whole {deviation}")], size, deviation)
    assert kept.tolist() == expected


@pytest.mark.parametrize(
    ("deviation", "value"),
    [
        (1, -2),
        (12_345, 700),
        (10 << 20, 65_535),
        (10 << 20, -(30 << 20)),
        (1 << 40, 1 << 41),
        ((1 << 44) - 3, -(3 << 38)),
    ],
)
def test_point_is_decided_on_all_bits_where_a_float_could_err(deviation: int, value: int) -> None:
    table = table_of(deviation)
    row, height, rest = near_the_curve(deviation, value, table.curve)
    place, offset = place_at(deviation, value, row), value % (1 << table.offset_bits)
    # The point below it is kept, the point itself dropped; no float sees that.
    assert kept_of(place, offset, height, rest - 1, deviation=deviation) == [value]
    assert kept_of(place, offset, height, rest, deviation=deviation) == []
    # Heights beside that one decide alone, whether or not they are within the margin of 2^14.
    for distance in (1, (1 << 14) - 1, 1 << 15):
        assert kept_of(place, offset, height - distance, deviation=deviation) == [value]
        assert kept_of(place, offset, height + distance, deviation=deviation) == []


@pytest.mark.parametrize("deviation", [3, 16, 12_345, 10 << 20, MAX_DEVIATION])
def test_samples_and_what_they_take_are_the_same_whatever_a_float_leaves_undecided(
    deviation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose exponential errs otherwise has others within the margin; with equal seeds it must draw the same."""
    found = []
    for margin in (2.0**-18, 2.0**-9):
        monkeypatch.setattr(discrete_gaussian, "_MARGIN", margin)
        source = stream(f"margin {deviation}")
        found.append((sample(source, 20_000, deviation).tolist(), source.take(16).tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("deviation", [1, 17, 10 << 20, 1 << 40])
def test_all_points_of_zero_below_the_top_of_the_curve_are_kept(deviation: int) -> None:
    top = table_of(deviation).curve
    assert kept_of(place_at(deviation, 0, top - 1), 0, 2**32 - 1, deviation=deviation) == [0]
    assert kept_of(place_at(deviation, 0, top), 0, 0, deviation=deviation) == []


@pytest.mark.parametrize("deviation", [1, 17, 10 << 20, 1 << 40])
@pytest.mark.parametrize("side", [0, 1])
def test_numbers_of_the_tails_are_chosen_and_decided_on_all_bits(deviation: int, side: int) -> None:
    table = table_of(deviation)
    place, first = table.tail_place, table.num_cells << table.offset_bits
    top = table.curve << table.tail_bits - table.offset_bits
    for distance in (0, 1, deviation):
        value = -1 - first - distance if side else first + distance
        chosen = 2 * distance + side | 5 << table.tail_bits  # bits beyond those of the tails do not matter
        row, height, rest = near_the_curve(deviation, value, top)
        assert row == 0
        assert kept_of(place, 0, height, chosen, rest - 1, deviation=deviation) == [value]
        assert kept_of(place, 0, height, chosen, rest, deviation=deviation) == []
    assert kept_of(place, 0, 0, (1 << table.tail_bits) - 2 + side, deviation=deviation) == []
    for height in (1 << 13, (1 << 14) - 1, 1 << 15):
        assert kept_of(place, 0, height, deviation=deviation) == []


@pytest.mark.parametrize("deviation", [1, 16, 10 << 20, 1 << 40])
def test_rectangle_below_the_curve_gives_its_number_and_an_unused_place_nothing(deviation: int) -> None:
    table = table_of(deviation)
    offset = (1 << table.offset_bits) - 1
    for place in (table.rows.size, 4095):
        assert kept_of(place, offset, 2**32 - 1, deviation=deviation) == [int(table.starts[place]) + offset]
    for place in range(table.tail_place + 1, table.rows.size):
        assert kept_of(place, 0, 0, deviation=deviation) == []


@pytest.mark.parametrize("owner", [0, 1, 2])
def test_candidate_is_decided_by_further_bits_of_its_own_stream(owner: int) -> None:
    deviation, value = 10 << 20, 65_535
    row, height, rest = near_the_curve(deviation, value, table_of(deviation).curve)
    place, offset = place_at(deviation, value, row), value % (1 << table_of(deviation).offset_bits)
    undecided, other = word_of(place, offset, deviation), word_of(4095, 0, deviation)
    for bits, kept in ((rest - 1, 2), (rest, 1)):
        sources = [Chosen(drawn([other, other], [0, height], deviation)) for _ in range(3)]
        sources[owner] = Chosen(drawn([other, undecided], [0, height], deviation), further(bits))
        found = candidates_of(sources, 2, deviation)
        assert [each.size for each in found] == [kept if here == owner else 2 for here in range(3)]


def test_candidates_nearly_always_suffice_at_once() -> None:
    """Four deviations of their number more than are expected: a stream falls short with a chance of 3 in 100,000."""
    for count in (1, 40, 3_300):
        size = discrete_gaussian._num_candidates(count, 10 << 20)
        assert size < 1.1 * count + 24
        kept = [candidates_of([stream(f"{count} {seed}")], size, 10 << 20)[0].size for seed in range(100)]
        assert min(kept) >= count


def test_samples_go_on_where_a_stream_keeps_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discrete_gaussian, "_num_candidates", lambda count, deviation: count // 3 + 1)
    together = sample_each([stream(name) for name in "ab"], 1_000, 1 << 20)
    expected = []
    for name in "ab":
        source, found = stream(name), np.empty(0, np.int64)
        while found.size < 1_000:
            (kept,) = candidates_of([source], (1_000 - found.size) // 3 + 1, 1 << 20)
            found = np.concatenate([found, kept])
        expected.append(found)
    np.testing.assert_array_equal(together, expected)


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
