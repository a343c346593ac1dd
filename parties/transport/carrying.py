"""Carries bytes between two sockets, both ways in one thread, until both directions have ended.

A session waits for small frames, one after the other, and each change of thread on their way takes longer than everything else
that is done with them. So one thread reads from a side and writes to the other at once. A side that takes nothing is not read
for: bytes wait in the kernel's sockets and in one buffer of each direction, and nowhere else, so that whoever does not read holds
the sender back.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from typing import Protocol

AT_ONCE_BYTES = 256 << 10


class End(Protocol):
    """One side of what is carried; its socket does not block."""

    def fileno(self) -> int:
        """Returns the socket's descriptor."""

    def read(self) -> memoryview | None:
        """Returns what has come, valid until the next call; empty at the end of it, None if nothing has come.

        Raises:
            OSError, ConfideError: neither direction may go on.
        """

    def write(self, data: memoryview) -> bool:
        """Sends what the socket takes and keeps the rest of these bytes, which must stay as they are until it is gone.

        Returns:
            Whether any is left.

        Raises:
            ConfideError: neither direction may go on.
        """

    def is_full(self) -> bool:
        """Tries to send what was kept, and returns whether any is left."""

    def finish(self) -> None:
        """Tells the other side that nothing more comes."""


class Outbox:
    """What a socket has not taken yet, of the last bytes that were to be sent."""

    __slots__ = ("_is_deaf", "_rest", "_socket")

    def __init__(self, endpoint: socket.socket) -> None:
        self._socket = endpoint
        self._rest: bytes | memoryview | None = None
        self._is_deaf = False  # whoever is through hears nothing more, which does not cut what it has said itself

    def put(self, data: bytes | memoryview) -> bool:
        """Sends what the socket takes, after what it has not taken before, and returns whether any is left then."""
        if self._is_deaf:
            return False
        self._rest = data if self._rest is None else bytes(self._rest) + bytes(data)
        return self.is_full()

    def is_full(self) -> bool:
        """Tries to send what is left, and returns whether any is left then."""
        if self._rest is None:
            return False
        try:
            sent = self._socket.send(self._rest)
        except BlockingIOError:
            return True
        except OSError:
            self._is_deaf, self._rest = True, None
            return False
        if sent < len(self._rest):
            self._rest = memoryview(self._rest)[sent:]
            return True
        self._rest = None
        return False

    def finish(self) -> None:
        """Ends this direction."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)


class PlainEnd:
    """A socket as it is."""

    def __init__(self, endpoint: socket.socket, *, buffer_bytes: int = AT_ONCE_BYTES) -> None:
        """Takes the socket, and how much of it is read at once."""
        endpoint.setblocking(False)
        self._socket = endpoint
        self._buffer = memoryview(bytearray(buffer_bytes))
        self._outbox = Outbox(endpoint)
        self.fileno = endpoint.fileno
        self.write = self._outbox.put
        self.is_full = self._outbox.is_full
        self.finish = self._outbox.finish

    def read(self) -> memoryview | None:
        """Returns what has come; see `End.read`."""
        try:
            return self._buffer[: self._socket.recv_into(self._buffer)]
        except BlockingIOError:
            return None
        except OSError:  # also a worker that ended without reading everything: what it said has been read
            return self._buffer[:0]


class _Way:
    """One direction."""

    __slots__ = ("has_ended", "is_held_back", "sink", "source")

    def __init__(self, source: End, sink: End) -> None:
        self.source = source
        self.sink = sink
        self.has_ended = False
        self.is_held_back = False

    def move(self) -> None:
        if self.has_ended or (self.is_held_back and self.sink.is_full()):
            return
        data = self.source.read()
        self.is_held_back = False
        if data is None:
            return
        if data:
            self.is_held_back = self.sink.write(data)
        else:
            self.has_ended = True
            self.sink.finish()


def carry(one: End, other: End, *, ending_s: float) -> None:
    """Carries both ways until both have ended; returns at once if a side says that neither may go on.

    Once one direction has ended, the other has `ending_s` seconds: nobody waits for anything after that.

    Raises:
        OSError, ConfideError: what a side said.
    """
    there, back = _Way(one, other), _Way(other, one)
    poll = select.poll()
    asked: dict[int, int] = {one.fileno(): 0, other.fileno(): 0}
    by_source = {one.fileno(): (there, back), other.fileno(): (back, there)}
    known: tuple[bool, ...] = ()
    ending: float | None = None
    there.move()  # what has come already makes no socket readable
    back.move()
    while True:
        state = (there.has_ended, back.has_ended, there.is_held_back, back.is_held_back)
        if state != known:  # seldom: rounds come and go without
            known = state
            if there.has_ended and back.has_ended:
                return
            if ending is None and (there.has_ended or back.has_ended):
                ending = time.monotonic() + ending_s
            for descriptor, (out, into) in by_source.items():
                wanted = 0 if out.has_ended or out.is_held_back else select.POLLIN
                if into.is_held_back:
                    wanted |= select.POLLOUT
                if wanted != asked[descriptor]:
                    _ask(poll, descriptor, asked[descriptor], wanted)
                    asked[descriptor] = wanted
        ready = poll.poll(None if ending is None else max(0.0, ending - time.monotonic()) * 1000)
        if not ready:
            return
        for descriptor, _ in ready:
            out, into = by_source[descriptor]
            out.move()
            if into.is_held_back:
                into.move()


def _ask(poll: select.poll, descriptor: int, before: int, wanted: int) -> None:
    # A descriptor that nothing is wanted of is left out: the end of its other side would be reported over and over.
    if not wanted:
        poll.unregister(descriptor)
    elif before:
        poll.modify(descriptor, wanted)
    else:
        poll.register(descriptor, wanted)
