"""A session worker's end of a link: checked frames over a local socket that the party process joins to the peer's.

The worker has no network. It writes length-prefixed frames to an inherited socket; the party process carries them over the
mutual-TLS stream to the peer's party process, which hands them to the peer's worker.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from threading import Lock, Thread

import numpy as np

from parties.transport.frames import (
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    FrameKind,
    Header,
    chunks,
    decode,
    difference,
    encode_header,
    encode_layout,
)
from parties.transport.timing import CONNECT_S, MESSAGE_S, SEND_S, SILENCE_S
from protocols.errors import ConfideError, ErrorCode
from protocols.links import Array, TensorSpec

_LENGTH = struct.Struct("<I")
_MAX_CONTROL_BYTES = 4096
_INLINE_BYTES = 64 * 1024  # what a local socket takes without anybody reading


class WorkerLink:
    """A `protocols.links.Link` to one peer.

    Sending may be done by one thread and heartbeats by another; receiving by one thread. Counters are public facts:
    `payload_bytes` of plan messages sent, `frame_bytes` of everything sent.
    """

    def __init__(self, endpoint: socket.socket, *, peer: str, session: bytes, attempt: int) -> None:
        endpoint.setblocking(True)
        _limit(endpoint, socket.SO_SNDTIMEO, SEND_S)
        _limit(endpoint, socket.SO_RCVTIMEO, CONNECT_S)  # the peer's worker may still be starting
        self._socket = endpoint
        self._peer = peer
        self._session = session
        self._attempt = attempt
        self._sent = 0
        self._received = 0
        self._broken = False  # a frame was sent in part: nothing that follows could be understood
        self._lock = Lock()
        self._sending: Thread | None = None
        self._failure: ConfideError | None = None
        self.payload_bytes = 0
        self.frame_bytes = 0

    @property
    def peer(self) -> str:
        """Party id of the other end."""
        return self._peer

    def send(self, operation: int, arrays: Sequence[Array]) -> None:
        """Sends one message of the plan; see `protocols.links.Link.send`."""
        layout = tuple(TensorSpec(array.dtype.name, array.shape) for array in arrays)
        flat = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
        payload = (flat[0] if len(flat) == 1 else np.concatenate([np.empty(0, np.uint8), *flat])).data
        self._settle()
        if len(payload) <= _INLINE_BYTES:
            self._send(FrameKind.DATA, operation, layout, payload)
        else:
            # In a round both sides send before they receive. A message that the sockets between them cannot hold must not
            # keep this side from receiving, or both would wait for each other for good.
            self._sending = Thread(target=self._send_aside, args=(operation, layout, memoryview(bytes(payload))), daemon=True)
            self._sending.start()
        self.payload_bytes += len(payload)

    def send_control(self, kind: FrameKind, body: bytes) -> None:
        """Sends one small frame of the handshake."""
        self._send(kind, 0, (), memoryview(body))

    def heartbeat(self) -> None:
        """Tells the peer that this worker lives, unless a message is being sent or the peer takes nothing at the moment."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._broken:
                return
            frame = self._header(FrameKind.HEARTBEAT, 0, (), 0, 0)
            data = _LENGTH.pack(len(frame)) + frame
            sent = self._socket.send(data, socket.MSG_DONTWAIT)
            if sent < len(data):
                self._broken = True
                self._socket.sendall(data[sent:])
                self._broken = False
            self._sent += 1
            self.frame_bytes += len(frame)
        except OSError:
            return  # full: the peer is busy, and has bytes to read; closed: the next receive says so
        finally:
            self._lock.release()

    def close(self) -> None:
        """Ends the link; what was sent still arrives.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault): it did not take the last message.
        """
        try:
            self._settle()
        finally:
            self._socket.close()

    def receive(self, operation: int, layout: Sequence[TensorSpec]) -> list[Array]:
        """Waits for one message of the plan; see `protocols.links.Link.receive`."""
        layout = tuple(layout)
        total = sum(spec.num_bytes for spec in layout)
        buffer = np.empty(total, np.uint8)
        header_bytes = HEADER_BYTES + len(encode_layout(layout))
        target = buffer.data
        deadline = time.monotonic() + MESSAGE_S
        for offset, length in chunks(total, header_bytes):
            header, body = self._next(deadline)
            self._check(header, self._expected(FrameKind.DATA, operation, layout, offset, total))
            if len(body) != length:
                raise self._fault(ErrorCode.BAD_FRAME, "a frame whose length is not the plan's")
            target[offset : offset + length] = body
        buffer.flags.writeable = False
        arrays: list[Array] = []
        at = 0
        for spec in layout:
            arrays.append(buffer[at : at + spec.num_bytes].view(spec.dtype).reshape(spec.shape))
            at += spec.num_bytes
        return arrays

    def receive_control(self, kind: FrameKind) -> bytes:
        """Waits for one small frame of the handshake.

        Raises:
            ConfideError: PEER_LOST, PEER_SILENT or BAD_FRAME (the peer's fault).
        """
        header, body = self._next(time.monotonic() + MESSAGE_S)
        self._check(header, self._expected(kind, 0, (), 0, len(body)))
        if len(body) > _MAX_CONTROL_BYTES:
            raise self._fault(ErrorCode.BAD_FRAME, f"a handshake frame of {len(body)} bytes")
        return bytes(body)

    def _send_aside(self, operation: int, layout: tuple[TensorSpec, ...], payload: memoryview) -> None:
        try:
            self._send(FrameKind.DATA, operation, layout, payload)
        except ConfideError as error:
            self._failure = error

    def _settle(self) -> None:
        """Waits until the last large message has been sent, and says what became of it."""
        if self._sending is not None:
            self._sending.join()
            self._sending = None
        if self._failure is not None:
            raise self._failure

    def _header(self, kind: FrameKind, operation: int, layout: tuple[TensorSpec, ...], offset: int, total: int) -> bytes:
        return encode_header(Header(kind, self._session, self._attempt, self._sent, operation, offset, total, layout))

    def _expected(self, kind: FrameKind, operation: int, layout: tuple[TensorSpec, ...], offset: int, total: int) -> Header:
        return Header(kind, self._session, self._attempt, self._received - 1, operation, offset, total, layout)

    def _send(self, kind: FrameKind, operation: int, layout: tuple[TensorSpec, ...], payload: memoryview) -> None:
        header_bytes = HEADER_BYTES + len(encode_layout(layout))
        try:
            with self._lock:
                if self._broken:
                    raise BrokenPipeError
                for offset, length in chunks(len(payload), header_bytes):
                    header = self._header(kind, operation, layout, offset, len(payload))
                    frame_bytes = header_bytes + length
                    self._broken = True
                    self._send_all(_LENGTH.pack(frame_bytes) + header, payload[offset : offset + length])
                    self._broken = False
                    self._sent += 1
                    self.frame_bytes += frame_bytes
        except BlockingIOError as error:
            raise self._fault(ErrorCode.PEER_SILENT, f"{self._peer} took no bytes for {SEND_S:.0f} s") from error
        except OSError as error:
            raise self._fault(ErrorCode.PEER_LOST, f"the link to {self._peer} ended") from error

    def _send_all(self, head: bytes, body: memoryview) -> None:
        sent = self._socket.sendmsg([head, body])
        if sent < len(head):
            self._socket.sendall(head[sent:])
            sent = len(head)
        if sent < len(head) + len(body):
            self._socket.sendall(body[sent - len(head) :])

    def _check(self, header: Header, expected: Header) -> None:
        field = difference(expected, header)
        if field:
            raise self._fault(ErrorCode.BAD_FRAME, f"a frame from {self._peer} differs from the plan in its {field}")

    def _next(self, deadline: float) -> tuple[Header, memoryview]:
        """Returns the next frame that is no heartbeat; the caller checks it against what it expects."""
        while True:
            header, body = self._read_frame(deadline)
            if self._received == 0:
                _limit(self._socket, socket.SO_RCVTIMEO, SILENCE_S)
            self._received += 1
            if header.kind is not FrameKind.HEARTBEAT:
                return header, body
            self._check(header, self._expected(FrameKind.HEARTBEAT, 0, (), 0, 0))

    def _read_frame(self, deadline: float) -> tuple[Header, memoryview]:
        try:
            (length,) = _LENGTH.unpack(self._read(4, deadline))
            if length > MAX_FRAME_BYTES:
                raise self._fault(ErrorCode.BAD_FRAME, f"a frame of {length} bytes")
            return decode(memoryview(self._read(length, deadline)))
        except BlockingIOError as error:
            raise self._fault(ErrorCode.PEER_SILENT, f"nothing came from {self._peer} in time") from error
        except OSError as error:
            raise self._fault(ErrorCode.PEER_LOST, f"the link to {self._peer} ended") from error
        except ConfideError as error:
            raise self._fault(error.code, error.what) from error

    def _read(self, length: int, deadline: float) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            count = self._socket.recv_into(view)
            if count == 0:
                raise ConnectionResetError
            view = view[count:]
            if time.monotonic() > deadline:  # heartbeats or single bytes keep the socket's own limit from ending the wait
                raise self._fault(ErrorCode.PEER_SILENT, f"{self._peer} lives but sent no message for {MESSAGE_S:.0f} s")
        return data

    def _fault(self, code: ErrorCode, what: str) -> ConfideError:
        return ConfideError(code, what, party=self._peer)


def _limit(endpoint: socket.socket, option: int, seconds: float) -> None:
    whole = int(seconds)
    endpoint.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, int((seconds - whole) * 1_000_000)))
