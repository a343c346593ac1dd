"""Looking at something again and again for as long as a party serves, on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

from parties.server.terms import log_defect


class Repeating:
    """Calls a function over and over; a defect of one call is logged and keeps no later one from being made."""

    def __init__(self, look: Callable[[], None], *, name: str, pause_s: float, stop_s: float | None = None) -> None:
        """Takes what to call, its name in logs, the pause after a call, and how long a stop waits for it (None: to its end)."""
        self._look = look
        self._name = name
        self._pause_s = pause_s
        self._stop_s = stop_s
        self._stopping = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins; the first call is at once, on the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(self._stop_s)

    def _run(self) -> None:
        self._guarded()
        while not self._stopping.wait(self._pause_s):
            self._guarded()

    def _guarded(self) -> None:
        try:
            self._look()
        except Exception as error:  # the others must be made for as long as the party serves
            log_defect("", self._name, error)
