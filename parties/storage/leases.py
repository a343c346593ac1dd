"""Leases: which sessions use how much of this party's machine, and which process answers for them.

A lease is written with the step that takes the slot and removed with the step that gives it back. The process that holds it
renews it; one that is gone loses it when it expires, or at once when the next process takes the state folder over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from parties.storage.tables import LeaseRow
from protocols.errors import ConfideError, ErrorCode


@dataclass(frozen=True)
class LeaseRecord:
    """One session's lease; public inside the institution.

    Attributes:
        job_id: the session.
        ticket: the session's claim.
        holder: id of the serving process, random.
        cores: processor cores.
        memory_bytes: predicted memory.
        expires: when it ends unless it is renewed, UTC.
    """

    job_id: str
    ticket: int
    holder: str
    cores: int
    memory_bytes: int
    expires: datetime


class LeaseStore:
    """Leases in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def take(self, record: LeaseRecord, *, now: datetime) -> None:
        """Keeps a lease; the same claim's earlier one is replaced.

        Raises:
            ConfideError: PARTY_BUSY: another process holds this claim and its lease has not expired.
        """
        known = self._session.get(LeaseRow, (record.job_id, record.ticket))
        if known is not None and known.holder != record.holder and known.expires > now:
            raise ConfideError(ErrorCode.PARTY_BUSY, f"another process holds the lease of session {record.job_id}")
        self._session.merge(LeaseRow(**vars(record)))
        self._session.flush()

    def renew(self, holder: str, *, expires: datetime) -> None:
        """Moves the end of all leases of a process."""
        self._session.execute(update(LeaseRow).where(LeaseRow.holder == holder).values(expires=expires))

    def release(self, job_id: str, ticket: int) -> None:
        """Removes a lease; one that is gone already is no error."""
        self._session.execute(delete(LeaseRow).where(LeaseRow.job_id == job_id, LeaseRow.ticket == ticket))

    def release_session(self, job_id: str) -> None:
        """Removes all leases of a session."""
        self._session.execute(delete(LeaseRow).where(LeaseRow.job_id == job_id))

    def release_all(self) -> None:
        """Removes all leases; for the one process that has just taken the state folder over."""
        self._session.execute(delete(LeaseRow))

    def live(self, now: datetime) -> tuple[LeaseRecord, ...]:
        """Returns the leases that have not expired, in the order of their sessions."""
        query = select(LeaseRow).where(LeaseRow.expires > now).order_by(LeaseRow.job_id, LeaseRow.ticket)
        return tuple(
            LeaseRecord(row.job_id, row.ticket, row.holder, row.cores, row.memory_bytes, row.expires)
            for row in self._session.scalars(query)
        )
