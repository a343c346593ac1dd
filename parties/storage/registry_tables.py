"""Tables of the model registry and of the statements that parties make to each other."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class StatementRow(Table):
    """A statement of this party, for all others; the number is its place, by which they ask for what they have missed."""

    __tablename__ = "statements"
    __table_args__ = (UniqueConstraint("kind", "body"),)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str]
    body: Mapped[bytes]
    signature: Mapped[bytes]
    made: Mapped[datetime] = mapped_column(UtcTime)


class HeardStatementRow(Table):
    """A statement of another party, verified when it arrived, and kept whether or not its subject is known here.

    The number is its place among those that have arrived.
    """

    __tablename__ = "heard_statements"
    __table_args__ = (UniqueConstraint("signer", "digest"),)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    signer: Mapped[str]
    digest: Mapped[str]
    kind: Mapped[str] = mapped_column(index=True)
    body: Mapped[bytes]
    signature: Mapped[bytes]
    heard: Mapped[datetime] = mapped_column(UtcTime)


class StatementCursorRow(Table):
    """Up to which number this party has asked another one for its statements."""

    __tablename__ = "statement_cursors"
    party: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]


class ModelMarkRow(Table):
    """One reason for which a model version is not used any more."""

    __tablename__ = "model_marks"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    issuer: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    delete: Mapped[bool]
    marked: Mapped[datetime] = mapped_column(UtcTime)


class DeletionRow(Table):
    """A deletion that this party has begun; it is done when its receipt stands in the statements."""

    __tablename__ = "model_deletions"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    sealed_sha256: Mapped[str]
    begun: Mapped[datetime] = mapped_column(UtcTime)
    done: Mapped[datetime | None] = mapped_column(UtcTime)


class AliasMoveRow(Table):
    """One move of an alias at this party; the last one of a name and alias says what it stands for."""

    __tablename__ = "alias_moves"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model: Mapped[str] = mapped_column(index=True)
    alias: Mapped[str]
    move: Mapped[str]
    version: Mapped[str]
    origin: Mapped[str]
    moved: Mapped[datetime] = mapped_column(UtcTime)
