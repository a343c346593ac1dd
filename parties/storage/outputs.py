"""Output shares, and the single-use permissions to open without which none of them leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from parties.storage.tables import OpeningRow, OutputRow
from protocols.errors import ConfideError, ErrorCode


@dataclass(frozen=True)
class OutputRecord:
    """This party's share of one output of a job.

    Attributes:
        job_id: the job.
        name: the output's name in the job.
        recipient: who may open it.
        sealed_name: the sealed file with the refreshed share.
        scale_bits: fractional bits of its values.
        shape: dimensions of the array.
        commitment: to this share, 64 hexadecimal digits; the nonce lies in the sealed file, before the share.
        withheld: why it is never handed out, for people; empty if it may be.
    """

    job_id: str
    name: str
    recipient: str
    sealed_name: str
    scale_bits: int
    shape: tuple[int, ...]
    commitment: str
    withheld: str = ""

    @property
    def object_id(self) -> str:
        """The id under which the share is sealed."""
        return output_object_id(self.job_id, self.name)


@dataclass(frozen=True)
class OpeningRecord:
    """A permission to hand one output to one recipient, once.

    Attributes:
        opening_id: its id, unique.
        job_id: the job.
        output: the output's name.
        recipient: who may have it.
        made: when it was made, UTC.
        used_at: when it was used, UTC, or None.
        used_for: the recipient's request that used it, or None.
    """

    opening_id: str
    job_id: str
    output: str
    recipient: str
    made: datetime
    used_at: datetime | None = None
    used_for: str | None = None


def output_object_id(job_id: str, name: str) -> str:
    """Returns the id under which this party's share of an output is sealed."""
    return f"{job_id}/{name}"


class OutputStore:
    """Outputs in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, record: OutputRecord) -> None:
        """Keeps an output share.

        Raises:
            ConfideError: JOB_CONFLICT: this output is kept already.
        """
        if self._session.get(OutputRow, (record.job_id, record.name)) is not None:
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"output {record.object_id} is kept already")
        self._session.add(OutputRow(**(vars(record) | {"shape": json.dumps(record.shape)})))
        self._session.flush()

    def get(self, job_id: str, name: str) -> OutputRecord:
        """Returns an output.

        Raises:
            ConfideError: UNKNOWN_OUTPUT (the asker's fault).
        """
        row = self._session.get(OutputRow, (job_id, name))
        if row is None:
            raise ConfideError(ErrorCode.UNKNOWN_OUTPUT, f"job {job_id[:32]} has no output {name[:63]} here")
        return _output(row)

    def of_job(self, job_id: str) -> tuple[OutputRecord, ...]:
        """Returns the outputs of a job, in the order of their names."""
        query = select(OutputRow).where(OutputRow.job_id == job_id).order_by(OutputRow.name)
        return tuple(_output(row) for row in self._session.scalars(query))

    def withhold(self, job_id: str, reason: str) -> None:
        """Notes that no output of a job is ever handed out; openings that were permitted and not used are gone."""
        self._session.execute(update(OutputRow).where(OutputRow.job_id == job_id).values(withheld=reason))
        unused = (OpeningRow.job_id == job_id) & OpeningRow.used_at.is_(None)
        self._session.execute(delete(OpeningRow).where(unused))

    def withheld(self, job_id: str) -> str:
        """Returns why no output of a job is handed out, or the empty text."""
        return max((record.withheld for record in self.of_job(job_id)), default="")

    def sealed_names(self) -> tuple[str, ...]:
        """Returns the names of all sealed files of outputs."""
        return tuple(self._session.scalars(select(OutputRow.sealed_name)))

    def discard(self, job_id: str) -> tuple[str, ...]:
        """Forgets the outputs of a job that did not complete, with their permissions.

        Returns:
            Names of the sealed files to delete after the transaction.
        """
        for grant in self._session.scalars(select(OpeningRow).where(OpeningRow.job_id == job_id)).all():
            self._session.delete(grant)
        self._session.flush()
        rows = self._session.scalars(select(OutputRow).where(OutputRow.job_id == job_id)).all()
        names = tuple(row.sealed_name for row in rows)
        for row in rows:
            self._session.delete(row)
        self._session.flush()
        return names


class OpeningStore:
    """Grants in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def make(self, grant: OpeningRecord) -> None:
        """Keeps a new permission; only the release gate makes one (`governance.release`).

        Raises:
            ConfideError: JOB_CONFLICT: there is or was a grant for this output; UNKNOWN_OUTPUT: no such output.
        """
        if self._session.get(OutputRow, (grant.job_id, grant.output)) is None:
            raise ConfideError(ErrorCode.UNKNOWN_OUTPUT, f"job {grant.job_id[:32]} has no output {grant.output[:63]} here")
        same_output = (OpeningRow.job_id == grant.job_id) & (OpeningRow.output == grant.output)
        if self._session.scalar(select(OpeningRow.opening_id).where(same_output | (OpeningRow.opening_id == grant.opening_id))):
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"output {grant.output} of job {grant.job_id} has a grant already")
        self._session.add(OpeningRow(**vars(grant)))
        self._session.flush()

    def find(self, job_id: str, output: str) -> OpeningRecord | None:
        """Returns the grant for an output, used or not, or None."""
        query = select(OpeningRow).where(OpeningRow.job_id == job_id, OpeningRow.output == output)
        row = self._session.scalar(query)
        return None if row is None else _grant(row)

    def use_once(self, job_id: str, output: str, *, recipient: str, request_id: str, now: datetime) -> OpeningRecord:
        """Uses up the grant of an output; commit before the share is handed out: a crash may waste it, never double it.

        Args:
            job_id: the job.
            output: the output's name.
            recipient: the authenticated caller.
            request_id: names the caller's request; the same request again is the same use, so that a lost answer can be
                asked for once more.
            now: the time, UTC.

        Raises:
            ConfideError: NO_GRANT: none for this recipient; GRANT_USED: another request has used it.
        """
        # One statement decides, so two callers at the same moment cannot both win.
        used = self._session.scalar(
            update(OpeningRow)
            .where(
                OpeningRow.job_id == job_id,
                OpeningRow.output == output,
                OpeningRow.recipient == recipient,
                OpeningRow.used_at.is_(None),
            )
            .values(used_at=now, used_for=request_id)
            .returning(OpeningRow)
        )
        if used is not None:
            return _grant(used)
        known = self.find(job_id, output)
        if known is None or known.recipient != recipient:
            raise ConfideError(ErrorCode.NO_GRANT, f"{recipient} has no grant for output {output[:63]} of job {job_id[:32]}")
        if known.used_for != request_id:
            raise ConfideError(ErrorCode.GRANT_USED, f"the grant for output {output} of job {job_id} has been used")
        return known


def _output(row: OutputRow) -> OutputRecord:
    shape = tuple(int(size) for size in json.loads(row.shape))
    return OutputRecord(row.job_id, row.name, row.recipient, row.sealed_name, row.scale_bits, shape, row.commitment, row.withheld)


def _grant(row: OpeningRow) -> OpeningRecord:
    return OpeningRecord(row.opening_id, row.job_id, row.output, row.recipient, row.made, row.used_at, row.used_for)
