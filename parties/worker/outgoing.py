"""The sending side of a link: messages cut into frames, tagged, and written to the local socket without making anybody wait."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock, Thread

import numpy as np

from parties.transport.frames import FrameKind, WireLayout, cuts_of
from parties.transport.tags import TAG_BYTES, TagKey
from protocols.errors import ConfideError

_LENGTH = struct.Struct("<I")
_NO_ARRAYS = WireLayout(())
_KEPT_BYTES = 8 << 20  # memory that is kept for the frames of the next message


class Outgoing:
    """Sends the frames of one direction; messages from one thread, heartbeats from another.

    `frame_bytes` counts everything that was sent.
    """

    def __init__(
        self, endpoint: socket.socket, *, session: bytes, attempt: int, key: TagKey, lost: Callable[[OSError], ConfideError]
    ) -> None:
        """Takes the local socket, what every frame names, the key of the first frames, and what a failed socket means."""
        self._socket = endpoint
        self._session = session
        self._attempt = attempt
        self._key = key
        self._lost = lost
        self._sent = 0
        self._broken = False  # a frame was sent in part: nothing that follows could be understood
        self._lock = Lock()
        self._sending: Thread | None = None
        self._failure: ConfideError | None = None
        self._memory = bytearray()
        self.frame_bytes = 0

    def send(self, operation: int, layout: WireLayout, arrays: Sequence[memoryview]) -> None:
        """Sends one message; its arrays may be changed once this returns.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault), of this message or of one before it.
        """
        self.settle()
        # In a round both sides send before they receive. A message that the sockets between them cannot hold must not keep
        # this side from receiving, or both would wait for each other for good: what they do not take at once is sent aside.
        self._lock.acquire()
        is_aside = False
        try:
            rest, frame_bytes = self._send_at_once(operation, layout, arrays)
            if rest:
                self._sending = Thread(target=self._send_aside, args=(rest, frame_bytes), daemon=True)
                self._sending.start()
                is_aside = True
        except OSError as error:
            raise self._lost(error) from error
        finally:
            if not is_aside:
                self._lock.release()

    def send_control(self, kind: FrameKind, body: bytes) -> None:
        """Sends one small frame of the handshake.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault).
        """
        try:
            with self._lock:
                self._send_control(kind, body)
        except OSError as error:
            raise self._lost(error) from error

    def confirm(self, key: TagKey) -> None:
        """Sends the first frame under the pair's own key, and everything after it under the same.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault).
        """
        try:
            with self._lock:
                self._key = key
                self._send_control(FrameKind.CONFIRM, b"")
        except OSError as error:
            raise self._lost(error) from error

    def heartbeat(self) -> None:
        """Sends a sign of life, unless a message is being sent or the socket takes nothing at the moment."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._broken:
                return
            data = self._control_frame(FrameKind.HEARTBEAT, b"")
            sent = self._socket.send(data, socket.MSG_DONTWAIT)
            if sent < len(data):
                self._broken = True
                self._socket.sendall(data[sent:])
                self._broken = False
            self._sent += 1
            self.frame_bytes += len(data) - _LENGTH.size
        except OSError:
            return  # full: the peer is busy, and has bytes to read; closed: the next receive says so
        finally:
            self._lock.release()

    def settle(self) -> None:
        """Waits until the last large message has been sent, and says what became of it.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault).
        """
        if self._sending is not None:
            self._sending.join()
            self._sending = None
        if self._failure is not None:
            raise self._failure

    # The lock is held.

    def _send_at_once(self, operation: int, layout: WireLayout, arrays: Sequence[memoryview]) -> tuple[memoryview, int]:
        """Makes the frames of a message and sends what the socket takes; returns the bytes that are left, and all counted."""
        if self._broken:
            raise BrokenPipeError
        cuts = cuts_of(layout)
        overhead = layout.header_bytes + TAG_BYTES
        wire = self._room_for(layout.total + len(cuts) * (_LENGTH.size + overhead))
        sent = made = 0
        self._broken = True
        for offset, length in cuts:
            header = layout.header(
                FrameKind.DATA, self._session, self._attempt, self._sent, operation, offset, total=layout.total
            )
            body = arrays if len(cuts) == 1 else _pieces(arrays, offset, length)
            made += self._write_frame(wire[made : made + _LENGTH.size + overhead + length], header, body)
            self._sent += 1
            sent += self._send_now(wire[sent:made])
        frame_bytes = layout.total + len(cuts) * overhead
        if sent == made:
            self._broken = False
            self.frame_bytes += frame_bytes
        return wire[sent:], frame_bytes

    def _room_for(self, count: int) -> memoryview:
        """Returns memory for the frames of a message: the same each time, which is safe since none is under way."""
        if count > _KEPT_BYTES:
            return np.empty(count, np.uint8).data
        if count > len(self._memory):
            self._memory = bytearray(count)
        return memoryview(self._memory)[:count]

    def _write_frame(self, into: memoryview, header: bytes, body: Iterable[bytes | memoryview]) -> int:
        start, end = _LENGTH.size, len(into) - TAG_BYTES
        _LENGTH.pack_into(into, 0, len(into) - start)
        at = start + len(header)
        into[start:at] = header
        for piece in body:
            into[at : at + len(piece)] = piece
            at += len(piece)
        into[end:] = self._key.tag(self._sent, into[start:end])
        return len(into)

    def _send_now(self, data: memoryview) -> int:
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def _send_aside(self, rest: memoryview, frame_bytes: int) -> None:
        try:
            self._socket.sendall(rest)
            self._broken = False
            self.frame_bytes += frame_bytes
        except OSError as error:
            self._failure = self._lost(error)
        finally:
            self._lock.release()  # taken by `send`: nothing may come between the parts of a message

    def _send_control(self, kind: FrameKind, body: bytes) -> None:
        if self._broken:
            raise BrokenPipeError
        data = self._control_frame(kind, body)
        self._broken = True
        self._socket.sendall(data)
        self._broken = False
        self._sent += 1
        self.frame_bytes += len(data) - _LENGTH.size

    def _control_frame(self, kind: FrameKind, body: bytes) -> bytes:
        header = _NO_ARRAYS.header(kind, self._session, self._attempt, self._sent, 0, 0, total=len(body))
        data = bytearray(_LENGTH.size + len(header) + len(body) + TAG_BYTES)
        self._write_frame(memoryview(data), header, [body])
        return bytes(data)


def _pieces(arrays: Sequence[memoryview], offset: int, length: int) -> Iterator[memoryview]:
    """Yields what arrays hold from a byte of theirs on, as if they lay one after the other."""
    for array in arrays:
        if length > 0 and offset < len(array):
            piece = array[offset : offset + length]
            yield piece
            length -= len(piece)
            offset = 0
        else:
            offset -= len(array)
