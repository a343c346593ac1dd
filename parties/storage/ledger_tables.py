"""The tables of the budget ledger; see `governance.budget`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class LedgerRow(Table):
    """One entry; rows are added and never changed. Decimals are texts; no epsilon stands for opened without noise.

    Unit, squared, excess and distance are the bound by which a charge composes, if any: `privacy.accounting.normal_bound`.
    """

    __tablename__ = "ledger"
    __table_args__ = (UniqueConstraint("account", "job_id", "step"),)
    number: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(index=True)
    job_id: Mapped[str] = mapped_column(index=True)  # of a job or an enquiry
    step: Mapped[str]
    kind: Mapped[str]  # the job's type, or `enquiry`
    epsilon: Mapped[str | None]
    delta: Mapped[str]
    queries: Mapped[int]
    answers: Mapped[int]
    unit: Mapped[str | None]
    squared: Mapped[str | None]
    excess: Mapped[str | None]
    distance: Mapped[str | None]
    time: Mapped[datetime] = mapped_column(UtcTime)


class CapsRow(Table):
    """Caps that a person has set for one account; the latest row counts, and stands above the policy. Rows are only added."""

    __tablename__ = "budget_caps"
    number: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(index=True)
    epsilon: Mapped[str | None]
    delta: Mapped[str | None]
    queries: Mapped[int]
    answers: Mapped[int]
    permits: Mapped[str]  # kinds of jobs, a blank between two
    authorisation: Mapped[str]
    time: Mapped[datetime] = mapped_column(UtcTime)
