"""Jobs: their documents, the snapshot of their state machine, countersignatures, plan and ending."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from parties.storage.tables import CountersignatureRow, EndingRow, JobRow, PlanRow
from protocols.errors import ConfideError, ErrorCode


@dataclass(frozen=True)
class JobRecord:
    """A job as this party keeps it; public among the consortium.

    Attributes:
        job_id: 32 hexadecimal digits.
        querier: researcher id.
        document: canonical bytes of the job.
        signature: the querier's signature over them.
        initial_weights: public initial weights (safetensors), train only.
        snapshot: the state machine's snapshot, JSON.
        state: the state's name, for lists.
        created: when it reached this party, UTC.
        updated: when the snapshot last changed, UTC.
    """

    job_id: str
    querier: str
    document: bytes
    signature: bytes
    initial_weights: bytes | None
    snapshot: str
    state: str
    created: datetime
    updated: datetime


@dataclass(frozen=True)
class CountersignatureRecord:
    """One party's consent to a job: the digest of the plan it derived, the document it signed and the signature."""

    job_id: str
    party: str
    plan_digest: str
    document: bytes
    signature: bytes


@dataclass(frozen=True)
class PlanRecord:
    """The plan that this party derived, and the memory that it predicts for one worker."""

    job_id: str
    document: bytes
    digest: str
    memory_bytes: int


