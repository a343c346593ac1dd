"""Carries a link's frames between a worker's local socket and the connection to the peer's public port.

The party process looks at nothing but the length of a frame: the workers check the rest. A connection serves one session, attempt
and peer, once. When either side ends, the other sees the end and says what it was waiting for.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Condition, Thread
from types import TracebackType
from typing import TypeAlias

import structlog

from parties.transport.carrying import PlainEnd, carry
from parties.transport.dialling import AGAIN_S, Route, connected
from parties.transport.frames import MAX_FRAME_BYTES, SOCKET_BYTES
from parties.transport.opening import LinkOpening, read_answer
from parties.transport.timing import CONNECT_S, MESSAGE_S
from parties.transport.tls_stream import TlsStream
from protocols.errors import ConfideError, ErrorCode

_LENGTH = struct.Struct("<I")
Count: TypeAlias = Callable[[str, int], None]  # told of frames that pass: `sent` or `received`, and their bytes
_log = structlog.get_logger()


def _uncounted(_kind: str, _size: int) -> None:
    pass


class LinkTable:
    """The links that this party's sessions expect, until each is joined to its connection."""

    def __init__(self, carried: Callable[[str, str, int], None] = lambda peer, kind, size: None) -> None:
        """Takes who is told of the frames that pass: peer, `sent` or `received`, bytes."""
        self._carried = carried
        self._waiting: dict[tuple[str, int, str], socket.socket] = {}
        self._changed = Condition()

    def counter(self, peer: str) -> Count:
        """Returns what a link to this peer counts its frames with."""
        return partial(self._carried, peer)

    def expect(self, session: str, attempt: int, peer: str, endpoint: socket.socket) -> None:
        """Offers the party's end of a worker's local socket for the connection of one peer."""
        with self._changed:
            self._waiting[session, attempt, peer] = endpoint
            self._changed.notify_all()

    def take(self, session: str, attempt: int, peer: str) -> socket.socket:
        """Takes the local end of a link, once.

        Raises:
            ConfideError: UNKNOWN_SESSION (the peer's fault): no such link is open, or it is taken.
        """
        key = (session, attempt, peer)
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._waiting, timeout=CONNECT_S):
                raise ConfideError(ErrorCode.UNKNOWN_SESSION, "no link of that session and attempt waits for this party")
            return self._waiting.pop(key)

    def forget(self, session: str) -> None:
        """Closes what no connection has taken."""
        with self._changed:
            for key in [key for key in self._waiting if key[0] == session]:
                self._waiting.pop(key).close()


class Lengths:
    """Follows the lengths of the frames in one direction of a link."""

    def __init__(self) -> None:
        self._missing = 0  # bytes of the frame that has begun
        self._start = b""  # of a length that has begun

    def take(self, data: memoryview) -> tuple[int, int]:
        """Returns how many of these bytes belong to frames as long as may be, and the bytes of the frames that begin here."""
        size, at, begun = len(data), self._missing, 0  # at: where the next frame begins
        if self._start:
            at = _LENGTH.size - len(self._start)
            self._start += data[:at]
            if len(self._start) < _LENGTH.size:
                return size, 0
            (begun,) = _LENGTH.unpack(self._start)
            if begun > MAX_FRAME_BYTES:
                return 0, 0
            self._start = b""
            at += begun
        while size - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            if length > MAX_FRAME_BYTES:
                return at, begun
            begun += length
            at += _LENGTH.size + length
        if at < size:
            self._start, at = bytes(data[at:]), size
        self._missing = at - size
        return size, begun


class WorkerEnd:
    """The party's end of a worker's local socket, as an `End` that lets frames pass and nothing else."""

    def __init__(self, endpoint: socket.socket, count: Count = _uncounted) -> None:
        """Takes the socket, of which it uses a duplicate: whoever stops the worker may close theirs at any time."""
        self._socket = endpoint.dup()
        # Bytes wait here and in the worker's socket: most rounds fit, so that nobody waits to write them.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self._end = PlainEnd(self._socket)
        self._count = count
        self._said, self._heard = Lengths(), Lengths()
        self._is_broken = False
        self.fileno = self._end.fileno
        self.is_full = self._end.is_full
        self.finish = self._end.finish

    def __enter__(self) -> WorkerEnd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def read(self) -> memoryview | None:
        """Returns what the worker has said; see `End.read`. Raises BAD_FRAME (this party's fault) for what is no frame."""
        if self._is_broken:
            raise ConfideError(ErrorCode.BAD_FRAME, "a worker said what is no frame")
        data = self._end.read()
        if not data:
            return data
        sound, frames = self._said.take(data)
        if frames:
            self._count("sent", frames)
        if sound < len(data):
            self._is_broken = True
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)  # so that it is read again, though the worker may say nothing more
            return data[:sound] if sound else self.read()
        return data

    def write(self, data: memoryview) -> bool:
        """Hands the worker what the peer has sent; see `End.write`. Raises BAD_FRAME (the peer's fault) for what is no frame."""
        sound, frames = self._heard.take(data)
        if frames:
            self._count("received", frames)
        if sound == len(data):
            return self._end.write(data)
        if sound:
            self._end.write(data[:sound])
        raise ConfideError(ErrorCode.BAD_FRAME, "a peer sent what is no frame")


def join(worker: WorkerEnd, stream: TlsStream) -> None:
    """Carries a link's frames until it ends."""
    stream.begin()
    try:
        carry(worker, stream, ending_s=MESSAGE_S)
    except ConfideError as error:
        _log.warning("link", code=error.code.name, what=error.what)
    except OSError as error:
        _log.warning("link", code=ErrorCode.PEER_LOST.name, what=type(error).__name__)


def dial(route: Route, *, session: str, attempt: int, endpoint: socket.socket, count: Count = _uncounted) -> None:
    """Opens the connection to a peer and carries frames until either side ends; returns at once."""
    worker = WorkerEnd(endpoint, count)
    Thread(target=_dial, args=(route, LinkOpening(session, attempt), worker), name="link", daemon=True).start()


def _dial(route: Route, opening: LinkOpening, worker: WorkerEnd) -> None:
    with worker:  # whatever happens, it learns that its link has ended
        try:
            stream = _opened(route, opening)
        except ConfideError as error:
            _log.warning("link", code=error.code.name, party=route.party, what=error.what)
            return
        with stream:
            join(worker, stream)


def _opened(route: Route, opening: LinkOpening) -> TlsStream:
    """Returns a connection over which the peer has joined its worker.

    One that ends before the peer has said anything is opened again: who dials is through with the handshake first, and until the
    peer is too, its port may end the connection for a newcomer's.

    Raises:
        ConfideError: what `connected` raises; the code that the peer refuses with; PEER_LOST (its fault).
    """
    deadline = time.monotonic() + CONNECT_S
    while True:
        stream = connected(route)
        # The peer waits for its worker to begin.
        until = time.monotonic() + 2 * CONNECT_S
        try:
            stream.say(opening.to_bytes(), until)
            read_answer(partial(stream.hear, deadline=until), party=route.party)
        except ConfideError:
            stream.close()
            raise
        except OSError as error:
            stream.close()
            if time.monotonic() + AGAIN_S > deadline:
                raise ConfideError(ErrorCode.PEER_LOST, type(error).__name__, party=route.party) from error
            time.sleep(AGAIN_S)
        else:
            return stream
