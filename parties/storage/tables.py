"""The tables of a party's database. A change here is a new `SCHEMA_VERSION`.

Documents are kept as the bytes that were signed. Secret values are not here: rows and shares lie in sealed files, of which
the tables hold the names.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Dialect, ForeignKey, ForeignKeyConstraint, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION = 11


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone, kept as RFC 3339 text in UTC, whose order is the order in time."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Writes the time; a time without a zone is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without its zone is not kept")
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Reads the time."""
        return None if value is None else datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


class Table(DeclarativeBase):
    """Base of all tables."""


class SchemaInfo(Table):
    """One row: which version of the tables this is."""

    __tablename__ = "schema_info"
    only: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]


class DatasetRow(Table):
    """A registration; the rows and the salt of their commitment are in the sealed file."""

    __tablename__ = "datasets"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    schema_document: Mapped[bytes]
    num_rows: Mapped[int]
    left_out: Mapped[str]
    commitment: Mapped[str]
    alignment: Mapped[str]
    sealed_name: Mapped[str]
    rows_per_person: Mapped[int | None]
    is_counted: Mapped[bool]
    population: Mapped[str]
    created: Mapped[datetime] = mapped_column(UtcTime)


class JobRow(Table):
    """A job that reached this party, and the snapshot of its state machine."""

    __tablename__ = "jobs"
    job_id: Mapped[str] = mapped_column(primary_key=True)
    querier: Mapped[str] = mapped_column(index=True)
    document: Mapped[bytes]
    signature: Mapped[bytes]
    initial_weights: Mapped[bytes | None]
    snapshot: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)
    created: Mapped[datetime] = mapped_column(UtcTime, index=True)
    updated: Mapped[datetime] = mapped_column(UtcTime)


class CountersignatureRow(Table):
    """One party's consent to a job and its plan."""

    __tablename__ = "countersignatures"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    party: Mapped[str] = mapped_column(primary_key=True)
    plan_digest: Mapped[str]
    document: Mapped[bytes]
    signature: Mapped[bytes]


class PlanRow(Table):
    """The plan that this party derived from a job."""

    __tablename__ = "plans"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    document: Mapped[bytes]
    digest: Mapped[str]
    memory_bytes: Mapped[int]


class EndingRow(Table):
    """How a job ended, as this party signed and showed it."""

    __tablename__ = "endings"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    document: Mapped[bytes]
    measured: Mapped[str]


class ModelRow(Table):
    """A model of which this party holds a share, in the sealed file."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), index=True)
    plan_digest: Mapped[str]
    model_document: Mapped[bytes]
    schema_document: Mapped[bytes]
    sealed_name: Mapped[str]
    commitments: Mapped[str]
    created: Mapped[datetime] = mapped_column(UtcTime)
    usable: Mapped[bool]
    steps: Mapped[int]


class CheckpointRow(Table):
    """This party's shares of a training under way, in the sealed file."""

    __tablename__ = "checkpoints"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    run: Mapped[int] = mapped_column(primary_key=True)
    head: Mapped[str]
    sealed_name: Mapped[str]
    created: Mapped[datetime] = mapped_column(UtcTime, index=True)


class LeaseRow(Table):
    """What a session may use of this party's machine, for as long as the process that runs it renews this."""

    __tablename__ = "leases"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    ticket: Mapped[int] = mapped_column(primary_key=True)
    holder: Mapped[str] = mapped_column(index=True)
    cores: Mapped[int]
    memory_bytes: Mapped[int]
    expires: Mapped[datetime] = mapped_column(UtcTime)


class OutputRow(Table):
    """This party's share of an output, in the sealed file."""

    __tablename__ = "outputs"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    recipient: Mapped[str]
    sealed_name: Mapped[str]
    scale_bits: Mapped[int]
    shape: Mapped[str]
    commitment: Mapped[str]
    withheld: Mapped[str]  # why, for people; empty if it is not


class OpeningRow(Table):
    """A permission to hand an output to its recipient, once; there is never a second one for the same output."""

    __tablename__ = "openings"
    __table_args__ = (
        UniqueConstraint("job_id", "output"),
        ForeignKeyConstraint(["job_id", "output"], ["outputs.job_id", "outputs.name"]),
    )
    opening_id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str]
    output: Mapped[str]
    recipient: Mapped[str]
    made: Mapped[datetime] = mapped_column(UtcTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcTime)
    used_for: Mapped[str | None]
