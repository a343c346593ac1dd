"""The tables of standing assessments: the orders of this party, and each time that one was carried out."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class StandingAssessmentRow(Table):
    """One order as it was signed; the number is its place among those of this party."""

    __tablename__ = "standing_assessments"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(unique=True)
    document: Mapped[bytes]
    authorisation: Mapped[str]
    kept: Mapped[datetime] = mapped_column(UtcTime)
    ended: Mapped[datetime | None] = mapped_column(UtcTime)
    why: Mapped[str]


class AssessmentRunRow(Table):
    """One repetition; written before its job is submitted, so that no process submits a second one for the same day."""

    __tablename__ = "assessment_runs"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    order: Mapped[str] = mapped_column(ForeignKey("standing_assessments.digest"), index=True)
    job: Mapped[bytes | None]
    started: Mapped[datetime] = mapped_column(UtcTime)
    state: Mapped[str]
    what: Mapped[str]
    ended: Mapped[datetime | None] = mapped_column(UtcTime)
