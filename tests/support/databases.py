"""New databases for tests, fast: the tables are made once, then copied."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from parties.storage.database import Database, open_database
from parties.storage.files import SECRET_MODE


def a_database(path: Path) -> Database:
    """Opens the database in a file, which has this version's tables and no row if it is new."""
    if not path.exists():
        path.touch(SECRET_MODE)
        path.write_bytes(_with_tables())
    return open_database(path)


@cache
def _with_tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.sqlite"
        open_database(path).close()  # which also writes the journal back
        return path.read_bytes()
