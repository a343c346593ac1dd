"""The tables of a party's audit log. Entries and hashes are never changed or deleted: the database itself refuses it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DDL, ForeignKey, event
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import ExecutableDDLElement

from parties.storage.tables import Table, UtcTime


class LogEntryRow(Table):
    """One entry of this party's audit log; `governance.audit.entries` says what its body is."""

    __tablename__ = "log_entries"
    entry_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[bytes]
    leaf_hash: Mapped[bytes]


class LogNodeRow(Table):
    """The hash of one complete inner subtree of the log's Merkle tree; see `governance.audit.merkle`."""

    __tablename__ = "log_nodes"
    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    node_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hash: Mapped[bytes]


class LogHeadRow(Table):
    """One checkpoint of this party's log, with this party's signature."""

    __tablename__ = "log_heads"
    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    root: Mapped[bytes]
    note: Mapped[bytes]
    made: Mapped[datetime] = mapped_column(UtcTime)


class LogCosignatureRow(Table):
    """The newest cosignature of one witness under one checkpoint of this party's log."""

    __tablename__ = "log_cosignatures"
    size: Mapped[int] = mapped_column(ForeignKey("log_heads.size"), primary_key=True, autoincrement=False)
    witness: Mapped[str] = mapped_column(primary_key=True)
    line: Mapped[str]
    time: Mapped[datetime] = mapped_column(UtcTime)


for _table in (Table.metadata.tables["log_entries"], Table.metadata.tables["log_nodes"]):
    for _verb in ("UPDATE", "DELETE"):
        # No rule of this process stops who can write the file; it stops a defect of ours, at once and with a reason.
        _trigger: ExecutableDDLElement = DDL(
            f"CREATE TRIGGER {_table.name}_{_verb.lower()} BEFORE {_verb} ON {_table.name} "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )  # type: ignore[no-untyped-call]
        event.listen(_table, "after_create", _trigger)
