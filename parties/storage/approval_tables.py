"""Tables of what people of the institution signed, and of the policies that were in force."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class AuthorisationRow(Table):
    """One person's signature under one governed action."""

    __tablename__ = "authorisations"
    digest: Mapped[str] = mapped_column(primary_key=True)
    person: Mapped[str] = mapped_column(index=True)
    document: Mapped[bytes]
    kept: Mapped[datetime] = mapped_column(UtcTime, index=True)


class PolicyRow(Table):
    """A policy that decided here, from when on; the latest is the one in force."""

    __tablename__ = "policies"
    number: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(index=True)
    document: Mapped[bytes]
    since: Mapped[datetime] = mapped_column(UtcTime)


class ApprovalRequestRow(Table):
    """A job that waits, or waited, for people: what they are asked to approve."""

    __tablename__ = "approval_requests"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    plan_digest: Mapped[str]
    policy_digest: Mapped[str]
    rule: Mapped[str]
    needed: Mapped[int]
    approvers: Mapped[str]
    asked: Mapped[datetime] = mapped_column(UtcTime)


class ApprovalRow(Table):
    """One person's yes or no to one job with one plan, as she signed it."""

    __tablename__ = "approvals"
    digest: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), index=True)
    person: Mapped[str]
    document: Mapped[bytes]
    kept: Mapped[datetime] = mapped_column(UtcTime)


class PreviewRow(Table):
    """What was shown to people before they decided, and is set beside what was measured afterwards."""

    __tablename__ = "previews"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    document: Mapped[bytes]
