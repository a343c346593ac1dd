"""Between a worker's local socket and a link's connection: whole frames both ways, and an end is an end."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from parties.transport import carrying, streams
from parties.transport.carrying import AT_ONCE_BYTES, Outbox, PlainEnd, carry
from parties.transport.frames import MAX_FRAME_BYTES
from parties.transport.streams import Lengths, LinkTable, WorkerEnd
from parties.transport.timing import MESSAGE_S
from protocols.errors import ConfideError, ErrorCode
from tests.support.link_pairs import Running, framed

POLL = select.poll
SESSION, PEER = "0" * 32, "hospital-b"
TOO_LONG = (MAX_FRAME_BYTES + 1).to_bytes(4, "little")


class Carried:
    """A worker and a peer with a party's carrier between them; the peer's side is a plain socket instead of TLS."""

    def __init__(self) -> None:
        self.worker, endpoint = socket.socketpair()
        self.peer, stream = socket.socketpair()
        self.worker.settimeout(10)
        self.peer.settimeout(10)
        self.counted: list[tuple[str, int]] = []

        def run() -> None:
            with endpoint, stream, WorkerEnd(endpoint, lambda kind, size: self.counted.append((kind, size))) as end:
                carry(end, PlainEnd(stream), ending_s=MESSAGE_S)

        self.running = Running(run)

    def close(self) -> None:
        self.worker.close()
        self.peer.close()


@pytest.fixture
def carried() -> Iterator[Carried]:
    made = Carried()
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's end and the party's."""
    worker, party = socket.socketpair()
    worker.settimeout(10)
    with worker, party:
        yield worker, party


def rest(endpoint: socket.socket) -> bytes:
    """What arrives until the end."""
    return b"".join(iter(lambda: endpoint.recv(1 << 16), b""))


def count_of(carried: Carried, kind: str) -> int:
    return sum(size for found, size in carried.counted if found == kind)


# The table of links.


def test_take_expected_link_gives_its_socket_once(ends: tuple[socket.socket, socket.socket]) -> None:
    links = LinkTable()
    links.expect(SESSION, 1, PEER, ends[1])
    assert links.take(SESSION, 1, PEER) is ends[1]


