"""Between a worker's local socket and a stream: whole frames both ways, and an end on one side is an end on the other."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from threading import Event

import grpc
import pytest

from parties.transport import streams
from parties.transport.frames import MAX_FRAME_BYTES
from parties.transport.streams import ATTEMPT_KEY, LINK_METHOD, SESSION_KEY, Arrivals, LinkHandler, LinkTable, accept, dial
from protocols.errors import ConfideError, ErrorCode
from tests.support.link_pairs import Running, framed

SESSION, PEER = "0" * 32, "hospital-b"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's end and the party's."""
    worker, party = socket.socketpair()
    worker.settimeout(10)
    with worker, party:
        yield worker, party


def rest(worker: socket.socket) -> bytes:
    """What arrives at a worker until the end."""
    return b"".join(iter(lambda: worker.recv(1 << 16), b""))


class FakeStream:
    """The caller's side of a stream: what the peer sends is given, what it is sent is kept."""

    def __init__(self, incoming: Iterator[bytes]) -> None:
        self._incoming = incoming
        self.cancelled = Event()

    def __iter__(self) -> Iterator[bytes]:
        return self._incoming

    def cancel(self) -> bool:
        self.cancelled.set()
        return True


class FakeChannel:
    """Opens one fake stream."""

    def __init__(self, make: Callable[[Event], Iterator[bytes]]) -> None:
        self._make = make
        self.opened: dict[str, object] = {}
        self.sent: Iterator[bytes] = iter(())
        self.stream = FakeStream(iter(()))

    def stream_stream(self, method: str, **_: object) -> Callable[..., FakeStream]:
        def call(outgoing: Iterator[bytes], **options: object) -> FakeStream:
            self.opened = {"method": method, **options}
            self.sent = outgoing
            self.stream = FakeStream(iter(()))
            self.stream._incoming = self._make(self.stream.cancelled)
            return self.stream

        return call


def dialled(party: socket.socket, make: Callable[[Event], Iterator[bytes]]) -> FakeChannel:
    channel = FakeChannel(make)
    dial(channel, session=SESSION, attempt=1, endpoint=party)  # type: ignore[arg-type]  # as much of a channel as dial uses
    return channel


def until_cancelled(cancelled: Event) -> Iterator[bytes]:
    cancelled.wait(10)
    raise grpc.RpcError
    yield b""


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


# The accepting side.


