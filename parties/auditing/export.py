"""A copy of a party's audit log as files, for auditors (C2SP tlog-tiles):

    checkpoint          the newest checkpoint, over all entries, with the cosignatures that it has
    history             the checkpoints before it, with theirs, each after its length (2 bytes, big-endian)
    tile/<L>/<N>        hashes; a partial tile is <N>.p/<width>
    tile/entries/<N>    the entries themselves
    directory.json      the signed directory: who the parties are and which keys they have
    seen/<party>        the newest checkpoint of another party's log that this party has cosigned: give it to `--trusted` when
                        that party's log is verified, and a second history of it shows
    README.txt          how to verify

A log only grows, so every file is read in its own short transaction and the party goes on working meanwhile.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from governance.audit.checkpoints import Checkpoint, open_checkpoint, origin, sign_checkpoint
from governance.audit.notes import MAX_NOTE_BYTES
from governance.audit.tiles import Tile, bundle_bytes, tile_bytes, tiles
from parties.config import PartyConfig
from parties.storage.audit_log import CheckpointRecord
from parties.storage.database import Database, Tables, open_database
from parties.storage.files import PUBLIC_MODE, make_folder, read_public, write_public
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.errors import ConfideError, ErrorCode

MAX_HISTORY = 1000  # checkpoints that go with the newest one; older ones say nothing that these do not
_LENGTH_BYTES = 2
_README = """The audit log of {origin}: {size} entries.

Verify it offline, with a program that trusts nothing in this folder:

    confide-audit verify . --founder-fingerprint FINGERPRINT