@pytest.mark.parametrize("key", [("1" * 32, 1, PEER), (SESSION, 2, PEER), (SESSION, 1, "hospital-c"), (SESSION, 1, PEER)])
def test_take_other_link_or_the_same_again_is_unknown(
    key: tuple[str, int, str], ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CONNECT_S", 0.0)
    links = LinkTable()
    links.expect(SESSION, 1, PEER, ends[1])
    if key == (SESSION, 1, PEER):
        links.take(*key)
    with pytest.raises(ConfideError) as caught:
        links.take(*key)
    assert caught.value.code is ErrorCode.UNKNOWN_SESSION


def test_take_waits_for_a_link_that_is_expected_later(ends: tuple[socket.socket, socket.socket]) -> None:
    links = LinkTable()
    taking = Running(lambda: links.take(SESSION, 1, PEER))
    links.expect(SESSION, 1, PEER, ends[1])
    assert taking.result() is ends[1]


def test_forget_closes_what_was_not_taken_of_that_session_alone(ends: tuple[socket.socket, socket.socket]) -> None:
    links = LinkTable()
    links.expect(SESSION, 1, PEER, ends[1])
    links.forget("1" * 32)
    assert ends[1].fileno() >= 0
    links.forget(SESSION)
    assert ends[1].fileno() == -1
    assert ends[0].recv(1) == b""


# What is carried.


def test_frames_pass_whole_in_both_directions_and_are_counted(carried: Carried) -> None:
    out = [b"a", b"b" * MAX_FRAME_BYTES, b"", b"c" * 100_000]
    back = [b"one", b"d" * MAX_FRAME_BYTES, b"two"]
    said = [b"".join(framed(frame) for frame in frames) for frames in (out, back)]
    sending = [
        Running(lambda: (carried.worker.sendall(said[0]), carried.worker.shutdown(socket.SHUT_WR))),
        Running(lambda: (carried.peer.sendall(said[1]), carried.peer.shutdown(socket.SHUT_WR))),
    ]
    reading = Running(lambda: rest(carried.peer))
    assert rest(carried.worker) == said[1]
    assert reading.result() == said[0]
    for thread in sending:
        thread.result()
    carried.running.result()
    assert count_of(carried, "sent") == sum(map(len, out))
    assert count_of(carried, "received") == sum(map(len, back))


@pytest.mark.parametrize("size", [1, 3, 5, 1000])
def test_lengths_are_followed_however_frames_are_cut(size: int) -> None:
    frames = [bytes(range(100)), b"", b"x", b"y" * 700]
    whole = memoryview(b"".join(framed(frame) for frame in frames))
    lengths, begun = Lengths(), 0
    for start in range(0, len(whole), size):
        piece = whole[start : start + size]
        sound, of_frames = lengths.take(piece)
        assert sound == len(piece)
        begun += of_frames
    assert begun == sum(map(len, frames))


def test_lengths_end_where_a_frame_is_longer_than_may_be() -> None:
    good = framed(b"one") + framed(b"z" * MAX_FRAME_BYTES)
    lengths = Lengths()
    assert lengths.take(memoryview(good + TOO_LONG + b"more")) == (len(good), 3 + MAX_FRAME_BYTES)


def test_lengths_end_though_the_length_that_may_not_be_comes_in_two_pieces() -> None:
    lengths, whole = Lengths(), memoryview(framed(b"one") + TOO_LONG + b"more")
    assert lengths.take(whole[:9]) == (9, 3)
    assert lengths.take(whole[9:]) == (0, 0)


def test_oversized_frame_of_a_worker_ends_both_directions(carried: Carried) -> None:
    carried.worker.sendall(framed(b"hello") + TOO_LONG + b"x")
    assert rest(carried.peer) == framed(b"hello")
    with pytest.raises(ConfideError) as caught:
        carried.running.result()
    assert caught.value.code is ErrorCode.BAD_FRAME
    assert rest(carried.worker) == b""


def test_oversized_frame_of_the_peer_ends_both_directions(carried: Carried) -> None:
    carried.peer.sendall(framed(b"one") + TOO_LONG + b"x")
    assert rest(carried.worker) == framed(b"one")
    with pytest.raises(ConfideError) as caught:
        carried.running.result()
    assert caught.value.code is ErrorCode.BAD_FRAME


def test_worker_that_is_through_does_not_cut_its_own_last_words(carried: Carried) -> None:
    carried.peer.sendall(framed(b"x") * 1_000)
    carried.worker.sendall(framed(b"last"))
    carried.worker.close()  # with much unread, which its socket calls an error
    assert rest(carried.peer) == framed(b"last")
    carried.peer.sendall(framed(b"y") * 1_000)  # nobody hears it any more
    carried.peer.close()
    carried.running.result()


def test_peer_that_ends_is_an_end_for_the_worker_after_its_last_words(carried: Carried) -> None:
    carried.peer.sendall(framed(b"last"))
    carried.peer.close()
    assert rest(carried.worker) == framed(b"last")
    carried.worker.close()
    carried.running.result()


def test_bytes_that_come_before_the_last_are_gone_follow_them(ends: tuple[socket.socket, socket.socket]) -> None:
    """TLS has something of its own to say at any time, also while a socket is full."""
    worker, party = ends
    party.setblocking(False)
    outbox, said = Outbox(party), [bytes([number]) * (1 << 20) for number in range(3)]
    for data in said:
        outbox.put(memoryview(data))
    assert outbox.is_full()
    got = b""
    while len(got) < 3 << 20:
        got += worker.recv(1 << 16)
        outbox.is_full()
    assert got == b"".join(said)


def test_side_that_stays_after_the_other_has_ended_is_given_up() -> None:
    one, near = socket.socketpair()
    other, far = socket.socketpair()
    with one, near, other, far:
        one.close()
        carry(PlainEnd(near), PlainEnd(far), ending_s=0.01)


def test_socket_that_the_party_closes_elsewhere_is_still_the_carriers_own() -> None:
    worker, endpoint = socket.socketpair()
    peer, stream = socket.socketpair()
    with worker, peer, stream:
        end = WorkerEnd(endpoint)
        endpoint.close()

        def run() -> None:
            with end:
                carry(end, PlainEnd(stream), ending_s=MESSAGE_S)

        running = Running(run)
        worker.sendall(framed(b"one"))
        worker.close()
        peer.shutdown(socket.SHUT_WR)
        peer.settimeout(10)
        assert rest(peer) == framed(b"one")
        running.result()


def test_side_that_does_not_read_holds_the_other_back_within_a_bound(carried: Carried) -> None:
    carried.peer.setblocking(False)
    frame, sent = framed(b"q" * 65_532), 0
    while select.select([], [carried.peer], [], 0.3)[1]:
        sent += carried.peer.send(frame)
    assert sent < streams.SOCKET_BYTES * 4  # what the kernel counts of a socket's bytes is up to twice their number
    got = 0
    while got < sent:
        got += len(carried.worker.recv(1 << 20))
    assert got == sent


class AskedPoll:
    """The kernel's poll, which says nothing of a socket that nothing is wanted of: its end would be said over and over."""

    def __init__(self) -> None:
        self._poll = POLL()
        self._wanted: dict[int, int] = {}

    def register(self, descriptor: int, wanted: int) -> None:
        self._wanted[descriptor] = wanted
        self._poll.register(descriptor, wanted)

    modify = register

    def unregister(self, descriptor: int) -> None:
        del self._wanted[descriptor]
        self._poll.unregister(descriptor)

    def poll(self, timeout_ms: float | None) -> list[tuple[int, int]]:
        assert self._wanted
        assert all(self._wanted.values())
        return self._poll.poll(timeout_ms)


def test_carrier_asks_nothing_of_an_ended_side_while_the_other_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying.select, "poll", AskedPoll)
    one, near = socket.socketpair()
    other, far = socket.socketpair()
    with one, near, other, far:
        running = Running(lambda: carry(PlainEnd(near), PlainEnd(far), ending_s=MESSAGE_S))
        one.setblocking(False)
        sent = 0
        while select.select([], [one], [], 0.3)[1]:
            sent += one.send(b"0" * 4096)
        one.close()
        other.settimeout(10)
        got = 0
        while piece := other.recv(AT_ONCE_BYTES):
            got += len(piece)
        assert got == sent
        other.close()
        running.result()
