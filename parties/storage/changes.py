"""Whether the database has changed: cheap enough to be asked every second, and it sees what other processes write too."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Lock


class ChangeWatch:
    """Tells whether anything was committed since it was last asked; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Opens a connection of its own: SQLite counts the changes that other connections make."""
        self._lock = Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._seen = -1

    def has_changed(self) -> bool:
        """Returns whether anything was committed since the last call; True at the first."""
        with self._lock:
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
            changed, self._seen = version != self._seen, version
        return changed

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._connection.close()
