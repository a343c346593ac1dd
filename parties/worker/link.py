"""A session worker's end of a link: checked frames over a local socket that the party process joins to the peer's.

The worker has no network. It writes length-prefixed frames to an inherited socket; the party process carries them over the
mutual-TLS stream to the peer's party process, which hands them to the peer's worker. Every frame ends with a tag under a key
that only the two workers hold, so nothing between them can alter, forge, repeat, drop or reorder one unseen.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from threading import Lock, Thread

import numpy as np

from parties.transport.frames import (
    FrameKind,
    Header,
    WireLayout,
    chunks,
    decode,
    difference,
    kind_and_sequence,
)
from parties.transport.tags import TAG_BYTES, TagKey, opening_key
from parties.transport.timing import CONNECT_S, MESSAGE_S, SEND_S, SILENCE_S
from parties.worker.incoming import Incoming
from protocols.errors import ConfideError, ErrorCode
from protocols.links import Array, TensorSpec

_LENGTH = struct.Struct("<I")
_MAX_CONTROL_BYTES = 4096
_NO_ARRAYS = WireLayout(())


class WorkerLink:
    """A `protocols.links.Link` to one peer.

    Sending may be done by one thread and heartbeats by another; receiving by one thread. Counters are public facts:
    `payload_bytes` of plan messages sent, `received_bytes` of those received, `frame_bytes` of everything sent.
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
        self._outgoing = self._incoming = opening_key(session, attempt)
        self._next_incoming: TagKey | None = None  # in force from the peer's CONFIRM on
        self._broken = False  # a frame was sent in part: nothing that follows could be understood
        self._lock = Lock()
        self._sending: Thread | None = None
        self._failure: ConfideError | None = None
        self._frames = Incoming(endpoint)
        self._layouts: dict[tuple[TensorSpec, ...], WireLayout] = {}
        self._layouts_by_form: dict[tuple[tuple[str, tuple[int, ...]], ...], WireLayout] = {}
        self.payload_bytes = 0
        self.received_bytes = 0
        self.frame_bytes = 0

    @property
    def peer(self) -> str:
        """Party id of the other end."""
        return self._peer

    @property
    def attempt(self) -> int:
        """The attempt of the session that this link serves; public."""
        return self._attempt

    def send(self, operation: int, arrays: Sequence[Array]) -> None:
        """Sends one message of the plan; see `protocols.links.Link.send`."""
        layout = self._layout_of(arrays)
        flat = [np.ascontiguousarray(array).data.cast("B") for array in arrays]
        self._settle()
        # In a round both sides send before they receive. A message that the sockets between them cannot hold must not keep
        # this side from receiving, or both would wait for each other for good: what they do not take at once is sent aside.
        self._lock.acquire()
        is_aside = False
        try:
            rest, frame_bytes = self._send_at_once(operation, layout, flat)
            if rest:
                self._sending = Thread(target=self._send_aside, args=(rest, frame_bytes), daemon=True)
                self._sending.start()
                is_aside = True
        except OSError as error:
            raise self._lost(error) from error
        finally:
            if not is_aside:
                self._lock.release()
        self.payload_bytes += layout.total

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

    def confirm(self, *, outgoing: TagKey, incoming: TagKey) -> None:
        """Sends the first frame under the pair's keys, which shows the peer that this worker holds them.

        All that follows is sent under `outgoing`; what comes is expected under `incoming` from the peer's CONFIRM on, which is
        to be awaited with `receive_control`.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault).
        """
        self._next_incoming = incoming
        try:
            with self._lock:
                self._outgoing = outgoing
                self._send_control(FrameKind.CONFIRM, b"")
        except OSError as error:
            raise self._lost(error) from error

    def heartbeat(self) -> None:
        """Tells the peer that this worker lives, unless a message is being sent or the peer takes nothing at the moment."""
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
        wire = self._layout_from(tuple(layout))
        buffer = np.empty(wire.total, np.uint8)
        target = buffer.data
        deadline = time.monotonic() + MESSAGE_S
        for offset, length in chunks(wire.total, wire.header_bytes):
            body = self._next(FrameKind.DATA, operation, wire, offset, wire.total, deadline)
            if len(body) != length:
                raise self._fault(ErrorCode.BAD_FRAME, "a frame whose length is not the plan's")
            target[offset : offset + length] = body
        self.received_bytes += wire.total
        buffer.flags.writeable = False
        arrays: list[Array] = []
        at = 0
        for spec, size in zip(wire.specs, wire.sizes, strict=True):
            arrays.append(buffer[at : at + size].view(spec.dtype).reshape(spec.shape))
            at += size
        return arrays

    def receive_control(self, kind: FrameKind) -> bytes:
        """Waits for one small frame of the handshake.

        Raises:
            ConfideError: PEER_LOST, PEER_SILENT or BAD_FRAME (the peer's fault).
        """
        body = self._next(kind, 0, _NO_ARRAYS, 0, None, time.monotonic() + MESSAGE_S)
        if len(body) > _MAX_CONTROL_BYTES:
            raise self._fault(ErrorCode.BAD_FRAME, f"a handshake frame of {len(body)} bytes")
        return bytes(body)

    def _layout_of(self, arrays: Sequence[Array]) -> WireLayout:
        form = tuple([(array.dtype.char, array.shape) for array in arrays])
        layout = self._layouts_by_form.get(form)
        if layout is None:
            layout = self._layout_from(tuple(TensorSpec(array.dtype.name, array.shape) for array in arrays))
            self._layouts_by_form[form] = layout
        return layout

    def _layout_from(self, specs: tuple[TensorSpec, ...]) -> WireLayout:
        layout = self._layouts.get(specs)
        if layout is None:
            layout = self._layouts[specs] = WireLayout(specs)
        return layout

    # Sending. The lock is held.

    def _send_at_once(self, operation: int, layout: WireLayout, flat: list[memoryview]) -> tuple[memoryview, int]:
        """Makes the frames of a message and sends what the socket takes; returns the bytes that are left, and all counted."""
        if self._broken:
            raise BrokenPipeError
        cuts = list(chunks(layout.total, layout.header_bytes))
        overhead = layout.header_bytes + TAG_BYTES
        payload = flat[0] if len(flat) == 1 else memoryview(b"".join(flat))
        wire = np.empty(layout.total + len(cuts) * (_LENGTH.size + overhead), np.uint8).data
        sent = made = 0
        self._broken = True
        for offset, length in cuts:
            header = layout.header(
                FrameKind.DATA, self._session, self._attempt, self._sent, operation, offset, total=layout.total
            )
            body = payload[offset : offset + length]
            made += self._write_frame(wire[made : made + _LENGTH.size + overhead + length], header, body)
            self._sent += 1
            sent += self._send_now(wire[sent:made])
        frame_bytes = layout.total + len(cuts) * overhead
        if sent == made:
            self._broken = False
            self.frame_bytes += frame_bytes
        return wire[sent:], frame_bytes

    def _write_frame(self, into: memoryview, header: bytes, body: memoryview) -> int:
        start, end = _LENGTH.size, len(into) - TAG_BYTES
        _LENGTH.pack_into(into, 0, len(into) - start)
        into[start : start + len(header)] = header
        into[start + len(header) : end] = body
        into[end:] = self._outgoing.tag(self._sent, into[start:end])
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
        self._write_frame(memoryview(data), header, memoryview(body))
        return bytes(data)

    def _settle(self) -> None:
        """Waits until the last large message has been sent, and says what became of it."""
        if self._sending is not None:
            self._sending.join()
            self._sending = None
        if self._failure is not None:
            raise self._failure

    # Receiving.

    def _next(
        self, kind: FrameKind, operation: int, layout: WireLayout, offset: int, total: int | None, deadline: float
    ) -> memoryview:
        """Returns the bytes of the next frame that is no heartbeat, which must be the expected one; valid until the next call.

        Args:
            kind: what it must be.
            operation: whose message.
            layout: of the message.
            offset: where in the message it must begin.
            total: payload bytes of the message; None for a handshake frame, which is a message of its own size.
            deadline: when the peer must have sent it.
        """
        while True:
            frame = self._read_frame(deadline)
            expected = layout.header(
                kind, self._session, self._attempt, self._received - 1, operation, offset,
                total=len(frame) - layout.header_bytes if total is None else total,
            )  # fmt: skip
            if frame[: len(expected)] == expected:
                return frame[len(expected) :]
            header, body = self._decoded(frame)
            if header.kind is not FrameKind.HEARTBEAT:
                wanted = len(body) if total is None else total
                raise self._differs(header, kind, operation, offset, wanted, layout)
            if difference(self._header(FrameKind.HEARTBEAT, 0, 0, 0, _NO_ARRAYS), header) or body:
                raise self._differs(header, FrameKind.HEARTBEAT, 0, 0, 0, _NO_ARRAYS)

    def _read_frame(self, deadline: float) -> memoryview:
        """Returns the next frame without its tag, which was right."""
        try:
            frame = self._frames.next(deadline)
        except TimeoutError as error:
            what = f"{self._peer} lives but sent no message for {MESSAGE_S:.0f} s"
            raise self._fault(ErrorCode.PEER_SILENT, what) from error
        except BlockingIOError as error:
            raise self._fault(ErrorCode.PEER_SILENT, f"nothing came from {self._peer} in time") from error
        except OSError as error:
            raise self._fault(ErrorCode.PEER_LOST, f"the link to {self._peer} ended") from error
        except ConfideError as error:
            raise self._fault(error.code, error.what) from error
        if self._received == 0:
            _limit(self._socket, socket.SO_RCVTIMEO, SILENCE_S)
        self._received += 1
        return self._authenticated(frame)

    def _authenticated(self, frame: memoryview) -> memoryview:
        content, tag = frame[:-TAG_BYTES], frame[-TAG_BYTES:]
        try:
            kind, sequence = kind_and_sequence(content)
        except ConfideError as error:
            raise self._fault(error.code, error.what) from error
        if kind == FrameKind.CONFIRM and self._next_incoming is not None:
            self._incoming, self._next_incoming = self._next_incoming, None
        if not self._incoming.matches(sequence, content, tag):
            raise self._fault(ErrorCode.BAD_FRAME, f"a frame from {self._peer} was altered on its way, or made by somebody else")
        return content

    def _decoded(self, frame: memoryview) -> tuple[Header, memoryview]:
        try:
            return decode(frame)
        except ConfideError as error:
            raise self._fault(error.code, error.what) from error

    def _header(self, kind: FrameKind, operation: int, offset: int, total: int, layout: WireLayout) -> Header:
        return Header(kind, self._session, self._attempt, self._received - 1, operation, offset, total, layout.specs)

    def _differs(
        self, header: Header, kind: FrameKind, operation: int, offset: int, total: int, layout: WireLayout
    ) -> ConfideError:
        field = difference(self._header(kind, operation, offset, total, layout), header)
        return self._fault(ErrorCode.BAD_FRAME, f"a frame from {self._peer} differs from the plan in its {field}")

    def _lost(self, error: OSError) -> ConfideError:
        if isinstance(error, BlockingIOError):
            return self._fault(ErrorCode.PEER_SILENT, f"{self._peer} took no bytes for {SEND_S:.0f} s")
        return self._fault(ErrorCode.PEER_LOST, f"the link to {self._peer} ended")

    def _fault(self, code: ErrorCode, what: str) -> ConfideError:
        return ConfideError(code, what, party=self._peer)


def _limit(endpoint: socket.socket, option: int, seconds: float) -> None:
    whole = int(seconds)
    endpoint.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, int((seconds - whole) * 1_000_000)))
