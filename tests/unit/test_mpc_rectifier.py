"""Rectifiers with a truncation, gates by their saved bit, and products that a truncation takes in, against plain integers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from protocols.errors import ConfideError
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.products import partial_product
from protocols.mpc.primitives.relu import SavedBit, gate, rectify
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.values import PartialShare, SharedValue, ValueView
from tests.support.mpc_world import random_ring, run_protocol, split

TOP = 2**62
PARTIES = pytest.mark.parametrize("num_parties", [2, 3, 5])


def domain(count: int, shift: int, seed: int = 1) -> np.ndarray:
    """Numbers over the domain of truncation, with its borders and both sides of every unit around zero."""
    unit = 1 << shift
    near = [m * unit + d for m in (-2, -1, 0, 1, 2) for d in (-1, 0, 1)]
    values = np.random.default_rng(seed).integers(-TOP, TOP, count)
    values[: len(near) + 2] = [TOP - 1, -TOP, *near]
    return values


def each(*parts: list[np.ndarray]) -> list[list[np.ndarray]]:
    return [list(mine) for mine in zip(*parts, strict=True)]


def top_bytes(shift: int) -> int:
    """Bytes of the number that holds shift + 1 bits."""
    return 0 if shift == 0 else next(size for size in (1, 2, 4, 8) if shift <= 8 * size)


@PARTIES
@pytest.mark.parametrize(
    ("shift", "rounds", "opened", "tables"),
    [(0, 4, 12.25, 44.125), (7, 4, 11.75, 36.625), (24, 4, 10.625, 24.625), (33, 4, 10, 20.875), (47, 3, 8.875, 10)],
)
def test_rectifier_with_a_truncation_is_exact_on_the_truncated_value(
    num_parties: int, shift: int, rounds: int, opened: float, tables: float
) -> None:
    values = domain(8_000, shift)

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        result = yield from rectify(engine, mine[0], shift)
        return np.stack([result.kept, result.whole, result.bit.share(engine)])

    run = run_protocol(protocol, each(split(values, num_parties)))
    kept, whole, bit = run.value
    assert np.isin(whole - (values >> shift), (0, 1)).all()
    assert np.array_equal(kept, np.maximum(whole, 0))
    assert np.array_equal(bit, (whole >= 0).astype(np.int64))
    # The flips as numbers and the high part times them; with a truncation the high part, and the top bit twice.
    dealt = 16 + (8 if shift else 0) + 2 * top_bytes(shift)
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (rounds, opened * 8_000, (tables + dealt) * 8_000)


@PARTIES
@pytest.mark.parametrize("shift", [0, 12, 40])
def test_gate_keeps_the_truncated_value_where_the_saved_bit_is_one(num_parties: int, shift: int) -> None:
    values, gradient = random_ring(4, (30, 20)), domain(600, shift, 5).reshape(30, 20)

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        rectified = yield from rectify(engine, mine[0], 0)
        gated = yield from gate(engine, mine[1], rectified.bit, shift)
        return np.stack([gated.kept, gated.whole])

    run = run_protocol(protocol, each(split(values, num_parties, 1), split(gradient, num_parties, 2)))
    kept, whole = run.value
    assert np.isin(whole - (gradient >> shift), (0, 1)).all()
    assert np.array_equal(kept, np.where(values >= 0, whole, 0))
    assert run.rounds == 5
    dealt = 8 + (8 if shift else 0) + 2 * top_bytes(shift)
    assert (run.opened_bytes, run.correction_bytes) == ((12.25 + 8) * 600, (60.125 + dealt) * 600)


def test_gate_of_another_shape_is_refused() -> None:
    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        rectified = yield from rectify(engine, mine[0], 0)
        return (yield from gate(engine, mine[0][:3], rectified.bit, 0)).kept

    with pytest.raises(ConfideError, match="shape"):
        run_protocol(protocol, [[np.zeros(4, np.int64)]] * 2)


def test_rectifier_of_an_unsupported_shift_is_refused() -> None:
    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        return (yield from rectify(engine, mine[0], 59)).kept

    with pytest.raises(ConfideError, match="59 bits"):
        run_protocol(protocol, [[np.zeros(4, np.int64)]] * 2)


def test_saved_bit_shows_and_pickles_nothing() -> None:
    bit = SavedBit(1, 1, np.array([True]), np.array([12345]))
    assert "12345" not in repr(bit)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(bit)


@PARTIES
def test_product_that_a_truncation_takes_in_costs_no_correction_of_its_own(num_parties: int) -> None:
    left, right = random_ring(1, (9, 4)) >> 36, random_ring(2, (4, 5)) >> 36
    added = random_ring(3, (9, 5)) >> 3

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        x, y = (ValueView(SharedValue(share, scale_bits=16, magnitude_bits=28)) for share in mine[:2])
        product = yield from partial_product(engine, x, y)
        summed = product.times(-3).plus(PartialShare(mine[2]))
        first = yield from truncate(engine, summed, 20)
        rectified = yield from rectify(engine, product.transpose().contiguous(), 16)
        return np.concatenate([first.reshape(-1), rectified.whole.T.reshape(-1), rectified.kept.T.reshape(-1)])

    parts = each(*(split(value, num_parties, seed) for seed, value in enumerate((left, right, added))))
    run = run_protocol(protocol, parts)
    first, whole, kept = run.value.reshape(3, 9, 5)
    assert np.isin(first - ((added - 3 * (left @ right)) >> 20), (0, 1)).all()
    assert np.isin(whole - ((left @ right) >> 16), (0, 1)).all()
    assert np.array_equal(kept, np.maximum(whole, 0))
    assert not any(getattr(operation, "kind", "") in ("product", "shares_of_kept") for operation in run.operations)


@PARTIES
def test_partial_product_gives_whole_shares_where_they_are_asked_for(num_parties: int) -> None:
    left, right = random_ring(1, (6, 4)), random_ring(2, (4, 3))

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        x, y = (ValueView(SharedValue(share, scale_bits=16, magnitude_bits=20)) for share in mine)
        product = yield from partial_product(engine, x, y)
        whole = [product.whole(), product.transpose().whole().T, product.times(2**60).whole(), product.times(-7).whole()]
        value = SharedValue(product, scale_bits=32, magnitude_bits=40)
        return np.stack([*whole, value.share, ValueView(value).transpose.share.T])

    run = run_protocol(protocol, each(split(left, num_parties, 1), split(right, num_parties, 2)))
    expected = left @ right
    factors = (1, 1, 2**60, -7, 1, 1)
    assert np.array_equal(run.value, np.stack([expected * np.int64(factor) for factor in factors]))


def test_product_of_another_segment_is_refused() -> None:
    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        x = ValueView(SharedValue(mine[0], scale_bits=16, magnitude_bits=20))
        product = yield from partial_product(engine, x, x.transpose)
        with engine.segment(None):
            return product.whole()

    with pytest.raises(ConfideError, match="another segment"):
        run_protocol(protocol, [[np.ones((2, 2), np.int64)]] * 2)
