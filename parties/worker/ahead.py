"""Receiving ahead of need: a thread takes a link's frames as they come and keeps them, up to a limit, until they are asked for.

The dealer is meant to be ahead of the computing parties. What it sent must then already be checked and in memory when the engine
asks for it, and must not fill that memory: beyond the limit the thread stops reading, the sockets and streams behind it fill up,
each with a bound of its own, and the dealer's next send waits (docs/protocols/corrections.md).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

AHEAD_BYTES = 64 << 20  # of frames that wait for the engine, of one link


class Ahead:
    """Frames that a thread receives ahead of need; `next` is for one other thread."""

    def __init__(self, receive: Callable[[], memoryview], *, max_bytes: int) -> None:
        """Starts the thread.

        Args:
            receive: waits for the next frame and returns it in memory of its own; what it raises ends the thread, and is raised
                by `next` once all frames before it have been taken.
            max_bytes: what may wait; one frame more may be on its way in.
        """
        self._receive = receive
        self._max_bytes = max_bytes
        self._frames: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._ended: Exception | None = None
        self._is_stopped = False
        self._changed = Condition()
        Thread(target=self._read, daemon=True).start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the frames that have not been taken."""
        with self._changed:
            return self._waiting_bytes

    def next(self, deadline: float) -> memoryview:
        """Returns the next frame.

        Raises:
            TimeoutError: none came before the deadline (of `time.monotonic`).
            Exception: what `receive` raised.
        """
        with self._changed:
            if not self._frames and self._ended is None:
                self._changed.wait_for(lambda: self._frames or self._ended is not None, max(0.0, deadline - time.monotonic()))
            if self._frames:
                frame = self._frames.popleft()
                was_full = self._waiting_bytes >= self._max_bytes
                self._waiting_bytes -= len(frame)
                if was_full:
                    self._changed.notify_all()
                return frame
            if self._ended is not None:
                raise self._ended
            raise TimeoutError

    def stop(self) -> None:
        """Lets the thread end with the frame that it is waiting for."""
        with self._changed:
            self._is_stopped = True
            self._frames.clear()
            self._changed.notify_all()

    def _read(self) -> None:
        while self._has_room():
            try:
                frame = self._receive()
            except Exception as error:  # whatever it is, it belongs to the thread that asks for the frame
                with self._changed:
                    self._ended = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._frames.append(frame)
                self._waiting_bytes += len(frame)
                self._changed.notify_all()

    def _has_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._waiting_bytes < self._max_bytes)
            return not self._is_stopped