FINGERPRINT is what the founder of the consortium reads out to you; do not take it from this folder. The program is one file and
needs only Python and the package cryptography. With checkpoints of this log that you kept, or that other parties have seen
(the folder seen/ in their exports), add --trusted FILE for each: the log must extend every one of them.
"""


@dataclass(frozen=True)
class LogCopy:
    """What an export holds, read file by file; the same interface as a folder's for the verifier.

    Attributes:
        origin: of the log.
        size: how many entries it covers.
        cosigned_by: ids of the parties that cosigned the newest checkpoint so far.
    """

    origin: str
    size: int
    cosigned_by: tuple[str, ...]
    _fixed: dict[str, bytes]
    _tiles: dict[str, Tile]
    _entries: dict[str, Tile]
    _database: Database

    def names(self) -> Iterator[str]:
        """Yields the relative paths of all files."""
        yield from (*self._fixed, *self._tiles, *self._entries)

    def read(self, name: str) -> bytes | None:
        """Returns one file, or None if there is none of that name.

        Raises:
            ConfideError: LOG_DAMAGED (the operator's fault): hashes are missing from the database.
        """
        if name in self._fixed:
            return self._fixed[name]
        with self._database.transaction() as tables:
            if name in self._tiles:
                return tile_bytes(self._tiles[name], tables.audit.node)
            if name in self._entries:
                tile = self._entries[name]
                return bundle_bytes([entry.body for entry in tables.audit.entries(tile.start, tile.start + tile.width)])
        return None


@dataclass(frozen=True)
class Exported:
    """An export that was made: where, of which log, how many entries, and who cosigned its newest checkpoint so far."""

    folder: Path
    origin: str
    size: int
    cosigned_by: tuple[str, ...]


def export_log(config: PartyConfig, *, out: Path, now: datetime) -> Exported:
    """Writes a party's audit log to a new folder, whole or not at all; works while the party serves.

    Args:
        config: the party's configuration.
        out: the folder; must not exist.
        now: the time, UTC.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): the folder exists or cannot be made; NOT_ENROLLED before the party has
            joined; LOG_DAMAGED, LOG_FORKED or STATE_ROLLED_BACK (the operator's fault).
    """
    out = out.absolute()
    if out.exists():
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{out} exists already", remedy="Choose another folder.")
    make_folder(out.parent)
    database = open_database(config.folder.database_file)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            whole = Path(temporary) / "log"
            copy = copy_log(database, config, now=now)
            for name in copy.names():
                _write(whole / name, copy.read(name) or b"")
            os.rename(whole, out)
    except OSError as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{out}: {error.strerror}") from error
    finally:
        database.close()
    return Exported(out, copy.origin, copy.size, copy.cosigned_by)


def copy_log(database: Database, config: PartyConfig, *, now: datetime) -> LogCopy:
    """Signs and keeps a checkpoint over all entries, unless there is one, and returns what an export up to it holds.

    Args:
        database: the party's database; must stay open as long as the copy is read.
        config: the party's configuration.
        now: the time, UTC.

    Raises:
        ConfideError: NOT_ENROLLED before the party has joined; LOG_FORKED or STATE_ROLLED_BACK (the operator's fault): the log
            does not extend what was signed before; else as reading keys and directory does.
    """
    with database.transaction() as tables:
        _require_newest(tables, config)
        checkpoint = _head(tables, config, now=now)
        kept = tables.audit.add_checkpoint(size=checkpoint.size, root=checkpoint.root, note=checkpoint.note, now=checkpoint.made)
        # The auditor holds it from now on, so a database from a backup must not go on without it.
        write_public(config.folder.log_head_file, kept.note)
    return _copy(database, config, kept)


def look_at_log(database: Database, config: PartyConfig, *, now: datetime) -> LogCopy:
    """Like `copy_log`, for a look at one's own log: the checkpoint over all entries is not kept, so a wrong log is not signed.

    Raises:
        ConfideError: as `copy_log`, but for LOG_FORKED and STATE_ROLLED_BACK.
    """
    with database.transaction() as tables:
        checkpoint = _head(tables, config, now=now)
    return _copy(database, config, checkpoint)


def _require_newest(tables: Tables, config: PartyConfig) -> None:
    # A database from a backup knows nothing of what was signed after it; the file beside it does.
    member = config.folder.member
    log = origin(member.load_directory().consortium, config.party)
    if not config.folder.log_head_file.exists():
        return
    note = read_public(config.folder.log_head_file, max_bytes=MAX_NOTE_BYTES)
    shown, _ = open_checkpoint(note, origin=log, key=member.load_signing_key().public)
    if shown.size > tables.audit.size() or tables.audit.root(shown.size) != shown.root:
        what = f"{config.folder.log_head_file} shows a signed checkpoint of {shown.size} entries, which this log does not extend"
        remedy = "Restore the newest database; a second history that is signed is a fork."
        raise ConfideError(ErrorCode.STATE_ROLLED_BACK, what, remedy=remedy, party=config.party)


def _head(tables: Tables, config: PartyConfig, *, now: datetime) -> CheckpointRecord:
    size, root = tables.audit.head()
    latest = tables.audit.latest_checkpoint()
    if latest is not None and latest.size == size:
        return latest
    member = config.folder.member
    log = origin(member.load_directory().consortium, config.party)
    note = sign_checkpoint(Checkpoint(log, size, root), key=member.load_signing_key())
    return CheckpointRecord(size, root, note.to_bytes(), now)


def _copy(database: Database, config: PartyConfig, latest: CheckpointRecord) -> LogCopy:
    folder = config.folder.member
    directory = folder.load_directory()
    log = origin(directory.consortium, config.party)
    with database.transaction() as tables:
        history = [each for each in tables.audit.checkpoints(most=MAX_HISTORY + 1) if each.size != latest.size]
        seen = {entry.id: tables.witness.last_seen(entry.id) for entry in directory.parties}
    notes = [each.cosigned_note for each in history]
    fixed = {
        "checkpoint": latest.cosigned_note,
        "history": b"".join(len(note).to_bytes(_LENGTH_BYTES, "big") + note for note in notes),
        "directory.json": read_public(folder.directory_file, max_bytes=MAX_DOCUMENT_BYTES),
        "README.txt": _README.format(origin=log, size=latest.size).encode(),
    }
    fixed |= {f"seen/{party}": record.note for party, record in seen.items() if record is not None}
    every = list(tiles(latest.size))
    return LogCopy(
        log,
        latest.size,
        tuple(each.witness for each in latest.cosignatures),
        fixed,
        {tile.path: tile for tile in every},
        {tile.entries_path: tile for tile in every if tile.level == 0},
        database,
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PUBLIC_MODE), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
