"""Messages that are received later, with whatever comes behind them."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.links import TensorSpec
from protocols.mpc.channels import MAX_MESSAGE_BYTES, Channel
from protocols.mpc.late_channel import LateChannel
from tests.support.memory_links import as_links, connect, cut_all


def a_pair() -> tuple[Channel, LateChannel]:
    links = connect(["alpha", "beta"])
    return Channel(as_links(links["alpha"])["beta"]), LateChannel(as_links(links["beta"])["alpha"])


def some_bytes(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def test_what_is_expected_is_received_before_what_comes_behind_it() -> None:
    sender, receiver = a_pair()
    long, short, behind = some_bytes(MAX_MESSAGE_BYTES + 5, 1), some_bytes(3, 2), np.arange(4)
    for each in (long, short):
        sender.send_bytes(each)
    sender.send([behind])
    due = [receiver.expect_bytes(each.size) for each in (long, short)]
    (received,) = receiver.receive([TensorSpec("int64", (4,))])
    np.testing.assert_array_equal(received, behind)
    for each, sent in zip(due, (long, short), strict=True):
        np.testing.assert_array_equal(each.take(), sent)


def test_what_nothing_came_behind_is_waited_for() -> None:
    sender, receiver = a_pair()
    due = receiver.expect_bytes(9)
    sender.send_bytes(some_bytes(9, 3))
    np.testing.assert_array_equal(due.take(), some_bytes(9, 3))


def test_expecting_waits_for_nobody_and_loses_no_order() -> None:
    sender, receiver = a_pair()
    first = receiver.expect_bytes(2)
    sender.send_bytes(some_bytes(2, 4))
    sender.send_bytes(some_bytes(2, 5))
    second = receiver.expect_bytes(2)
    np.testing.assert_array_equal(second.take(), some_bytes(2, 5))
    np.testing.assert_array_equal(first.take(), some_bytes(2, 4))


def test_bytes_are_taken_once() -> None:
    sender, receiver = a_pair()
    due = receiver.expect_bytes(1)
    sender.send_bytes(some_bytes(1, 6))
    due.take()
    with pytest.raises(ConfideError) as caught:
        due.take()
    assert caught.value.code is ErrorCode.INTERNAL


def test_peer_that_is_lost_before_what_is_expected_is_said_to_be() -> None:
    links = connect(["alpha", "beta"])
    receiver = LateChannel(as_links(links["beta"])["alpha"])
    due = receiver.expect_bytes(1)
    cut_all(links)
    with pytest.raises(ConfideError) as caught:
        due.take()
    assert caught.value.code is ErrorCode.PEER_LOST
