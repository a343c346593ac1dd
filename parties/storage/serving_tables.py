"""The tables of servings: which queries this party let in, how a serving ended, and which an operator has stopped."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class ServedQueryRow(Table):
    """One query that was let in; written before its answer leaves. Nothing of its samples is here but their commitment."""

    __tablename__ = "served_queries"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    query: Mapped[str] = mapped_column(primary_key=True)
    num_rows: Mapped[int]
    commitment: Mapped[str]
    time: Mapped[datetime] = mapped_column(UtcTime)


class ServingEndRow(Table):
    """What all participants agree a serving has answered; written when its worker is through."""

    __tablename__ = "serving_ends"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    reason: Mapped[str]
    queries: Mapped[int]
    num_rows: Mapped[int]


class ServingStopRow(Table):
    """An operator of this party has asked for the end of a serving."""

    __tablename__ = "serving_stops"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcTime)
