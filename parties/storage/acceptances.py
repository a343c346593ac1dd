"""How far this party's own consent to each job has come, so that a restart goes on with the same consent."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from parties.storage.tables import EndingRow
from parties.storage.witness_tables import AcceptanceRow


@dataclass(frozen=True)
class AcceptanceRecord:
    """How far this party's consent to a job has come; public.

    Attributes:
        job_id: the job.
        plan_digest: of the plan that this party derived.
        rule: of the policy that decided, by its name.
        waiting_for: for what, in words, as long as people have to approve; else empty.
        entry_index: of the COUNTERSIGNED entry in the audit log; None before it stands there.
        refused: names of all error codes, separated by spaces, if this party refused; else empty.
    """

    job_id: str
    plan_digest: str
    rule: str = ""
    waiting_for: str = ""
    entry_index: int | None = None
    refused: str = ""


class AcceptanceStore:
    """This party's own consents, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, job_id: str) -> AcceptanceRecord | None:
        """Returns how far the consent to a job has come, or None if it has not begun."""
        row = self._session.get(AcceptanceRow, job_id)
        return None if row is None else _record(row)

    def put(self, record: AcceptanceRecord) -> None:
        """Keeps how far it has come now, in the place of what was kept before."""
        row = self._session.get(AcceptanceRow, record.job_id)
        if row is None:
            self._session.add(AcceptanceRow(**vars(record)))
        else:
            for name, value in vars(record).items():
                setattr(row, name, value)
        self._session.flush()

    def waiting(self) -> tuple[AcceptanceRecord, ...]:
        """Returns the jobs that wait for people and have not ended, by job id."""
        query = (
            select(AcceptanceRow)
            .outerjoin(EndingRow, EndingRow.job_id == AcceptanceRow.job_id)
            .where(EndingRow.job_id.is_(None), AcceptanceRow.waiting_for != "", AcceptanceRow.refused == "")
        )
        return tuple(_record(row) for row in self._session.scalars(query.order_by(AcceptanceRow.job_id)))


def _record(row: AcceptanceRow) -> AcceptanceRecord:
    return AcceptanceRecord(row.job_id, row.plan_digest, row.rule, row.waiting_for, row.entry_index, row.refused)
