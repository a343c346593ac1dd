"""ReLU, selection, staircases, one-off products and equality with zero: exact over the whole ring."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.maximum import equal_zero
from protocols.mpc.primitives.multiplication import multiply, truncate_and_multiply
from protocols.mpc.primitives.relu import relu, select
from protocols.mpc.primitives.staircase import staircase, threshold_bits
from tests.support.mpc_world import random_ring, run_protocol, split

BORDERS = [0, 1, -1, 2**62, -(2**62), 2**63 - 1, -(2**63), 2**16, -(2**16)]
PARTIES = pytest.mark.parametrize("num_parties", [2, 3, 5])


def ring_with_borders(count: int) -> np.ndarray:
    values = random_ring(1, (count,))
    values[: len(BORDERS)] = BORDERS
    return values


def each(parts: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    return [list(mine) for mine in zip(*parts, strict=True)]


@PARTIES
def test_relu_over_the_whole_ring_is_exact_and_gives_its_bit(num_parties: int) -> None:
    values = ring_with_borders(8_000)

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        return np.stack((yield from relu(engine, mine[0].reshape(80, 100))))

    run = run_protocol(protocol, each([split(values, num_parties)]))
    value, bit = run.value.reshape(2, -1)
    assert np.array_equal(value, np.maximum(values, 0))
    assert np.array_equal(bit, (values >= 0).astype(np.int64))
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (4, 12.25 * 8_000, 60.125 * 8_000)


@PARTIES
def test_select_keeps_what_the_bit_keeps(num_parties: int) -> None:
    bit, one, two = random_ring(1, (500,)) & 1, random_ring(2, (500,)), random_ring(3, (500,))

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        return np.stack((yield from select(engine, *mine)))

    run = run_protocol(protocol, each([split(part, num_parties, seed) for seed, part in enumerate((bit, one, two))]))
    assert np.array_equal(run.value, np.stack([bit * one, bit * two]))
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (1, 3 * 8 * 500, 2 * 8 * 500)


@PARTIES
def test_backward_of_relu_from_the_saved_bit_is_exact(num_parties: int) -> None:
    values, gradient = random_ring(4, (64,)), random_ring(5, (64,))

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        _, bit = yield from relu(engine, mine[0])
        return (yield from select(engine, bit, mine[1]))[0]

    run = run_protocol(protocol, each([split(values, num_parties, 1), split(gradient, num_parties, 2)]))
    assert np.array_equal(run.value, np.where(values >= 0, gradient, 0))


@PARTIES
def test_products_used_once_wrap_and_broadcast_like_the_ring(num_parties: int) -> None:
    left, right = random_ring(1, (7, 4)), random_ring(2, (7, 1))
    parts = each([split(left, num_parties, 1), split(right, num_parties, 2)])
    run = run_protocol(lambda engine, mine: multiply(engine, *mine), parts)
    assert np.array_equal(run.value, left * right)
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (1, 8 * (28 + 7), 8 * 28)


@PARTIES
def test_truncation_times_a_factor_is_a_multiple_of_the_factor_next_to_the_quotient(num_parties: int) -> None:
    top = 2**62
    values = np.concatenate([[0, 1, -1, top - 1, -top], np.random.default_rng(1).integers(-top, top, 995)]).reshape(200, 5)
    factor = np.random.default_rng(2).integers(1, 2**20, (200, 1))
    parts = each([split(values, num_parties, 1), split(factor, num_parties, 2)])
    run = run_protocol(lambda engine, mine: truncate_and_multiply(engine, mine[0], 33, mine[1]), parts)
    quotient, remainder = np.divmod(run.value, factor)
    assert not remainder.any()
    assert np.isin(quotient - (values >> 33), (0, 1)).all()
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (1, 8 * 1_200, 32 * 1_000)


@PARTIES
def test_staircase_gives_constants_and_multiples_between_its_thresholds(num_parties: int) -> None:
    thresholds = [-(2**40), -5, 0, 7, 2**61]
    values = np.concatenate([[t + d for t in thresholds for d in (-1, 0, 1)], random_ring(3, (801,)) >> 1])
    constants, factors = [9, -3, 2**62, 0, 5, -1], [1, -1, 2**50, 3, 0, 7]

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        steps = yield from staircase(engine, mine[0], thresholds)
        return np.stack([steps.piecewise(constants), steps.piecewise_linear(factors)])

    run = run_protocol(protocol, each([split(values, num_parties)]))
    reached = np.searchsorted(thresholds, values, side="right")
    assert np.array_equal(run.value[0], np.array(constants)[reached])
    assert np.array_equal(run.value[1], np.array(factors)[reached] * values)
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (4, (8 + 5 * 4.25) * 816, (32.125 + 5 * 28) * 816)


@PARTIES
def test_thresholds_of_a_tensor_are_tested_exactly(num_parties: int) -> None:
    values = np.arange(-100, 100).reshape(10, 20)
    run = run_protocol(lambda engine, mine: threshold_bits(engine, mine[0], (-7, 0, 3)), each([split(values, num_parties)]))
    assert np.array_equal(run.value, np.stack([values >= -7, values >= 0, values >= 3]).astype(np.int64))


@PARTIES
def test_equality_with_zero_over_the_ring_is_exact(num_parties: int) -> None:
    values = np.concatenate([np.zeros(100, np.int64), ring_with_borders(900)])
    values[values == -(2**63)] = 5  # outside of the domain
    run = run_protocol(lambda engine, mine: equal_zero(engine, mine[0]), each([split(values, num_parties)]))
    assert np.array_equal(run.value, (values == 0).astype(np.int64))
    assert (run.rounds, run.opened_bytes, run.correction_bytes) == (4, 16.5 * 1_000, 72.125 * 1_000)
