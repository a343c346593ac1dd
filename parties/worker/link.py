"""A session worker's end of a link: checked frames over a local socket that the party process joins to the peer's.

The worker has no network. It writes length-prefixed frames to an inherited socket; the party process carries them over the
mutual-TLS stream to the peer's party process, which hands them to the peer's worker. Every frame ends with a tag under a key
that only the two workers hold, so nothing between them can alter, forge, repeat, drop or reorder one unseen.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from parties.transport.frames import (
    HEADER_BYTES,
    SOCKET_BYTES,
    FrameKind,
    Header,
    WireLayout,
    cuts_of,
    decode,
    difference,
    kind_and_sequence,
)
from parties.transport.tags import TAG_BYTES, TagKey, opening_key
from parties.transport.timing import CONNECT_S, MESSAGE_S, SEND_S, SILENCE_S
from parties.worker.ahead import AHEAD_BYTES, Ahead
from parties.worker.incoming import Incoming
from parties.worker.outgoing import Outgoing
from protocols.errors import ConfideError, ErrorCode
from protocols.links import Array, TensorSpec

_MAX_CONTROL_BYTES = 4096
_NO_ARRAYS = WireLayout(())
_LONG_BYTES = HEADER_BYTES + 6  # before the payload of a long run of bytes: one array of one dimension
_LARGE_BYTES = 512 << 10  # a message of one frame that is used where it was received; below, a copy is quicker
_ALIGNMENT = 8


class WorkerLink:
    """A `protocols.links.Link` to one peer.

    Sending may be done by one thread and heartbeats by another; receiving by one thread. Counters are public facts:
    `payload_bytes` of plan messages sent, `received_bytes` of those received, `frame_bytes` of everything sent.
    """

    def __init__(self, endpoint: socket.socket, *, peer: str, session: bytes, attempt: int) -> None:
        endpoint.setblocking(True)
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        _limit(endpoint, socket.SO_SNDTIMEO, SEND_S)
        _limit(endpoint, socket.SO_RCVTIMEO, CONNECT_S)  # the peer's worker may still be starting
        self._socket = endpoint
        self._peer = peer
        self._session = session
        self._attempt = attempt
        self._received = 0
        self._is_heard = False  # the peer's worker has started
        self._incoming = opening_key(session, attempt)
        self._next_incoming: TagKey | None = None  # in force from the peer's CONFIRM on
        # Not a method of this link: its buffers, of more than a MiB, would be kept until a collection of cycles.
        self._outgoing = Outgoing(endpoint, session=session, attempt=attempt, key=self._incoming, lost=partial(_lost, peer))
        self._frames = Incoming(endpoint)
        self._ahead: Ahead | None = None
        self._layouts: dict[tuple[TensorSpec, ...], WireLayout] = {}
        self._layouts_by_form: dict[tuple[tuple[str, tuple[int, ...]], ...], WireLayout] = {}
        self.payload_bytes = 0
        self.received_bytes = 0

    @property
    def peer(self) -> str:
        """Party id of the other end."""
        return self._peer

    @property
    def frame_bytes(self) -> int:
        """Bytes of everything that this end sent."""
        return self._outgoing.frame_bytes

    @property
    def attempt(self) -> int:
        """The attempt of the session that this link serves; public."""
        return self._attempt

    def send(self, operation: int, arrays: Sequence[Array]) -> None:
        """Sends one message of the plan; see `protocols.links.Link.send`."""
        layout = self._layout_of(arrays)
        self._outgoing.send(operation, layout, [np.ascontiguousarray(array).data.cast("B") for array in arrays])
        self.payload_bytes += layout.total

    def send_control(self, kind: FrameKind, body: bytes) -> None:
        """Sends one small frame of the handshake.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault).
        """
        self._outgoing.send_control(kind, body)

    def confirm(self, *, outgoing: TagKey, incoming: TagKey) -> None:
        """Sends the first frame under the pair's keys, which shows the peer that this worker holds them.

        All that follows is sent under `outgoing`; what comes is expected under `incoming` from the peer's CONFIRM on, which is
        to be awaited with `receive_control`.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault).
        """
        self._next_incoming = incoming
        self._outgoing.confirm(outgoing)

    def heartbeat(self) -> None:
        """Tells the peer that this worker lives, unless a message is being sent or the peer takes nothing at the moment."""
        self._outgoing.heartbeat()

    def close(self) -> None:
        """Ends the link; what was sent still arrives.

        Raises:
            ConfideError: PEER_LOST or PEER_SILENT (the peer's fault): it did not take the last message.
        """
        try:
            self._outgoing.settle()
        finally:
            if self._ahead is not None:
                self._ahead.stop()
                with suppress(OSError):  # the party process was faster
                    self._socket.shutdown(socket.SHUT_RD)  # wakes the thread
            self._socket.close()

    def read_ahead(self, max_bytes: int = AHEAD_BYTES) -> None:
        """From now on receives ahead of need, in a thread of its own, as long as at most `max_bytes` wait.

        For a link on which the peer sends long runs without waiting for answers, after the handshake.
        """
        self._ahead = Ahead(lambda: self._own_frame(math.inf, _LONG_BYTES), max_bytes=max_bytes)

    def receive(self, operation: int, layout: Sequence[TensorSpec]) -> list[Array]:
        """Waits for one message of the plan; see `protocols.links.Link.receive`."""
        wire = self._layout_from(tuple(layout))
        deadline = time.monotonic() + MESSAGE_S
        cuts = cuts_of(wire)
        if len(cuts) == 1 and wire.total >= _LARGE_BYTES:
            buffer = _aligned(self._body(operation, wire, cuts[0], deadline, self._own_frame))
        else:
            buffer = np.empty(wire.total, np.uint8)
            for offset, length in cuts:
                buffer.data[offset : offset + length] = self._body(operation, wire, (offset, length), deadline, self._frame)
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
        body = self._next(kind, 0, _NO_ARRAYS, 0, None, time.monotonic() + MESSAGE_S, self._frame)
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

    # Receiving.

    def _body(
        self, operation: int, layout: WireLayout, cut: tuple[int, int], deadline: float, read: Callable[[float, int], memoryview]
    ) -> memoryview:
        offset, length = cut
        body = self._next(FrameKind.DATA, operation, layout, offset, layout.total, deadline, read)
        if len(body) != length:
            raise self._fault(ErrorCode.BAD_FRAME, "a frame whose length is not the plan's")
        return body

    def _next(
        self, kind: FrameKind, operation: int, layout: WireLayout, offset: int, total: int | None, deadline: float,
        read: Callable[[float, int], memoryview],
    ) -> memoryview:  # fmt: skip
        """Returns the bytes of the next frame that is no heartbeat, which must be the expected one; valid as long as `read` says.

        Args:
            kind: what it must be.
            operation: whose message.
            layout: of the message.
            offset: where in the message it must begin.
            total: payload bytes of the message; None for a handshake frame, which is a message of its own size.
            deadline: when the peer must have sent it.
            read: how to read frames that are not received ahead.
        """
        while True:
            frame = read(deadline, layout.header_bytes) if self._ahead is None else self._received_ahead(self._ahead, deadline)
            self._received += 1
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

    def _frame(self, deadline: float, _header_bytes: int) -> memoryview:
        """Returns the next frame without its tag, which was right; valid until the next call."""
        try:
            frame = self._frames.next(deadline)
        except (OSError, ConfideError) as error:
            raise self._unread(error) from error
        return self._authenticated(frame)

    def _own_frame(self, deadline: float, header_bytes: int) -> memoryview:
        """The same in memory of its own."""
        try:
            frame = self._frames.next_own(deadline, header_bytes=header_bytes)
        except (OSError, ConfideError) as error:
            raise self._unread(error) from error
        return self._authenticated(frame)

    def _received_ahead(self, ahead: Ahead, deadline: float) -> memoryview:
        """The same from what was received ahead."""
        try:
            return ahead.next(deadline)
        except TimeoutError as error:
            raise self._no_message() from error

    def _unread(self, error: OSError | ConfideError) -> ConfideError:
        """Returns what it means that no frame could be read."""
        match error:
            case ConfideError():
                return self._fault(error.code, error.what)
            case TimeoutError():
                return self._no_message()
            case BlockingIOError():
                return self._fault(ErrorCode.PEER_SILENT, f"nothing came from {self._peer} in time")
            case _:
                return self._fault(ErrorCode.PEER_LOST, f"the link to {self._peer} ended")

    def _no_message(self) -> ConfideError:
        return self._fault(ErrorCode.PEER_SILENT, f"{self._peer} lives but sent no message for {MESSAGE_S:.0f} s")

    def _authenticated(self, frame: memoryview) -> memoryview:
        if not self._is_heard:
            self._is_heard = True
            _limit(self._socket, socket.SO_RCVTIMEO, SILENCE_S)
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

    def _fault(self, code: ErrorCode, what: str) -> ConfideError:
        return ConfideError(code, what, party=self._peer)


def _lost(peer: str, error: OSError) -> ConfideError:
    """Returns what it means that nothing can be sent to a peer."""
    if isinstance(error, BlockingIOError):
        return ConfideError(ErrorCode.PEER_SILENT, f"{peer} took no bytes for {SEND_S:.0f} s", party=peer)
    return ConfideError(ErrorCode.PEER_LOST, f"the link to {peer} ended", party=peer)


def _aligned(body: memoryview) -> NDArray[np.uint8]:
    found = np.frombuffer(body, np.uint8)
    return found if found.__array_interface__["data"][0] % _ALIGNMENT == 0 else found.copy()


def _limit(endpoint: socket.socket, option: int, seconds: float) -> None:
    whole = int(seconds)
    endpoint.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, int((seconds - whole) * 1_000_000)))
