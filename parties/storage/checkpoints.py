"""Checkpoints: this party's refreshed shares of trainings that have not completed, so that a later job can go on from there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from parties.storage.tables import CheckpointRow
from protocols.errors import ConfideError, ErrorCode


@dataclass(frozen=True)
class CheckpointRecord:
    """One checkpoint; all but the sealed file is public.

    Attributes:
        job_id: the training.
        run: runs of the plan's segments behind it, counted over all attempts.
        head: 64 hexadecimal digits, equal at every computing party that holds shares which belong together.
        sealed_name: the sealed file with the shares of parameters and optimiser state.
        created: when it was kept, UTC.
    """

    job_id: str
    run: int
    head: str
    sealed_name: str
    created: datetime

    @property
    def object_id(self) -> str:
        """The id under which the shares are sealed."""
        return checkpoint_object_id(self.job_id, self.run, self.head)


def checkpoint_object_id(job_id: str, run: int, head: str) -> str:
    """Returns the id under which this party's shares of a checkpoint are sealed."""
    return f"{job_id}/{run}/{head}"


class CheckpointStore:
    """Checkpoints in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, record: CheckpointRecord, *, keep: int) -> tuple[str, ...]:
        """Keeps a checkpoint and forgets all but the latest of its job.

        Args:
            record: the checkpoint.
            keep: how many of the job stay, this one among them.

        Returns:
            Names of the sealed files to delete after the transaction.

        Raises:
            ConfideError: JOB_CONFLICT: one of this run is kept already.
        """
        if self._session.get(CheckpointRow, (record.job_id, record.run)) is not None:
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"job {record.job_id} has a checkpoint at run {record.run} already")
        self._session.add(CheckpointRow(**vars(record)))
        self._session.flush()
        return self._forget(self._rows(record.job_id)[keep:])

    def of_job(self, job_id: str) -> tuple[CheckpointRecord, ...]:
        """Returns the checkpoints of a job, the latest first."""
        return tuple(_record(row) for row in self._rows(job_id))

    def job_ids(self) -> tuple[str, ...]:
        """Returns the ids of the jobs of which checkpoints are held, in order."""
        return tuple(self._session.scalars(select(CheckpointRow.job_id).distinct().order_by(CheckpointRow.job_id)))

    def find(self, job_id: str, *, run: int, head: str) -> CheckpointRecord | None:
        """Returns the checkpoint of this run and head, or None if it is not held here."""
        row = self._session.get(CheckpointRow, (job_id, run))
        return None if row is None or row.head != head else _record(row)

    def discard(self, job_id: str) -> tuple[str, ...]:
        """Forgets all checkpoints of a job.

        Returns:
            Names of the sealed files to delete after the transaction.
        """
        return self._forget(self._rows(job_id))

    def discard_older(self, limit: datetime) -> tuple[str, ...]:
        """Forgets all checkpoints that were made before a time.

        Returns:
            Names of the sealed files to delete after the transaction.
        """
        return self._forget(list(self._session.scalars(select(CheckpointRow).where(CheckpointRow.created < limit))))

    def sealed_names(self) -> tuple[str, ...]:
        """Returns the names of all sealed files of checkpoints."""
        return tuple(self._session.scalars(select(CheckpointRow.sealed_name)))

    def _rows(self, job_id: str) -> list[CheckpointRow]:
        query = select(CheckpointRow).where(CheckpointRow.job_id == job_id).order_by(CheckpointRow.run.desc())
        return list(self._session.scalars(query))

    def _forget(self, rows: list[CheckpointRow]) -> tuple[str, ...]:
        names = tuple(row.sealed_name for row in rows)
        for row in rows:
            self._session.delete(row)
        self._session.flush()
        return names


def _record(row: CheckpointRow) -> CheckpointRecord:
    return CheckpointRecord(row.job_id, row.run, row.head, row.sealed_name, row.created)
