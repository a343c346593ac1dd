"""How often somebody may do something, counted over a time that moves; in memory."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Lock


class Rate:
    """Counts by name; safe to use from several threads."""

    def __init__(self, window: timedelta) -> None:
        self._window = window
        self._lock = Lock()
        self._times: dict[tuple[str, ...], deque[datetime]] = {}

    def take(self, *name: str, most: int, before: int = 0, now: datetime) -> bool:
        """Counts one more and returns True, or returns False where there were `most` already.

        Args:
            name: who, and what it counts against.
            most: how many there may be in the window.
            before: how many are known from elsewhere, of which these may be a part.
            now: the time, UTC.
        """
        with self._lock:
            times = self._times.setdefault(name, deque())
            while times and times[0] <= now - self._window:
                times.popleft()
            if max(len(times), before) >= most:
                return False
            times.append(now)
            return True

    def give_back(self, *name: str, counted: datetime) -> None:
        """Takes back one that was counted at a time: it came to nothing, by no fault of whoever asked."""
        with self._lock, suppress(KeyError, ValueError):  # it may be older than the window by now
            self._times[name].remove(counted)

    def sweep(self, now: datetime) -> None:
        """Forgets whoever has done nothing in the window."""
        with self._lock:
            self._times = {name: times for name, times in self._times.items() if times and times[-1] > now - self._window}