class JobStore:
    """Jobs in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, record: JobRecord) -> None:
        """Keeps a new job.

        Raises:
            ConfideError: JOB_CONFLICT: it is kept already; use `find` first where a job may arrive twice.
        """
        if self._session.get(JobRow, record.job_id) is not None:
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"job {record.job_id} is known already")
        self._session.add(JobRow(**vars(record)))
        self._session.flush()

    def find(self, job_id: str) -> JobRecord | None:
        """Returns a job, or None if it never reached this party."""
        row = self._session.get(JobRow, job_id)
        return None if row is None else _job(row)

    def starting_with(self, digits: str) -> tuple[JobRecord, ...]:
        """Returns the jobs whose id begins with these digits, in the order of ids; a model's version is such a beginning."""
        query = select(JobRow).where(JobRow.job_id.startswith(digits, autoescape=True)).order_by(JobRow.job_id)
        return tuple(_job(row) for row in self._session.scalars(query))

    def get(self, job_id: str) -> JobRecord:
        """Returns a job.

        Raises:
            ConfideError: UNKNOWN_JOB (the asker's fault).
        """
        record = self.find(job_id)
        if record is None:
            raise _unknown(job_id)
        return record

    def state(self, job_id: str) -> str:
        """Returns the name of the state in which a job's session is here; reads no document.

        Raises:
            ConfideError: UNKNOWN_JOB (the asker's fault).
        """
        found = self._session.scalar(select(JobRow.state).where(JobRow.job_id == job_id))
        if found is None:
            raise _unknown(job_id)
        return found

    def recent(self, *, querier: str | None, limit: int) -> tuple[JobRecord, ...]:
        """Returns jobs, the latest first; those of one querier, or of all if None."""
        query = select(JobRow).order_by(JobRow.created.desc(), JobRow.job_id).limit(limit)
        if querier is not None:
            query = query.where(JobRow.querier == querier)
        return tuple(_job(row) for row in self._session.scalars(query))

    def recent_ids(self, *, querier: str, limit: int) -> tuple[str, ...]:
        """Returns the ids of the jobs of one querier, the latest first; reads no document."""
        query = select(JobRow.job_id).where(JobRow.querier == querier).order_by(JobRow.created.desc(), JobRow.job_id).limit(limit)
        return tuple(self._session.scalars(query))

    def all(self) -> tuple[JobRecord, ...]:
        """Returns all jobs, the oldest first."""
        return tuple(_job(row) for row in self._session.scalars(select(JobRow).order_by(JobRow.created, JobRow.job_id)))

    def without_ending(self) -> tuple[JobRecord, ...]:
        """Returns the jobs that have not ended, the oldest first: what a restarted party goes on with."""
        query = select(JobRow).outerjoin(EndingRow, EndingRow.job_id == JobRow.job_id).where(EndingRow.job_id.is_(None))
        return tuple(_job(row) for row in self._session.scalars(query.order_by(JobRow.created, JobRow.job_id)))

    def ended_of(self, queriers: Collection[str], *, since: datetime) -> tuple[tuple[JobRecord, bytes], ...]:
        """Returns the jobs of these queriers that have ended, each with its ending, in the order in which they arrived.

        Args:
            queriers: their ids.
            since: jobs that arrived after it, UTC.
        """
        query = select(JobRow, EndingRow.document).join(EndingRow, EndingRow.job_id == JobRow.job_id)
        query = query.where(JobRow.querier.in_(list(queriers)), JobRow.created > since)
        found = self._session.execute(query.order_by(JobRow.created, JobRow.job_id))
        return tuple((_job(row), document) for row, document in found)

    def save_snapshot(self, job_id: str, *, snapshot: str, state: str, now: datetime) -> None:
        """Replaces the snapshot of a job's state machine.

        Raises:
            ConfideError: UNKNOWN_JOB.
        """
        changed = self._session.execute(
            update(JobRow)
            .where(JobRow.job_id == job_id)
            .values(snapshot=snapshot, state=state, updated=now)
            .returning(JobRow.job_id)
        ).all()
        if not changed:
            raise _unknown(job_id)

    def add_countersignature(self, record: CountersignatureRecord) -> None:
        """Keeps a countersignature; the same one again changes nothing.

        Raises:
            ConfideError: BAD_SIGNATURE (that party's fault): it signed two different things for one job.
        """
        if not self.check_countersignature(record):
            self._session.add(CountersignatureRow(**vars(record)))
            self._session.flush()

    def check_countersignature(self, record: CountersignatureRecord) -> bool:
        """Returns whether a countersignature is kept already.

        Raises:
            ConfideError: BAD_SIGNATURE (that party's fault): another one of that party is kept for this job.
        """
        known = self._session.get(CountersignatureRow, (record.job_id, record.party))
        if known is not None and (known.plan_digest, known.document) != (record.plan_digest, record.document):
            raise ConfideError(ErrorCode.BAD_SIGNATURE, f"{record.party} countersigned two different things", party=record.party)
        return known is not None

    def countersignatures(self, job_id: str) -> tuple[CountersignatureRecord, ...]:
        """Returns the countersignatures of a job, in the order of party ids."""
        query = select(CountersignatureRow).where(CountersignatureRow.job_id == job_id).order_by(CountersignatureRow.party)
        return tuple(
            CountersignatureRecord(row.job_id, row.party, row.plan_digest, row.document, row.signature)
            for row in self._session.scalars(query)
        )

    def add_plan(self, record: PlanRecord) -> None:
        """Keeps the plan that this party derived; deriving it again gives the same.

        Raises:
            ConfideError: PLAN_DIFFERS: another plan is kept for this job.
        """
        known = self._session.get(PlanRow, record.job_id)
        if known is None:
            self._session.add(PlanRow(**vars(record)))
            self._session.flush()
        elif known.digest != record.digest:
            raise ConfideError(ErrorCode.PLAN_DIFFERS, f"job {record.job_id} led to another plan before")

    def plan(self, job_id: str) -> PlanRecord | None:
        """Returns the plan of a job, or None if none has been derived."""
        row = self._session.get(PlanRow, job_id)
        return None if row is None else PlanRecord(row.job_id, row.document, row.digest, row.memory_bytes)

    def put_ending(self, job_id: str, document: bytes, *, measured: str) -> None:
        """Keeps how a job ended; a later ending replaces it (a party that was cut off learns how the others ended).

        Args:
            job_id: the job.
            document: the signed ending.
            measured: what this party's worker had done by then, JSON; public. The first one stays.
        """
        row = self._session.get(EndingRow, job_id)
        if row is None:
            self._session.add(EndingRow(job_id=job_id, document=document, measured=measured))
        else:
            row.document = document
        self._session.flush()

    def ending(self, job_id: str) -> bytes | None:
        """Returns the ending of a job, or None if it has not ended."""
        row = self._session.get(EndingRow, job_id)
        return None if row is None else row.document

    def measured(self, job_id: str) -> str | None:
        """Returns what was measured of a job that has ended, JSON, or None."""
        row = self._session.get(EndingRow, job_id)
        return None if row is None else row.measured


def _job(row: JobRow) -> JobRecord:
    return JobRecord(
        job_id=row.job_id,
        querier=row.querier,
        document=row.document,
        signature=row.signature,
        initial_weights=row.initial_weights,
        snapshot=row.snapshot,
        state=row.state,
        created=row.created,
        updated=row.updated,
    )


def _unknown(job_id: str) -> ConfideError:
    return ConfideError(ErrorCode.UNKNOWN_JOB, f"no job {job_id[:32]} is known here")
