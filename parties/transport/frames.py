"""The frames of a session link: one fixed header, one layout, raw bytes.

A message of the plan is cut into frames. Every frame carries session, attempt, sequence number, operation and the layout
(dtype and shape of every array) of its whole message; the receiver knows all of them beforehand from its own plan and refuses a
frame that differs in anything. So nothing is ever allocated or looked up on a peer's word. A tag at the end authenticates all
that stands before it (`parties.transport.tags`).

    magic 4 | kind 1 | layout entries 1 | session 16 | attempt 4 | sequence 8 | operation 4 | offset 8 | total 8
    | layout | bytes | tag 16
    layout entry: dtype 1 | dimensions 1 | 4 bytes each dimension             (all integers little-endian, unsigned)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from parties.transport.tags import TAG_BYTES
from protocols.errors import ConfideError, ErrorCode
from protocols.links import DTYPES, MAX_ARRAYS, TensorSpec

MAGIC = b"CFD2"
MAX_FRAME_BYTES = 1 << 20  # smaller ones cost more calls than they save in copies (measured down to 64 KiB)
SOCKET_BYTES = 2 << 20  # what a local socket of a link is asked to hold: most rounds fit, so that nobody waits to write them
MAX_DIMENSIONS = 4
_HEADER = struct.Struct("<4sBB16sIQIQQ")
HEADER_BYTES = _HEADER.size


class FrameKind(IntEnum):
    """What a frame is for."""

    HELLO = 1  # handshake: versions, digests, nonce
    KEY = 2  # handshake: the pair's fresh secret
    DATA = 3  # a message of the plan
    HEARTBEAT = 4  # the sender is alive and has nothing to say yet
    CONFIRM = 5  # handshake: the first frame under the pair's own key


@dataclass(frozen=True)
class Header:
    """Everything of a frame but its bytes."""

    kind: FrameKind
    session: bytes
    attempt: int
    sequence: int
    operation: int
    offset: int
    total: int
    layout: tuple[TensorSpec, ...]


def encode_layout(layout: Sequence[TensorSpec]) -> bytes:
    """Returns the bytes of a layout.

    Raises:
        ConfideError: INTERNAL for arrays that no plan may contain.
    """
    if len(layout) > MAX_ARRAYS:
        raise ConfideError(ErrorCode.INTERNAL, f"a message of {len(layout)} arrays; at most {MAX_ARRAYS} travel together")
    parts = []
    for spec in layout:
        if spec.dtype not in DTYPES or len(spec.shape) > MAX_DIMENSIONS or any(not 0 < d < 2**32 for d in spec.shape):
            raise ConfideError(ErrorCode.INTERNAL, f"an array of type {spec.dtype} and shape {spec.shape} cannot travel")
        parts.append(struct.pack(f"<BB{len(spec.shape)}I", DTYPES.index(spec.dtype), len(spec.shape), *spec.shape))
    return b"".join(parts)


def encode_header(header: Header) -> bytes:
    """Returns the bytes of a header."""
    layout = WireLayout(header.layout)
    return layout.header(
        header.kind, header.session, header.attempt, header.sequence, header.operation, header.offset, total=header.total
    )


class WireLayout:
    """A layout that is encoded once and used for many messages; public.

    Attributes:
        specs: type and shape of every array.
        sizes: payload bytes of every array.
        total: payload bytes of a message.
        header_bytes: bytes of a frame before its payload.
    """

    __slots__ = ("_encoded", "header_bytes", "sizes", "specs", "total")

    def __init__(self, specs: tuple[TensorSpec, ...]) -> None:
        """Raises INTERNAL (ours) for arrays that no plan may contain."""
        self._encoded = encode_layout(specs)
        self.specs = specs
        self.sizes = tuple(spec.num_bytes for spec in specs)
        self.total = sum(self.sizes)
        self.header_bytes = HEADER_BYTES + len(self._encoded)

    def header(
        self, kind: FrameKind, session: bytes, attempt: int, sequence: int, operation: int, offset: int, *, total: int
    ) -> bytes:
        """Returns the bytes of one frame before its payload."""
        fixed = _HEADER.pack(MAGIC, kind, len(self.specs), session, attempt, sequence, operation, offset, total)
        return fixed + self._encoded


def chunks(total: int, header_bytes: int) -> Iterator[tuple[int, int]]:
    """Yields (offset, length) of the frames of a message of `total` payload bytes; one empty frame for an empty message."""
    room = MAX_FRAME_BYTES - header_bytes - TAG_BYTES
    offset = 0
    while True:
        length = min(room, total - offset)
        yield offset, length
        offset += length
        if offset >= total:
            return


def cuts_of(layout: WireLayout) -> Sequence[tuple[int, int]]:
    """Returns (offset, length) of the frames of a message of a layout; quick for the many that are one frame."""
    if layout.total <= MAX_FRAME_BYTES - TAG_BYTES - layout.header_bytes:
        return ((0, layout.total),)
    return tuple(chunks(layout.total, layout.header_bytes))


def decode(frame: memoryview) -> tuple[Header, memoryview]:
    """Splits a frame without its tag into its header and its bytes.

    Raises:
        ConfideError: BAD_FRAME (the peer's fault) for anything that no Confide party sends.
    """
    if not HEADER_BYTES <= len(frame) <= MAX_FRAME_BYTES - TAG_BYTES:
        raise _bad(f"a frame of {len(frame)} bytes")
    magic, kind, arrays, session, attempt, sequence, operation, offset, total = _HEADER.unpack_from(frame)
    if magic != MAGIC or kind not in FrameKind.__members__.values():
        raise _bad("not a frame of this protocol version")
    layout, end = _decode_layout(frame, arrays)
    body = frame[end:]
    if offset + len(body) > total:
        raise _bad("a frame that reaches beyond its message")
    return Header(FrameKind(kind), session, attempt, sequence, operation, offset, total, layout), body


def _decode_layout(frame: memoryview, arrays: int) -> tuple[tuple[TensorSpec, ...], int]:
    if arrays > MAX_ARRAYS:
        raise _bad(f"a message of {arrays} arrays")
    layout, at = [], HEADER_BYTES
    for _ in range(arrays):
        if at + 2 > len(frame):
            raise _bad("a frame that ends inside its layout")
        dtype, dimensions = frame[at], frame[at + 1]
        end = at + 2 + 4 * dimensions
        if dtype >= len(DTYPES) or dimensions > MAX_DIMENSIONS or end > len(frame):
            raise _bad("a frame with an impossible layout")
        layout.append(TensorSpec(DTYPES[dtype], struct.unpack_from(f"<{dimensions}I", frame, at + 2)))
        at = end
    return tuple(layout), at


def kind_and_sequence(frame: memoryview) -> tuple[int, int]:
    """Returns what a frame says it is and its sequence number, which its tag must be checked with.

    Raises:
        ConfideError: BAD_FRAME (the peer's fault): too short for a frame.
    """
    if len(frame) < HEADER_BYTES:
        raise _bad(f"a frame of {len(frame)} bytes")
    _, kind, _, _, _, sequence, _, _, _ = _HEADER.unpack_from(frame)
    return kind, sequence


def difference(expected: Header, received: Header) -> str:
    """Names the first field in which a received header is not the expected one; empty if none is."""
    for field in ("session", "attempt", "kind", "sequence", "operation", "layout", "total", "offset"):
        if getattr(expected, field) != getattr(received, field):
            return field
    return ""


def _bad(what: str) -> ConfideError:
    return ConfideError(ErrorCode.BAD_FRAME, what)
