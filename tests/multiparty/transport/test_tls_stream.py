"""What a read of TLS leaves behind: nothing that has come whole, however the bytes of the connection are cut."""

from __future__ import annotations

import fcntl
import select
import socket
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

from governance.identity.names import tls_name
from parties.transport.tls import accepting_context, dialling_context
from parties.transport.tls_stream import TlsStream
from tests.support.link_pairs import Running
from tests.support.tls_world import SERVER, TlsWorld

RECORD = 16 << 10  # the most that a record of TLS holds
OVERHEAD = 22  # of a record: header, type of its content, tag
SIZES = (1, 100, RECORD - 1, RECORD, RECORD + 1, 3 * RECORD, 200_000, 5)


class Cut:
    """A connection whose bytes pass only when and in the pieces that the test lets pass; it writes at the near end."""

    def __init__(self, world: TlsWorld) -> None:
        (near, self._out), (far, self._into) = _connection(), _connection()
        self.near = TlsStream(near, dialling_context(world.peer), server_name=tls_name(SERVER))
        self.far = TlsStream(far, accepting_context(world.server), server_name=None)
        deadline = time.monotonic() + 10
        shaking = [Running(partial(stream.shake_hands, deadline)) for stream in (self.near, self.far)]
        while any(thread.is_alive() for thread in shaking):
            self._pass_on()
        for thread in shaking:
            thread.result()
        self.near.begin()
        self.far.begin()
        assert self.far.read() is None  # the first read looks for what came with the last words before it

    def _pass_on(self) -> None:
        others = {self._out: self._into, self._into: self._out}
        for end in select.select(list(others), [], [], 0.01)[0]:
            others[end].sendall(end.recv(1 << 20))

    def wire_bytes(self, data: bytes) -> bytes:
        """What stands on the wire for what the near end writes."""
        self.near.write(memoryview(data))
        size, found = len(data) + OVERHEAD * -(-len(data) // RECORD), b""
        while len(found) < size:
            select.select([self._out], [], [], 0.05)
            with suppress(BlockingIOError):
                found += self._out.recv(1 << 20, socket.MSG_DONTWAIT)
            self.near.is_full()
        assert len(found) == size
        return found

    def read_after(self, piece: bytes) -> bytes:
        """What one read at the far end finds after some bytes of the wire."""
        self._into.sendall(piece)
        while _waiting(self.far.fileno()) < len(piece):
            time.sleep(0.001)
        return bytes(self.far.read() or b"")

    def close(self) -> None:
        with self.near, self.far, self._out, self._into:
            pass


def _connection() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        other, _ = listener.accept()
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def _waiting(descriptor: int) -> int:
    """How many bytes can be read from a socket."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.fixture
def cut(world: TlsWorld) -> Iterator[Cut]:
    made = Cut(world)
    yield made
    made.close()


@pytest.mark.parametrize("piece", [1_000, RECORD, RECORD + OVERHEAD, 40_000])
def test_each_read_finds_all_that_has_come_whole(piece: int, cut: Cut) -> None:
    said = [np.random.default_rng(size).bytes(size) for size in SIZES]
    wire = b"".join(cut.wire_bytes(data) for data in said)
    got = b"".join(cut.read_after(wire[at : at + piece]) for at in range(0, len(wire), piece))
    assert got == b"".join(said)


def test_message_is_read_with_its_last_byte_and_not_before(cut: Cut) -> None:
    wire = cut.wire_bytes(b"round")
    assert cut.read_after(wire[:-1]) == b""
    assert cut.read_after(wire[-1:]) == b"round"


def test_end_of_tls_behind_the_last_message_is_seen_with_it(cut: Cut) -> None:
    """Whoever has closed TLS says nothing more: the socket must be found at its end, though nobody closes it."""
    wire = cut.wire_bytes(b"last")
    with suppress(OSError):
        cut.near._tls.unwrap()  # says so, and has no answer yet
    wire += cut.near._outgoing.read()
    assert cut.read_after(wire) == b"last"
    ended = cut.far.read()
    assert ended is not None
    assert not ended
