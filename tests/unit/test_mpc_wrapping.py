"""Truncation between two parties: exact for all top bytes of value and share, hidden by fresh bits, fair in rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.truncation import truncate, truncate_roughly
from tests.support.mpc_world import ProtocolRun, random_ring, run_protocol

TOP = 2**62
# Every top byte that a value of the domain can have beside every top byte that a share can have: all that decides the wrap.
VALUES, SHARES = (side.reshape(-1).astype(np.int64) << 56 for side in np.meshgrid(np.arange(-64, 64), np.arange(-128, 128)))
LOW = 2**56 - 1


@pytest.mark.parametrize("shift", [1, 7, 8, 16, 32, 55, 56, 57, 61, 62])
@pytest.mark.parametrize("low", ["zeros", "ones", "ones of the share", "ones of the value", "random"])
def test_truncation_is_right_for_every_top_byte_of_the_value_and_of_the_share(shift: int, low: str) -> None:
    random = random_ring(shift, (2, VALUES.size)) & LOW
    value_low = {"zeros": 0, "ones": LOW, "ones of the share": 0, "ones of the value": LOW, "random": random[0]}[low]
    share_low = {"zeros": 0, "ones": LOW, "ones of the share": LOW, "ones of the value": 0, "random": random[1]}[low]
    values, own = VALUES + value_low, SHARES + share_low
    run = run_protocol(lambda engine, mine: truncate(engine, mine[0], shift), [[own], [values - own]])
    error = run.value - (values >> shift)
    assert error.min() >= 0
    assert error.max() <= 1
    # Of the sum of the low bits the lead's own tell it: one more if they stay below what the value has.
    rest = (1 << shift) - 1
    one_more = (values - 1 & rest) >= (own + (TOP - 1) & rest)
    whole = values & rest == 0
    assert np.array_equal(error.astype(bool), one_more & ~whole)


@pytest.mark.parametrize("shift", [32, 33, 48, 56, 62])
def test_rough_truncation_is_exact_where_rounding_leaves_nothing_over(shift: int) -> None:
    run = run_protocol(lambda engine, mine: truncate_roughly(engine, mine[0], shift), [[SHARES], [VALUES - SHARES]])
    error = run.value - (VALUES >> shift)
    assert error.min() >= 0
    assert error.max() <= (0 if shift <= 56 else 1)


@pytest.mark.parametrize("cut", [truncate, truncate_roughly])
@pytest.mark.parametrize("at_once", [False, True])
def test_no_bit_hides_twice_where_one_value_is_truncated_twice(cut: Callable[..., Steps[np.ndarray]], at_once: bool) -> None:
    count = 1 << 14

    def protocol(engine: Engine, mine: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        if at_once:
            one, two = yield from together(cut(engine, mine[0], 40), cut(engine, mine[0], 40))
        else:
            one = yield from cut(engine, mine[0], 40)
            two = yield from cut(engine, mine[0], 40)
        return np.asarray(one - two)

    own = random_ring(3, (count,))
    run = run_protocol(protocol, [[own], [12_345_678_901 - own]])
    assert not run.value.any()  # the draw is the lead's share, and that is the same
    for sent in sent_by_each(run):
        first, second = sent
        # What one value's bits were hidden by differs in every second place: 6 sigma.
        differing = int(np.bitwise_count(first ^ second).sum())
        assert abs(differing - count / 2) <= 6 * np.sqrt(count) / 2


def test_both_ways_to_round_come_as_often_as_the_value_is_near() -> None:
    count, shift = 1 << 16, 12
    values = np.random.default_rng(8).integers(-TOP, TOP, count)
    own = random_ring(9, (count,))
    run = run_protocol(lambda engine, mine: truncate(engine, mine[0], shift), [[own], [values - own]])
    part = (values & ((1 << shift) - 1)) / 2**shift
    error = run.value - (values >> shift)
    assert abs((error - part).sum()) <= 6 * np.sqrt((part * (1 - part)).sum())


def sent_by_each(run: ProtocolRun) -> list[list[np.ndarray]]:
    return [
        [array for _, arrays in run.links[sender][receiver].log for array in arrays]
        for sender, receiver in (("p0", "p1"), ("p1", "p0"))
    ]
