"""Whether this party can store anything: it says so when it cannot, and finds out by itself when it can again."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

import structlog

from parties.server.party import Party
from protocols.errors import ConfideError

RETRY_S = 1.0
_log = structlog.get_logger()


class DiskWatch:
    """The state of the party's storage; safe to use from several threads."""

    def __init__(self, party: Party, tell: Callable[[bool], None]) -> None:
        """Takes the party, and whom to tell when it can store again (True) or cannot any more (False)."""
        self._party = party
        self._tell = tell
        self._lock = Lock()
        self._fails_since: float | None = None
        self._next = 0.0

    @property
    def fails(self) -> bool:
        """Whether the last thing that had to be stored could not be."""
        return self._fails_since is not None

    @property
    def next_time(self) -> float | None:
        """Unix time in seconds of the next look, or None if nothing is wrong."""
        return self._next if self.fails else None

    def failed(self, error: ConfideError) -> None:
        """Notes that something could not be stored."""
        with self._lock:
            now = time.time()
            first, self._next = self._fails_since is None, now + RETRY_S
            self._fails_since = self._fails_since or now
        if first:
            _log.error("storage_failed", code=error.code.name, what=error.what)
            self._tell(False)

    def recovers(self) -> bool:
        """Looks whether database and sealed files take something again; True if they do."""
        try:
            self._party.sealed.probe()
            self._party.database.probe()
        except ConfideError:
            with self._lock:
                self._next = time.time() + RETRY_S
            return False
        with self._lock:
            since, self._fails_since = self._fails_since, None
        _log.info("storage_recovered", after_s=round(time.time() - (since or time.time())))
        self._tell(True)
        return True