def test_accept_frames_pass_whole_in_both_directions(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    frames = [b"a", b"b" * MAX_FRAME_BYTES, b""]
    sending = Running(lambda: (worker.sendall(b"".join(framed(frame) for frame in frames)), worker.shutdown(socket.SHUT_WR)))
    assert list(accept(party, iter([b"one", b"two"]))) == frames
    sending.result()
    assert rest(worker) == framed(b"one") + framed(b"two")


@pytest.mark.parametrize("sent", [b"", b"\x05", framed(b"hello")[:-1], (MAX_FRAME_BYTES + 1).to_bytes(4, "little") + b"x"])
def test_accept_worker_that_ends_or_sends_no_frame_ends_the_stream(
    sent: bytes, ends: tuple[socket.socket, socket.socket]
) -> None:
    worker, party = ends
    worker.sendall(framed(b"hello") + sent)
    worker.close()
    assert list(accept(party, iter([]))) == [b"hello"]


def test_accept_stream_that_breaks_ends_for_the_worker(ends: tuple[socket.socket, socket.socket]) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"one"
        raise grpc.RpcError

    worker, party = ends
    stream = accept(party, breaking())
    reading = Running(lambda: list(stream))
    assert rest(worker) == framed(b"one")
    worker.close()
    assert reading.result() == []


def test_accept_oversized_frame_of_the_peer_ends_both_directions(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    incoming = iter([b"one", b"x" * (MAX_FRAME_BYTES + 1), b"two"])
    assert list(accept(party, incoming)) == []
    assert rest(worker) == framed(b"one")
    assert next(incoming) == b"two"  # nothing more was read


def test_accept_worker_that_is_through_does_not_cut_its_own_last_words(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    worker.sendall(framed(b"last"))
    worker.close()
    assert list(accept(party, iter([b"x"] * 1_000))) == [b"last"]


# The dialling side.


def test_dial_names_session_and_attempt(ends: tuple[socket.socket, socket.socket]) -> None:
    channel = dialled(ends[1], lambda _: iter([]))
    assert channel.opened["method"] == LINK_METHOD
    assert channel.opened["metadata"] == ((SESSION_KEY, SESSION), (ATTEMPT_KEY, "1"))


def test_dial_frames_pass_whole_in_both_directions(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    channel = dialled(party, lambda _: iter([b"one", b"two"]))
    assert rest(worker) == framed(b"one") + framed(b"two")
    worker.sendall(framed(b"three"))
    worker.close()
    assert list(channel.sent) == [b"three"]


def test_dial_peer_that_never_answers_is_hung_up_on(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CONNECT_S", 0.02)
    channel = dialled(ends[1], until_cancelled)
    assert channel.stream.cancelled.wait(10)
    assert rest(ends[0]) == b""


def test_dial_peer_that_has_answered_is_not_hung_up_on(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    class FakeTimer:
        stopped = Event()

        def __init__(self, *_: object) -> None:
            self.daemon = False

        def start(self) -> None: ...

        def cancel(self) -> None:
            self.stopped.set()

    def answering(_: Event) -> Iterator[bytes]:
        assert not FakeTimer.stopped.is_set()
        yield b"one"
        assert FakeTimer.stopped.is_set()
        yield b"two"

    monkeypatch.setattr(streams, "Timer", FakeTimer)
    dialled(ends[1], answering)
    assert rest(ends[0]) == framed(b"one") + framed(b"two")


def test_dial_oversized_frame_of_the_peer_ends_the_stream(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    channel = dialled(party, lambda _: iter([b"one", b"x" * (MAX_FRAME_BYTES + 1)]))
    assert rest(worker) == framed(b"one")
    assert channel.stream.cancelled.wait(10)
    assert list(channel.sent) == []


# What arrives on a thread that must not wait.


def begun(party: socket.socket) -> Arrivals:
    arrivals = Arrivals()
    arrivals.begin(party)
    return arrivals


def fill(party: socket.socket) -> int:
    """Fills a socket until it takes no more; returns the bytes."""
    filled = 0
    while True:
        try:
            filled += party.send(b"0" * 4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return filled


def test_arrival_of_a_small_frame_reaches_the_worker_at_once_and_only_once(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    arrivals = begun(party)
    for frame in (b"one", b"", b"three"):
        assert arrivals.arrive(frame) == frame
        assert worker.recv(100) == framed(frame)
        arrivals.deliver(frame)
    party.shutdown(socket.SHUT_WR)
    assert rest(worker) == b""


def test_arrival_at_a_full_socket_waits_for_delivery_and_keeps_order(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    filled = fill(party)
    arrivals = begun(party)
    assert arrivals.arrive(b"one") == b"one"  # returns although nobody reads
    delivering = Running(lambda: (arrivals.deliver(b"one"), arrivals.arrive(b"two"), arrivals.deliver(b"two")))
    reading = Running(lambda: rest(worker))
    delivering.result()
    party.shutdown(socket.SHUT_WR)
    assert reading.result()[filled:] == framed(b"one") + framed(b"two")


def test_arrival_that_the_socket_takes_in_part_is_completed_by_delivery(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    party.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    frame = bytes(range(256)) * 256  # larger than the socket holds, still a small frame
    arrivals = begun(party)
    reading = Running(lambda: rest(worker))
    arrivals.arrive(frame)
    arrivals.deliver(frame)
    party.shutdown(socket.SHUT_WR)
    assert reading.result() == framed(frame)


def test_arrival_of_a_large_frame_is_left_to_delivery(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    frame = b"x" * (streams._SMALL_BYTES + 1)
    arrivals = begun(party)
    arrivals.arrive(frame)
    worker.setblocking(False)
    with pytest.raises(BlockingIOError):
        worker.recv(1)
    worker.settimeout(10)
    reading = Running(lambda: rest(worker))
    arrivals.deliver(frame)
    party.shutdown(socket.SHUT_WR)
    assert reading.result() == framed(frame)


def test_arrival_for_a_worker_that_is_through_is_dropped(ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    worker.close()
    arrivals = begun(party)
    for frame in (b"one", b"x" * MAX_FRAME_BYTES):
        assert arrivals.arrive(frame) == frame
        arrivals.deliver(frame)


def test_every_call_of_a_link_has_arrivals_of_its_own(ends: tuple[socket.socket, socket.socket]) -> None:
    served: list[Arrivals] = []

    def serve(_incoming: object, _context: object, arrivals: Arrivals) -> Iterator[bytes]:
        served.append(arrivals)
        return iter(())

    handler = LinkHandler(serve)
    calls = [handler.begin(), handler.begin()]
    for behaviour, _ in calls:
        behaviour(iter(()), None)  # type: ignore[arg-type]  # what serves here asks no context
    served[0].begin(ends[1])
    calls[1][1](b"of the other call")
    calls[0][1](b"one")
    assert ends[0].recv(100) == framed(b"one")


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_frames_of_a_worker_are_told_apart_however_they_are_read(size: int, ends: tuple[socket.socket, socket.socket]) -> None:
    worker, party = ends
    small, large = bytes(range(100)), b"y" * (streams._SMALL_BYTES + 5)
    frames = [small, b"", small[:1], large, small, large, large, small]
    whole = b"".join(framed(frame) for frame in frames)

    def send() -> None:
        for start in range(0, 1000, size):  # the first frames in pieces, the others as they come
            worker.sendall(whole[start : min(start + size, 1000)])
        worker.sendall(whole[1000:])
        worker.shutdown(socket.SHUT_WR)

    sending = Running(send)
    assert list(accept(party, iter([]))) == frames
    sending.result()
