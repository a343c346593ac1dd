"""This party's audit log: entries appended inside the caller's transaction, so that a fact and its entry are durable together.

    with database.transaction() as tables:
        tables.grants.add(grant)
        tables.audit.append(EntryKind.GRANT_ISSUED, {"grant": grant.grant_id}, now=now)

An append reads the last entry and about one hash, and writes two rows; proofs read a number of hashes logarithmic in the size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from governance.audit import merkle
from governance.audit.entries import NO_PREVIOUS, EntryKind, Fact, LogEntry, entry_body
from parties.storage.audit_tables import LogCosignatureRow, LogEntryRow, LogHeadRow, LogNodeRow
from protocols.errors import ConfideError, ErrorCode

_AT_ONCE = 100  # texts that one query looks for


@dataclass(frozen=True)
class CosignatureRecord:
    """A witness's cosignature under one of this party's checkpoints.

    Attributes:
        witness: id of the party that made it.
        line: its line in the note, without the final newline.
        time: when the witness made it, UTC, whole seconds.
    """

    witness: str
    line: str
    time: datetime


@dataclass(frozen=True)
class CheckpointRecord:
    """One of this party's signed checkpoints.

    Attributes:
        size: entries it covers.
        root: root of the tree over them, 32 bytes.
        note: the signed note with this party's signature alone.
        made: when it was signed, UTC.
        cosignatures: what witnesses added, in the order of their ids.
    """

    size: int
    root: bytes
    note: bytes
    made: datetime
    cosignatures: tuple[CosignatureRecord, ...] = ()

    @property
    def cosigned_note(self) -> bytes:
        """The signed note with the cosignatures."""
        return self.note + "".join(f"{cosignature.line}\n" for cosignature in self.cosignatures).encode()


class AuditStore:
    """The audit log in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(self, kind: EntryKind, facts: Mapping[str, Fact], *, now: datetime) -> LogEntry:
        """Appends an entry; durable together with everything else in the transaction.

        Args:
            kind: what happened.
            facts: ids, digests, codes, counts that show it; never contents. See `governance.audit.entries.NEEDED`.
            now: the time, UTC; cut to whole seconds.

        Raises:
            ConfideError: INTERNAL (a defect of Confide): facts that no log takes.
        """
        return self.append_many([(kind, facts)], now=now)[0]

    def append_many(self, entries: Iterable[tuple[EntryKind, Mapping[str, Fact]]], *, now: datetime) -> tuple[LogEntry, ...]:
        """Appends entries in this order; see `append`."""
        query = select(LogEntryRow.entry_index, LogEntryRow.leaf_hash).order_by(LogEntryRow.entry_index.desc()).limit(1)
        last = self._session.execute(query).first()
        size, previous = (0, NO_PREVIOUS) if last is None else (last[0] + 1, last[1].hex())
        made: list[LogEntry] = []
        hashes: dict[tuple[int, int], bytes] = {}

        def node(level: int, index: int) -> bytes:
            found = hashes.get((level, index))
            return self._node(level, index) if found is None else found

        inner: list[tuple[object, ...]] = []
        for kind, facts in entries:
            body = entry_body(index=size, time=now, kind=kind, facts=facts, previous=previous)
            leaf = merkle.leaf_hash(body)
            for level, index, value in merkle.completed_by(size, leaf, node):
                hashes[level, index] = value
                inner.append((level, index, value))
            hashes[0, size] = leaf
            made.append(LogEntry(size, body, leaf))
            size, previous = size + 1, leaf.hex()
        self._insert("log_entries(entry_index, body, leaf_hash)", [(entry.index, entry.body, entry.leaf_hash) for entry in made])
        self._insert("log_nodes(level, node_index, hash)", inner)
        return tuple(made)

    def size(self) -> int:
        """Returns the number of entries."""
        last = self._session.scalar(select(func.max(LogEntryRow.entry_index)))
        return 0 if last is None else last + 1

    def head(self) -> tuple[int, bytes]:
        """Returns the number of entries and the root of the tree over them."""
        size = self.size()
        return size, merkle.root(size, self._node)

    def root(self, size: int) -> bytes:
        """Returns the root of the tree over the first `size` entries.

        Raises:
            ConfideError: INVALID_ARGUMENT: the log is shorter.
        """
        self._check_size(size)
        return merkle.root(size, self._node)

    def entry(self, index: int) -> LogEntry:
        """Returns an entry.

        Raises:
            ConfideError: INVALID_ARGUMENT: the log is shorter.
        """
        found = self.entries(index, index + 1) if index >= 0 else ()
        if not found:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"the audit log has no entry {index}")
        return found[0]

    def entries(self, start: int, stop: int) -> tuple[LogEntry, ...]:
        """Returns entries `start` up to but without `stop`, as far as there are any, in their order.

        Raises:
            ConfideError: LOG_DAMAGED (the operator's fault): one is not what was written.
        """
        query = (
            select(LogEntryRow.entry_index, LogEntryRow.body, LogEntryRow.leaf_hash)
            .where(LogEntryRow.entry_index >= start, LogEntryRow.entry_index < stop)
            .order_by(LogEntryRow.entry_index)
        )
        found = tuple(LogEntry(*row) for row in self._session.execute(query))
        for entry in found:  # SQLite keeps whatever type someone wrote
            if {type(entry.body), type(entry.leaf_hash)} != {bytes}:
                raise ConfideError(ErrorCode.LOG_DAMAGED, f"entry {entry.index} of the audit log is not bytes")
        return found

    def naming(self, texts: Iterable[str]) -> tuple[LogEntry, ...]:
        """Returns the entries in which one of these texts stands, in their order; the database looks, so that a long log is fast.

        Args:
            texts: ids or labels, of characters that JSON writes as they are.

        Raises:
            ConfideError: LOG_DAMAGED (the operator's fault): one is not what was written.
        """
        found: set[int] = set()
        sought = [func.instr(LogEntryRow.body, each.encode()) > 0 for each in texts]
        for start in range(0, len(sought), _AT_ONCE):
            query = select(LogEntryRow.entry_index).where(or_(*sought[start : start + _AT_ONCE]))
            found.update(self._session.scalars(query))
        return tuple(self.entry(index) for index in sorted(found))

    def node(self, level: int, index: int) -> bytes:
        """Returns the hash of a complete subtree, see `governance.audit.merkle`.

        Raises:
            ConfideError: LOG_DAMAGED (the operator's fault): it is missing.
        """
        return self._node(level, index)

    def nodes(self, level: int, start: int, stop: int) -> tuple[bytes | None, ...]:
        """Returns the hashes of subtrees `start` up to but without `stop` of a level above 0; None where one is missing."""
        places = (LogNodeRow.node_index >= start) & (LogNodeRow.node_index < stop)
        query = select(LogNodeRow.node_index, LogNodeRow.hash).where(LogNodeRow.level == level, places)
        found = {row.node_index: row.hash for row in self._session.execute(query)}
        return tuple(found.get(index) for index in range(start, stop))

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Returns the proof that entry `index` is in the tree of the first `size` entries, 32 bytes each.

        Raises:
            ConfideError: INVALID_ARGUMENT: there is no such entry, or the log is shorter.
        """
        self._check_size(size)
        if not 0 <= index < size:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"entry {index} is not among the first {size} of the audit log")
        return merkle.inclusion_proof(index, size, self._node)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Returns the proof that the first `new` entries extend the first `old` ones, 32 bytes each.

        Raises:
            ConfideError: INVALID_ARGUMENT: the log is shorter, or the old size is the larger one.
        """
        self._check_size(new)
        if not 0 <= old <= new:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{old} entries are not the beginning of {new}")
        return merkle.consistency_proof(old, new, self._node)

    def add_checkpoint(self, *, size: int, root: bytes, note: bytes, now: datetime) -> CheckpointRecord:
        """Keeps a checkpoint that this party signed; the same again changes nothing.

        Args:
            size: entries it covers.
            root: root over them, 32 bytes.
            note: the signed note, with this party's signature alone.
            now: the time, UTC.

        Raises:
            ConfideError: LOG_FORKED (a defect, a restored backup or a changed database): another root was signed for this size
                already, the log itself has another one, or it does not extend the newest checkpoint: signing would prove a fork.
        """
        known = self._session.get(LogHeadRow, size)
        newest = self.latest_checkpoint()
        extends = newest is None or (newest.size <= self.size() and self.root(newest.size) == newest.root)
        if not extends or root != self.root(size) or (known is not None and known.root != root):
            raise ConfideError(ErrorCode.LOG_FORKED, f"a checkpoint of {size} entries contradicts the audit log")
        if known is None:
            self._session.add(LogHeadRow(size=size, root=root, note=note, made=now))
            self._session.flush()
        return self.checkpoint(size)

    def add_cosignature(self, size: int, cosignature: CosignatureRecord) -> None:
        """Keeps a witness's cosignature, which the caller has verified, under the checkpoint of this size; the newest counts.

        Raises:
            ConfideError: INVALID_ARGUMENT: there is no checkpoint of this size.
        """
        if self._session.get(LogHeadRow, size) is None:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"the audit log has no checkpoint of {size} entries")
        known = self._session.get(LogCosignatureRow, (size, cosignature.witness))
        if known is None:
            self._session.add(LogCosignatureRow(size=size, **vars(cosignature)))
        elif known.time < cosignature.time:
            known.line, known.time = cosignature.line, cosignature.time
        self._session.flush()

    def checkpoint(self, size: int) -> CheckpointRecord:
        """Returns the checkpoint of this size.

        Raises:
            ConfideError: INVALID_ARGUMENT: there is none.
        """
        row = self._session.get(LogHeadRow, size)
        if row is None:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"the audit log has no checkpoint of {size} entries")
        return self._checkpoint(row)

    def latest_checkpoint(self) -> CheckpointRecord | None:
        """Returns the checkpoint with the most entries, or None."""
        row = self._session.scalar(select(LogHeadRow).order_by(LogHeadRow.size.desc()).limit(1))
        return None if row is None else self._checkpoint(row)

    def checkpoints(self, *, most: int) -> tuple[CheckpointRecord, ...]:
        """Returns the newest checkpoints, in the order of their sizes."""
        rows = self._session.scalars(select(LogHeadRow).order_by(LogHeadRow.size.desc()).limit(most)).all()
        found: dict[int, list[CosignatureRecord]] = {row.size: [] for row in rows}
        query = select(LogCosignatureRow).where(LogCosignatureRow.size >= min(found, default=0))
        for each in self._session.scalars(query.order_by(LogCosignatureRow.witness)):
            found[each.size].append(CosignatureRecord(each.witness, each.line, each.time))
        return tuple(CheckpointRecord(r.size, r.root, r.note, r.made, tuple(found[r.size])) for r in reversed(rows))

    def checkpoints_over(self, index: int, *, most: int = 32) -> tuple[CheckpointRecord, ...]:
        """Returns the newest checkpoints that cover the entry of this index, the newest first, at most so many."""
        query = select(LogHeadRow).where(LogHeadRow.size > index).order_by(LogHeadRow.size.desc()).limit(most)
        return tuple(self._checkpoint(row) for row in self._session.scalars(query))

    def cosigned_sizes(self) -> dict[str, int]:
        """Returns the size of the largest checkpoint that each witness has cosigned, by its id."""
        query = select(LogCosignatureRow.witness, func.max(LogCosignatureRow.size)).group_by(LogCosignatureRow.witness)
        return {row.witness: row[1] for row in self._session.execute(query)}

    def _checkpoint(self, row: LogHeadRow) -> CheckpointRecord:
        query = select(LogCosignatureRow).where(LogCosignatureRow.size == row.size).order_by(LogCosignatureRow.witness)
        cosignatures = tuple(CosignatureRecord(each.witness, each.line, each.time) for each in self._session.scalars(query))
        return CheckpointRecord(row.size, row.root, row.note, row.made, cosignatures)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self.size():
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"the audit log has fewer than {size} entries")

    def _insert(self, columns: str, rows: list[tuple[object, ...]]) -> None:
        # Straight to the driver: building the statement's parameters would cost more than everything else about an append.
        if rows:
            self._session.connection().exec_driver_sql(f"INSERT INTO {columns} VALUES (?, ?, ?)", rows)  # noqa: S608

    def _node(self, level: int, index: int) -> bytes:
        if level == 0:
            found = self._session.scalar(select(LogEntryRow.leaf_hash).where(LogEntryRow.entry_index == index))
        else:
            same = (LogNodeRow.level == level) & (LogNodeRow.node_index == index)
            found = self._session.scalar(select(LogNodeRow.hash).where(same))
        if not isinstance(found, bytes):
            what = f"entry {index}" if level == 0 else f"the hash of subtree {index} at level {level}"
            raise ConfideError(ErrorCode.LOG_DAMAGED, f"{what} of the audit log is missing")
        return found
