"""Tables of what this party has seen of the others' audit logs, and of how far its own consent to a job has come."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class WitnessedRow(Table):
    """The newest checkpoint of another party's log that this party has cosigned."""

    __tablename__ = "witnessed"
    party: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]
    root: Mapped[str]
    note: Mapped[bytes]
    seen: Mapped[datetime] = mapped_column(UtcTime)


class ForkRow(Table):
    """Two checkpoints of one log, both signed by its party, of which the second does not extend the first."""

    __tablename__ = "forks"
    __table_args__ = (UniqueConstraint("party", "second"),)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    party: Mapped[str] = mapped_column(index=True)
    first: Mapped[bytes]
    second: Mapped[bytes]
    seen: Mapped[datetime] = mapped_column(UtcTime)


class AcceptanceRow(Table):
    """How far this party's own consent to a job has come."""

    __tablename__ = "acceptances"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    plan_digest: Mapped[str]
    rule: Mapped[str]
    waiting_for: Mapped[str]
    entry_index: Mapped[int | None]
    refused: Mapped[str]
