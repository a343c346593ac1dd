"""Carries a link's frames between a worker's local socket and the stream to the peer's public port.

The party process looks at nothing but the length of a frame: the workers check the rest. A stream serves one session,
attempt and peer, once. When either side ends, the other sees the end of its stream and says what it was waiting for.

What a session waits for is small frames, one after the other, and each change of thread on their way takes longer than
everything else that is done with them. So a small frame is read from a worker with one call, by the thread that sends it on, and
handed to a worker by the thread of gRPC that received it.
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
_SMALL_BYTES = 64 << 10  # a frame up to this is not worth a second call or a second thread; a larger one not a copy
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


class Arrivals:
    """Hands the frames of one stream to the worker, as far as that takes no waiting on the thread that they arrive on.

    gRPC takes the next frame in only when the one before has been taken from its iterator, so that `arrive` and `deliver` are
    called in turns and frames keep their order.
    """

    def __init__(self) -> None:
        self._endpoint: socket.socket | None = None
        self._sent = 0  # bytes of the frame that has arrived and was not delivered yet
        self._is_deaf = False  # a worker that is through hears nothing more

    def begin(self, endpoint: socket.socket) -> None:
        """Takes the party's end of the worker's socket, before the first frame is asked for."""
        self._endpoint = endpoint

    def arrive(self, frame: bytes) -> bytes:
        """Sends what the socket takes at once of a small frame, and returns the frame; gRPC's thread, which must not wait."""
        if self._endpoint is not None and len(frame) <= _SMALL_BYTES:
            self._sent = self._send(frame, socket.MSG_DONTWAIT)
        return frame

    def deliver(self, frame: bytes) -> None:
        """Sends what is left of a frame that has arrived."""
        sent, self._sent = self._sent, 0
        if sent == 0:
            sent = self._send(frame, 0)
        if sent < _LENGTH.size + len(frame) and not self._is_deaf and self._endpoint is not None:
            try:
                self._endpoint.sendall((_LENGTH.pack(len(frame)) + frame)[sent:])
            except OSError:
                self._is_deaf = True

    def _send(self, frame: bytes, flags: int) -> int:
        # The stream must outlive its worker's hearing: dropping it would cancel what the worker has said and the peer not yet
        # received.
        if self._is_deaf or self._endpoint is None:
            return 0
        try:
            return self._endpoint.sendmsg((_LENGTH.pack(len(frame)), frame), (), flags)
        except BlockingIOError:
            return 0
        except OSError:
            self._is_deaf = True
            return 0


class LinkHandler:
    """Serves the streams of links: each call by a function of its own, since whoever takes its frames in knows no call."""

    def __init__(self, serve: Callable[[Iterator[bytes], grpc.ServicerContext, Arrivals], Iterator[bytes]]) -> None:
        """Takes what serves a call, from the frames of the peer, its context, and what hands them on."""
        self._serve = serve

    def begin(self) -> tuple[Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]], Callable[[bytes], bytes]]:
        """Returns what serves the next call, and what its frames go through when they arrive."""
        arrivals = Arrivals()
        return (lambda incoming, context: self._serve(incoming, context, arrivals)), arrivals.arrive

    def __call__(self, incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Serves a call whose frames go through nothing when they arrive."""
        return self._serve(incoming, context, Arrivals())


def accept(
    endpoint: socket.socket, incoming: Iterator[bytes], *, arrivals: Arrivals | None = None, count: Count = _uncounted
) -> Iterator[bytes]:
    """Serves the accepting side of a stream: yields the worker's frames, hands the peer's to the worker."""
    _widen(endpoint)
    arrivals = arrivals or Arrivals()
    arrivals.begin(endpoint)
    Thread(target=_to_worker, args=(incoming, endpoint, arrivals, count), daemon=True).start()
    yield from _from_worker(endpoint, count)


def dial(channel: grpc.Channel, *, session: str, attempt: int, endpoint: socket.socket, count: Count = _uncounted) -> None:
    """Opens the stream to a peer and carries frames until either side ends; returns at once."""
    _widen(endpoint)
    arrivals = Arrivals()
    arrivals.begin(endpoint)
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
        LINK_METHOD, request_serializer=None, response_deserializer=arrivals.arrive
    )
    metadata = ((SESSION_KEY, session), (ATTEMPT_KEY, str(attempt)))
    stream = call(_from_worker(endpoint, count), metadata=metadata, wait_for_ready=True)
    # Waiting for the peer's port has no limit of its own; without a first frame the worker has given up by this time.
    hang_up = Timer(2 * CONNECT_S, stream.cancel)
    hang_up.daemon = True
    hang_up.start()
    heard = _heard(iter(stream), hang_up, stream.cancel)
    Thread(target=_to_worker, args=(heard, endpoint, arrivals, count), daemon=True).start()


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
    kept, at_once = b"", _SMALL_BYTES
    while True:
        try:
            if len(kept) < _LENGTH.size:
                read = endpoint.recv(at_once)
                if not read:
                    return
                kept = kept + read if kept else read
                continue
            (length,) = _LENGTH.unpack_from(kept)
            if length > MAX_FRAME_BYTES:
                return
            end = _LENGTH.size + length
            if end <= len(kept):
                frame, kept = kept[_LENGTH.size : end], kept[end:]
            else:
                missing = end - len(kept)
                rest = endpoint.recv(missing, socket.MSG_WAITALL)
                if len(rest) < missing:
                    return
                frame, kept = kept[_LENGTH.size :] + rest, b""
        except OSError:
            return
        # After a large frame the next one's length alone, so that its bytes are read in one piece.
        at_once = _SMALL_BYTES if length <= _SMALL_BYTES else _LENGTH.size
        yield frame
        count("sent", length)


def _to_worker(incoming: Iterator[bytes], endpoint: socket.socket, arrivals: Arrivals, count: Count) -> None:
    ended = socket.SHUT_WR
    try:
        for frame in incoming:
            if len(frame) > MAX_FRAME_BYTES:
                ended = socket.SHUT_RDWR  # not a party of ours: the stream ends in both directions
                break
            arrivals.deliver(frame)
            count("received", len(frame))
    except grpc.RpcError:
        pass  # the peer is gone; the worker's next receive names it
    finally:
        with suppress(OSError):
            endpoint.shutdown(ended)
