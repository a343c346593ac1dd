"""Frames from a local socket: few calls for small frames, no copy for large ones."""

from __future__ import annotations

import socket
import struct
import time

import numpy as np

from parties.transport.frames import HEADER_BYTES, MAX_FRAME_BYTES
from parties.transport.tags import TAG_BYTES
from protocols.errors import ConfideError, ErrorCode

_LENGTH = struct.Struct("<I")
_AHEAD_BYTES = 64 * 1024  # read at once when little is known to come: a small frame then takes one call
_ALIGNMENT = 16


class Incoming:
    """Reads length-prefixed frames from a blocking socket; for one thread at a time."""

    def __init__(self, endpoint: socket.socket) -> None:
        self._socket = endpoint
        self._buffer = memoryview(bytearray(_LENGTH.size + MAX_FRAME_BYTES + _AHEAD_BYTES))
        self._start = self._end = 0

    def next(self, deadline: float) -> memoryview:
        """Returns the next frame; its bytes are valid until the next call of either method.

        Raises:
            ConfideError: BAD_FRAME (the peer's fault): a length that no frame has.
            TimeoutError: the deadline (of `time.monotonic`) is over, though bytes still come.
            BlockingIOError: nothing came for as long as the socket waits.
            OSError: the other side has ended.
        """
        length = self._length(deadline)
        self._fill(_LENGTH.size + length, deadline)
        first = self._start + _LENGTH.size
        self._start = first + length
        return self._buffer[first : self._start]

    def next_own(self, deadline: float, *, header_bytes: int) -> memoryview:
        """Returns the next frame in memory of its own, which is as long as the frame needs.

        Args:
            deadline: of `time.monotonic`.
            header_bytes: of the frame that is expected: what follows them lies aligned, so that it can be used where it is.

        Raises:
            As `next`.
        """
        length = self._length(deadline)
        self._start += _LENGTH.size
        pad = -header_bytes % _ALIGNMENT
        frame = np.empty(pad + length, np.uint8).data[pad:]
        here = min(length, self._end - self._start)
        frame[:here] = self._buffer[self._start : self._start + here]
        self._start += here
        while here < length:
            here += self._receive(frame[here:], length - here, deadline)
        return frame

    def _length(self, deadline: float) -> int:
        self._fill(_LENGTH.size, deadline)
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        if not HEADER_BYTES + TAG_BYTES <= length <= MAX_FRAME_BYTES:
            raise ConfideError(ErrorCode.BAD_FRAME, f"a frame of {length} bytes")
        return int(length)

    def _fill(self, count: int, deadline: float) -> None:
        """Reads until `count` bytes stand at the start."""
        kept = self._end - self._start
        missing = count - kept
        if kept == 0:
            self._start = self._end = 0
        elif missing > 0 and self._start + count > len(self._buffer) - _AHEAD_BYTES:
            self._buffer[:kept] = self._buffer[self._start : self._end]
            self._start, self._end = 0, kept
        while missing > 0:
            got = self._receive(self._buffer[self._end :], max(missing, _AHEAD_BYTES), deadline)
            self._end += got
            missing -= got

    def _receive(self, into: memoryview, at_most: int, deadline: float) -> int:
        got = self._socket.recv_into(into, at_most)
        if got == 0:
            raise ConnectionResetError
        if time.monotonic() > deadline:  # heartbeats or single bytes keep the socket's own limit from ending the wait
            raise TimeoutError
        return got
