"""Carries a link's frames between a worker's local socket and the stream to the peer's public port.

The party process looks at nothing but the length of a frame: the workers check the rest. A stream serves one session,
attempt and peer, once. When either side ends, the other sees the end of its stream and says what it was waiting for.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import Condition, Thread, Timer
from typing import TypeAlias

import grpc

from parties.transport.frames import MAX_FRAME_BYTES, SOCKET_BYTES
from parties.transport.timing import CONNECT_S
from protocols.errors import ConfideError, ErrorCode

LINK_METHOD = "/confide.v1.SessionService/Link"
SESSION_KEY, ATTEMPT_KEY = "confide-session", "confide-attempt"
_LENGTH = struct.Struct("<I")
Count: TypeAlias = Callable[[str, int], None]  # told of every frame: `sent` or `received`, and its bytes


def _uncounted(_kind: str, _size: int) -> None:
    pass


class LinkTable:
    """The links that this party's sessions expect, until each is joined to its stream."""

    def __init__(self, carried: Callable[[str, str, int], None] = lambda peer, kind, size: None) -> None:
        """Takes who is told of every frame that a stream carries: peer, `sent` or `received`, bytes."""
        self._carried = carried
        self._waiting: dict[tuple[str, int, str], socket.socket] = {}
        self._changed = Condition()

    def counter(self, peer: str) -> Count:
        """Returns what a stream of this peer counts its frames with."""
        return partial(self._carried, peer)

    def expect(self, session: str, attempt: int, peer: str, endpoint: socket.socket) -> None:
        """Offers the party's end of a worker's local socket for the stream of one peer."""
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
        """Closes what no stream has taken."""
        with self._changed:
            for key in [key for key in self._waiting if key[0] == session]:
                self._waiting.pop(key).close()


def accept(endpoint: socket.socket, incoming: Iterator[bytes], *, count: Count = _uncounted) -> Iterator[bytes]:
    """Serves the accepting side of a stream: yields the worker's frames, hands the peer's to the worker."""
    _widen(endpoint)
    Thread(target=_to_worker, args=(incoming, endpoint, count), daemon=True).start()
    yield from _from_worker(endpoint, count)


def dial(channel: grpc.Channel, *, session: str, attempt: int, endpoint: socket.socket, count: Count = _uncounted) -> None:
    """Opens the stream to a peer and carries frames until either side ends; returns at once."""
    _widen(endpoint)
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
        LINK_METHOD, request_serializer=None, response_deserializer=None
    )
    metadata = ((SESSION_KEY, session), (ATTEMPT_KEY, str(attempt)))
    stream = call(_from_worker(endpoint, count), metadata=metadata, wait_for_ready=True)
    # Waiting for the peer's port has no limit of its own; without a first frame the worker has given up by this time.
    hang_up = Timer(2 * CONNECT_S, stream.cancel)
    hang_up.daemon = True
    hang_up.start()
    Thread(target=_to_worker, args=(_heard(iter(stream), hang_up, stream.cancel), endpoint, count), daemon=True).start()


def _widen(endpoint: socket.socket) -> None:
    # Bytes wait here, in the worker's socket and in gRPC's window of the stream, and nowhere else on the way: a worker that does
    # not read holds its peer's worker back.
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)


def _heard(frames: Iterator[bytes], hang_up: Timer, cancel: Callable[[], object]) -> Iterator[bytes]:
    try:
        for frame in frames:
            hang_up.cancel()
            yield frame
    finally:
        hang_up.cancel()
        cancel()  # changes nothing about a stream that has ended; one that is no longer read must not stay open


def _from_worker(endpoint: socket.socket, count: Count = _uncounted) -> Iterator[bytes]:
    while True:
        try:
            head = endpoint.recv(_LENGTH.size, socket.MSG_WAITALL)
            if len(head) < _LENGTH.size:
                return
            (length,) = _LENGTH.unpack(head)
            if length > MAX_FRAME_BYTES:
                return
            frame = endpoint.recv(length, socket.MSG_WAITALL)
        except OSError:
            return
        if len(frame) < length:
            return
        yield frame
        count("sent", length)


def _to_worker(incoming: Iterator[bytes], endpoint: socket.socket, count: Count = _uncounted) -> None:
    deaf = False
    ended = socket.SHUT_WR
    try:
        for frame in incoming:
            if len(frame) > MAX_FRAME_BYTES:
                ended = socket.SHUT_RDWR  # not a party of ours: the stream ends in both directions
                break
            count("received", len(frame))
            if not deaf:
                # A worker that is through hears nothing more, but the stream must stay: dropping it would cancel what the
                # worker has said and the peer not yet received.
                deaf = not _hand_over(frame, endpoint)
    except grpc.RpcError:
        pass  # the peer is gone; the worker's next receive names it
    finally:
        with suppress(OSError):
            endpoint.shutdown(ended)


def _hand_over(frame: bytes, endpoint: socket.socket) -> bool:
    try:
        sent = endpoint.sendmsg([_LENGTH.pack(len(frame)), frame])
        if sent < _LENGTH.size + len(frame):
            endpoint.sendall((_LENGTH.pack(len(frame)) + frame)[sent:])
    except OSError:
        return False
    return True
