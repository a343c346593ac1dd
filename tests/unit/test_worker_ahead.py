"""Receiving ahead of need: what was sent is there when it is asked for, up to a limit, and nothing is lost or reordered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from queue import SimpleQueue

import numpy as np
import pytest

from parties.transport.frames import FrameKind
from parties.worker.ahead import Ahead
from parties.worker.link import WorkerLink
from protocols.errors import ConfideError, ErrorCode
from protocols.links import TensorSpec
from tests.support.link_pairs import Running, a_frame, a_link_and_raw_peer, two_links

pytestmark = pytest.mark.outside_world  # threads: a test waits for what they do
WITHIN_S = 20.0
THREE = [TensorSpec("int64", (3,))]
PIECE = 100_000


class Source:
    """Frames that a test hands out one by one, and a count of those that were asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self._frames: SimpleQueue[bytes | Exception] = SimpleQueue()

    def give(self, *frames: bytes | Exception) -> None:
        for frame in frames:
            self._frames.put(frame)

    def receive(self) -> memoryview:
        self.asked += 1
        frame = self._frames.get(timeout=WITHIN_S)
        if isinstance(frame, Exception):
            raise frame
        return memoryview(frame)


def soon() -> float:
    return time.monotonic() + WITHIN_S


def until(condition: object) -> None:
    assert callable(condition)
    deadline = soon()
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.give(OSError())  # the thread ends


def test_frames_received_ahead_are_taken_in_order(source: Source) -> None:
    ahead = Ahead(source.receive, max_bytes=1000)
    source.give(b"one", b"two", b"three")
    until(lambda: ahead.waiting_bytes == 11)
    assert [bytes(ahead.next(soon())) for _ in range(3)] == [b"one", b"two", b"three"]
    assert ahead.waiting_bytes == 0


def test_frames_beyond_the_limit_are_not_asked_for_until_one_is_taken(source: Source) -> None:
    ahead = Ahead(source.receive, max_bytes=20)
    source.give(*[bytes(10)] * 5)
    until(lambda: ahead.waiting_bytes == 20)
    time.sleep(0.05)
    assert (source.asked, ahead.waiting_bytes) == (2, 20)
    ahead.next(soon())
    until(lambda: source.asked == 3)
    until(lambda: ahead.waiting_bytes == 20)


def test_failure_is_raised_after_the_frames_before_it_and_again(source: Source) -> None:
    ahead = Ahead(source.receive, max_bytes=1000)
    source.give(b"last words", ConnectionResetError("gone"))
    until(lambda: source.asked == 2)
    assert bytes(ahead.next(soon())) == b"last words"
    for _ in range(2):
        with pytest.raises(ConnectionResetError, match="gone"):
            ahead.next(soon())


def test_wait_for_a_frame_that_does_not_come_ends_at_the_deadline(source: Source) -> None:
    ahead = Ahead(source.receive, max_bytes=1000)
    with pytest.raises(TimeoutError):
        ahead.next(time.monotonic() + 0.02)


def test_stop_while_the_limit_holds_the_thread_ends_it(source: Source) -> None:
    ahead = Ahead(source.receive, max_bytes=1)
    source.give(b"xx", b"yy")
    until(lambda: ahead.waiting_bytes == 2)
    ahead.stop()
    time.sleep(0.02)
    assert source.asked == 1


# A link that reads ahead.


def lost(link: WorkerLink, operation: int) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        link.receive(operation, THREE)
    assert caught.value.party == "hospital-b"
    return caught.value


def test_link_reading_ahead_messages_of_all_sizes_and_heartbeats_arrive_as_sent() -> None:
    generator = np.random.default_rng(7)
    sizes = [1, 3, 70_000, (1 << 20) - 128, 3 << 20, 8]
    messages = [generator.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    with two_links() as (ours, theirs):
        theirs.read_ahead()
        theirs_sent = Running(lambda: [(ours.heartbeat(), ours.send(n, [m])) for n, m in enumerate(messages, 1)])
        for number, message in enumerate(messages, 1):
            (found,) = theirs.receive(number, [TensorSpec("uint8", message.shape)])
            np.testing.assert_array_equal(found, message)
            assert not found.flags.writeable
        theirs_sent.result()
        theirs.send(1, [np.arange(3)])  # the other direction is as before
        assert ours.receive(1, THREE)[0].tolist() == [0, 1, 2]
        assert theirs.received_bytes == sum(sizes)


def test_link_reading_ahead_long_runs_lie_aligned() -> None:
    with two_links() as (ours, theirs):
        theirs.read_ahead()
        ours.send(1, [np.zeros((1 << 20) - 128, np.uint8)])
        (found,) = theirs.receive(1, [TensorSpec("uint8", ((1 << 20) - 128,))])
    assert found.view(np.int64).flags.aligned


def test_link_reading_ahead_beyond_its_limit_holds_the_sender_back_and_loses_nothing() -> None:
    messages, limit = 200, 4 * PIECE
    with two_links() as (ours, theirs):
        theirs.read_ahead(max_bytes=limit)
        sending = Running(lambda: [ours.send(n, [np.full(PIECE, n, np.uint8)]) for n in range(1, messages + 1)])
        sent, before = -1, -2
        while sent != before:  # until nothing moves any more
            before = sent
            time.sleep(0.1)
            sent = ours.payload_bytes
        assert limit <= sent < messages * PIECE / 2  # the rest of it waits at the sender
        for number in range(1, messages + 1):
            (found,) = theirs.receive(number, [TensorSpec("uint8", (PIECE,))])
            assert found[0] == found[-1] == number
        sending.result()


def test_link_reading_ahead_altered_frame_is_refused_when_its_turn_comes() -> None:
    frame = bytearray(a_frame(sequence=1, operation=2))
    frame[-20] ^= 1
    with a_link_and_raw_peer() as (link, peer):
        link.read_ahead()
        peer.sendall(a_frame() + bytes(frame))
        assert link.receive(1, THREE)[0].tolist() == [0, 0, 0]
        assert lost(link, 2).code is ErrorCode.BAD_FRAME


@pytest.mark.parametrize("changes", [{"sequence": 5}, {"operation": 3}, {"kind": FrameKind.KEY}, {"session": bytes(16)}])
def test_link_reading_ahead_frame_that_differs_from_the_plan_is_refused(changes: dict[str, object]) -> None:
    with a_link_and_raw_peer() as (link, peer):
        link.read_ahead()
        peer.sendall(a_frame(**changes))
        assert lost(link, 1).what.startswith("a frame from hospital-b differs from the plan in its ")


def test_link_reading_ahead_peer_that_ends_is_lost_after_its_last_words() -> None:
    with a_link_and_raw_peer() as (link, peer):
        link.read_ahead()
        peer.sendall(a_frame())
        peer.close()
        assert link.receive(1, THREE)[0].tolist() == [0, 0, 0]
        assert lost(link, 2).code is ErrorCode.PEER_LOST


def test_link_reading_ahead_that_is_closed_lets_its_peer_see_the_end() -> None:
    with a_link_and_raw_peer() as (link, peer):
        link.read_ahead()
        link.send(1, [np.zeros(3, np.int64)])
        link.close()
        peer.settimeout(WITHIN_S)
        while peer.recv(1 << 16):
            pass
