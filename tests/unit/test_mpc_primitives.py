"""Truncation, comparison, products and refresh against plain integers, at the borders of their domains."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.combination import Combination
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.material.context import Window
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.products import elementwise, partial_product, product
from protocols.mpc.primitives.refresh import Refresher
from protocols.mpc.primitives.truncation import truncate, truncate_roughly
from protocols.mpc.values import SharedValue, ValueView
from protocols.plan.operations import Deal, Open
from protocols.ring import packed_size
from tests.support.mpc_world import random_ring, run_protocol, split, stream

TOP = 2**62
BORDERS = [0, 1, -1, TOP - 1, -TOP, TOP // 2, -(TOP // 2), 2**16, -(2**16), 2**33 - 1, -(2**33)]


def value_of(share: np.ndarray, *, scale_bits: int = 16, magnitude_bits: int = 20) -> SharedValue:
    return SharedValue(share, scale_bits=scale_bits, magnitude_bits=magnitude_bits)


@pytest.mark.parametrize("num_parties", [2, 3, 5])
@pytest.mark.parametrize(("shift", "top_bytes"), [(1, 1), (8, 1), (9, 2), (16, 2), (31, 4), (32, 4), (33, 8), (62, 8)])
def test_truncation_at_the_borders_is_at_most_one_unit_high(num_parties: int, shift: int, top_bytes: int) -> None:
    values = np.concatenate([np.array(BORDERS), np.random.default_rng(shift).integers(-TOP, TOP, 20_000)])
    run = run_protocol(lambda engine, mine: truncate(engine, mine[0], shift), [[s] for s in split(values, num_parties)])
    error = run.value - (values >> shift)
    assert error.min() >= 0
    assert error.max() <= 1
    opened, dealt = (packed_size(values.size), 0) if num_parties == 2 else (8 * values.size, 8)
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (1, opened, (dealt + top_bytes) * values.size)


@pytest.mark.parametrize("num_parties", [2, 3, 5])
@pytest.mark.parametrize(("shift", "top_bytes"), [(32, 4), (33, 8), (40, 8), (62, 8)])
def test_rough_truncation_at_the_borders_errs_as_little_as_its_page_says(num_parties: int, shift: int, top_bytes: int) -> None:
    borders = np.clip(BORDERS, -TOP + (num_parties << 32), TOP - (num_parties << 32))
    values = np.concatenate([borders, np.random.default_rng(shift).integers(borders.min(), borders.max() + 1, 20_000)])
    run = run_protocol(lambda engine, mine: truncate_roughly(engine, mine[0], shift), [[s] for s in split(values, num_parties)])
    # Exactly, since the quotient has up to 62 fractional bits: every share is rounded to 2^32 within half a unit of it; then the
    # sum is cut by the rest, which errs by less than a unit, or not at all.
    error = (run.value.astype(object) << shift) - values.astype(object)
    assert max(abs(error)) <= (num_parties << 31) + ((1 << shift) - 1 if shift > 32 else 0)
    opened, dealt = (packed_size(values.size), 0) if num_parties == 2 else (4 * values.size, 8)
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (1, opened, (dealt + top_bytes) * values.size)


def test_rough_truncation_by_few_bits_is_the_ordinary_one() -> None:
    values = np.array(BORDERS)
    rough = run_protocol(lambda engine, mine: truncate_roughly(engine, mine[0], 31), [[s] for s in split(values, 2)])
    plain = run_protocol(lambda engine, mine: truncate(engine, mine[0], 31), [[s] for s in split(values, 2)])
    assert rough.operations == plain.operations
    assert np.array_equal(rough.value, plain.value)


@pytest.mark.parametrize("num_parties", [2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_rough_truncation_of_a_product_takes_in_what_its_shares_lack(num_parties: int, transposed: bool) -> None:
    generator = np.random.default_rng(5)
    left, right = generator.integers(-(2**27), 2**27, (37, 16)), generator.integers(-(2**27), 2**27, (16, 21))

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        one, two = (ValueView(value_of(share, magnitude_bits=27)) for share in mine)
        partial = (yield from partial_product(engine, one, two)).times(-3)
        seen = partial.transpose().contiguous() if transposed else partial
        return (yield from truncate_roughly(engine, seen, 32))

    shares = [list(pair) for pair in zip(split(left, num_parties), split(right, num_parties, 99), strict=True)]
    run = run_protocol(protocol, shares)
    exact = -3 * (left @ right)
    error = run.value * 2.0**32 - (exact.T if transposed else exact)
    # The product of the masks is one part more that is rounded; a double is exact far below half a unit here.
    assert np.abs(error).max() <= (num_parties + 1) * 2.0**31
    # Rounding errs by 0 on average: 6 sigma of so many sums of n + 1 uniform numbers.
    assert abs(error.mean()) <= 6 * 2.0**32 * np.sqrt((num_parties + 1) / 12 / error.size)
    assert "shares_of_kept" not in {item.kind for item in run.operations if isinstance(item, Deal)}
    # Between two parties 4 of the masks' product and 4 of the wrap; among more 8 of the mask's high part and 4 of its top bit.
    assert run.correction_bytes == (8 if num_parties == 2 else 12) * error.size


@pytest.mark.parametrize("num_parties", [2, 3])
def test_truncation_of_a_product_takes_in_what_its_shares_lack(num_parties: int) -> None:
    generator = np.random.default_rng(6)
    left, right = generator.integers(-(2**27), 2**27, (37, 16)), generator.integers(-(2**27), 2**27, (16, 21))

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        one, two = (ValueView(value_of(share, magnitude_bits=27)) for share in mine)
        partial = yield from partial_product(engine, one, two)
        return (yield from truncate(engine, partial.plus(partial.times(-4)).transpose().contiguous(), 24))

    shares = [list(pair) for pair in zip(split(left, num_parties), split(right, num_parties, 99), strict=True)]
    run = run_protocol(protocol, shares)
    error = run.value - (-3 * (left @ right).T >> 24)
    assert error.min() >= 0
    assert error.max() <= 1
    assert run.correction_bytes == (8 + 4) * error.size


@pytest.mark.parametrize("num_parties", [2, 3])
@pytest.mark.parametrize("shift", [1, 16, 32, 47])
def test_truncation_of_whole_multiples_is_exact(num_parties: int, shift: int) -> None:
    multiples = np.random.default_rng(shift).integers(-(TOP >> shift), TOP >> shift, 5_000) << shift
    multiples[:2] = -TOP, TOP - (1 << shift)
    for seed in ("one", "two"):
        run = run_protocol(
            lambda engine, mine: truncate(engine, mine[0], shift), [[s] for s in split(multiples, num_parties)], seed=seed
        )
        assert np.array_equal(run.value, multiples >> shift)


@pytest.mark.parametrize("shift", [1, 8, 24, 62])
def test_truncation_between_two_parties_holds_for_every_way_to_share(shift: int) -> None:
    # The wrap is told by the top bits of the shares: shares at all borders of the ring, values at those of the domain.
    shares = np.array([place + step for place in (-(2**63), -TOP, 0, TOP, 2**63 - 5) for step in range(5)], np.int64)
    values = np.array([-TOP, -TOP + 1, -(1 << shift), -1, 0, 1, (1 << shift) - 1, TOP - 2, TOP - 1], np.int64)
    grid, first = (side.reshape(-1) for side in np.meshgrid(values, shares))
    for own in (first, grid - first):
        run = run_protocol(lambda engine, mine: truncate(engine, mine[0], shift), [[own], [grid - own]])
        error = run.value - (grid >> shift)
        assert error.min() >= 0
        assert error.max() <= 1


def test_truncation_between_two_parties_opens_bits_that_say_nothing() -> None:
    # Shares whose top bits are all alike: each party's message is a stream of even bits all the same.
    count = 1 << 16
    for place in (0, -(2**63)):
        own = np.full(count, place)
        run = run_protocol(lambda engine, mine, own=own: truncate(engine, mine[0], 16), [[own], [5 - own]])
        for sender, receiver in (("p0", "p1"), ("p1", "p0")):
            ((_, (sent,)),) = run.links[sender][receiver].log
            ones = int(np.bitwise_count(sent).sum())
            assert abs(ones - count / 2) <= 6 * np.sqrt(count) / 2


def test_truncation_of_ten_million_elements_never_misses_by_more_than_one_unit() -> None:
    size, batches = 1 << 18, 40
    assert size * batches >= 10**7
    values = np.random.default_rng(0).integers(-TOP, TOP, size)
    shares = [[s] for s in split(values, 2)]
    for batch in range(batches):
        # New masks in every batch; it is they, against the value, that a faulty rule would stumble over.
        run = run_protocol(lambda engine, mine: truncate(engine, mine[0], 16), shares, seed=str(batch))
        error = run.value - (values >> 16)
        assert error.min() >= 0
        assert error.max() <= 1


def test_truncation_errs_upwards_as_often_as_the_low_bits_say() -> None:
    # The functionality rounds by a uniform r: P(error = 1) = (x mod 2^f) / 2^f. 6 sigma of a binomial with p = 1/4.
    values = np.full(40_000, (5 << 16) + 2**14)
    run = run_protocol(lambda engine, mine: truncate(engine, mine[0], 16), [[s] for s in split(values, 2)])
    high = int((run.value - 5).sum())
    assert abs(high - 10_000) <= 6 * np.sqrt(40_000 * 0.25 * 0.75)


@pytest.mark.parametrize("num_parties", [2, 3])
def test_comparison_over_the_whole_ring_is_exact(num_parties: int) -> None:
    # An odd count leaves padding bits in every packed word.
    values = random_ring(1, (500_003 if num_parties == 2 else 100_003,))
    borders = [*BORDERS, 2**63 - 1, -(2**63), 2**62, -(2**62) - 1]
    values[: len(borders)] = borders
    run = run_protocol(lambda engine, mine: nonnegative(engine, mine[0]), [[s] for s in split(values, num_parties)])
    assert np.array_equal(run.value, (values >= 0).astype(np.int64))
    assert run.rounds == 4
    # 8 bytes, then 27 + 6 + 1 bits, each plane padded to whole bytes.
    assert 12.25 * values.size <= run.opened_bytes <= 12.25 * values.size + 35


def test_comparison_of_a_million_small_numbers_is_exact() -> None:
    values = np.arange(-500_000, 500_000)
    run = run_protocol(lambda engine, mine: nonnegative(engine, mine[0]), [[s] for s in split(values, 2)])
    assert np.array_equal(run.value, (values >= 0).astype(np.int64))


@pytest.mark.parametrize("num_parties", [2, 3])
def test_products_of_one_value_open_it_once(num_parties: int) -> None:
    left, right, other = random_ring(1, (7, 4)), random_ring(2, (4, 3)), random_ring(3, (7, 2))

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        x, y, z = (ValueView(value_of(share)) for share in mine)
        first = yield from product(engine, x, y)
        second = yield from product(engine, x.transpose, z)
        again = yield from product(engine, x, y)
        return np.concatenate([first.reshape(-1), second.reshape(-1), again.reshape(-1)])

    parts = [split(value, num_parties, seed) for seed, value in enumerate((left, right, other))]
    run = run_protocol(protocol, [[part[i] for part in parts] for i in range(num_parties)])
    expected = [(left @ right).reshape(-1), (left.T @ other).reshape(-1), (left @ right).reshape(-1)]
    assert np.array_equal(run.value, np.concatenate(expected))
    # x and y in one round, z in another, the repeated product in none; each is opened once.
    assert run.rounds == 2
    assert run.opened_bytes == 8 * (left.size + right.size + other.size)


def test_product_of_batch_rows_uses_the_rows_of_the_mask() -> None:
    rows, weights = random_ring(1, (9, 3)), random_ring(2, (3, 1))
    window = Window(2, 6)

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        return (yield from product(engine, ValueView(value_of(mine[0]), window=window), ValueView(value_of(mine[1]))))

    parts = [split(rows, 2, 1), split(weights, 2, 2)]
    run = run_protocol(protocol, [[part[i] for part in parts] for i in range(2)], window=window)
    assert np.array_equal(run.value, rows[2:6] @ weights)


def test_product_with_another_batch_s_rows_is_refused() -> None:
    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        view = ValueView(value_of(mine[0]), window=Window(0, 2))
        return (yield from product(engine, view, ValueView(value_of(mine[1]))))

    with pytest.raises(ConfideError, match="another batch"):
        run_protocol(protocol, [[np.zeros((4, 2), np.int64), np.zeros((2, 1), np.int64)]] * 2, window=Window(2, 4))


def test_elementwise_product_wraps_like_the_ring() -> None:
    left, right = random_ring(1, (50,)), random_ring(2, (50,))

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        return (yield from elementwise(engine, *(ValueView(value_of(share)) for share in mine)))

    parts = [split(left, 3, 1), split(right, 3, 2)]
    assert np.array_equal(run_protocol(protocol, [[part[i] for part in parts] for i in range(3)]).value, left * right)


def test_protocols_together_share_their_rounds() -> None:
    values = np.arange(-8, 8)

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        results = yield from together(truncate(engine, mine[0], 1), nonnegative(engine, mine[0]), truncate(engine, mine[0], 2))
        return np.stack(results)

    run = run_protocol(protocol, [[s] for s in split(values, 2)])
    assert run.rounds == 4
    names = [operation.name for operation in run.operations if isinstance(operation, Open)]
    assert names == ["truncation + comparison", "comparison tree", "comparison tree", "comparison result"]
    assert np.array_equal(run.value[1], (values >= 0).astype(np.int64))


def test_value_beyond_the_domain_is_refused_before_it_is_computed() -> None:
    with pytest.raises(ConfideError) as caught:
        value_of(np.zeros(1, np.int64), magnitude_bits=63)
    assert caught.value.code is ErrorCode.INVALID_MODEL


def test_shared_values_show_and_pickle_nothing() -> None:
    value = value_of(np.array([12345]))
    assert "12345" not in repr(value) + repr(ValueView(value)) + repr(Combination.of(value))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(value)


@pytest.mark.parametrize("num_parties", [2, 3, 4])
def test_refreshed_shares_give_the_same_value_and_are_new(num_parties: int) -> None:
    value = random_ring(5, (100,))
    before = split(value, num_parties)
    after = []
    for index in range(num_parties):
        streams = {o: stream(f"{min(index, o)}-{max(index, o)}") for o in range(num_parties) if o != index}
        after.append(Refresher(index, streams).refresh(before[index]))
    assert np.array_equal(sum(after[1:], after[0]), value)
    assert all(not np.isin(a, b).any() for a, b in zip(before, after, strict=True))
