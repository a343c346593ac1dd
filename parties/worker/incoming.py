"""Frames from a local socket, read into one buffer that is made once: few calls for small frames, no copy for large ones."""

from __future__ import annotations

import socket
import struct
import time

from parties.transport.frames import HEADER_BYTES, MAX_FRAME_BYTES
from parties.transport.tags import TAG_BYTES
from protocols.errors import ConfideError, ErrorCode

_LENGTH = struct.Struct("<I")
_AHEAD_BYTES = 64 * 1024  # read at once when little is known to come: a small frame then takes one call


class Incoming:
    """Reads length-prefixed frames from a blocking socket; for one thread."""

    def __init__(self, endpoint: socket.socket) -> None:
        self._socket = endpoint
        self._buffer = memoryview(bytearray(_LENGTH.size + MAX_FRAME_BYTES + _AHEAD_BYTES))
        self._start = self._end = 0

    def next(self, deadline: float) -> memoryview:
        """Returns the next frame; its bytes are valid until the next call.

        Raises:
            ConfideError: BAD_FRAME (the peer's fault): a length that no frame has.
            TimeoutError: the deadline (of `time.monotonic`) is over, though bytes still come.
            BlockingIOError: nothing came for as long as the socket waits.
            OSError: the other side has ended.
        """
        self._fill(_LENGTH.size, deadline)
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        if not HEADER_BYTES + TAG_BYTES <= length <= MAX_FRAME_BYTES:
            raise ConfideError(ErrorCode.BAD_FRAME, f"a frame of {length} bytes")
        self._fill(_LENGTH.size + length, deadline)
        first = self._start + _LENGTH.size
        self._start = first + length
        return self._buffer[first : self._start]

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
            got = self._socket.recv_into(self._buffer[self._end :], max(missing, _AHEAD_BYTES))
            if got == 0:
                raise ConnectionResetError
            self._end += got
            missing -= got
            if time.monotonic() > deadline:  # heartbeats or single bytes keep the socket's own limit from ending the wait
                raise TimeoutError
