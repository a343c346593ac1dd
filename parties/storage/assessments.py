"""Standing assessments of this party, and their runs, in the order in which they were made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from governance.documents import SignedDocument
from governance.evidence.standing import StandingAssessment
from parties.storage.assessment_tables import AssessmentRunRow, StandingAssessmentRow
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job

MAX_WHAT = 2_000  # characters of why a run or an order ended
LEAST_DIGITS = 8  # of a digest, where a person shortens it


class RunState(Enum):
    """How a run stands."""

    UNDER_WAY = "under-way"
    DONE = "done"  # its figures are stated
    REFUSED = "refused"  # nothing was computed: by this party itself, by others, or because nobody agreed in time
    FAILED = "failed"  # it was agreed to and did not complete, or what it opened could not be had


@dataclass(frozen=True)
class OrderRecord:
    """An order as this party keeps it.

    Attributes:
        signed: the order.
        authorisation: digest of the person's, 64 hexadecimal digits.
        kept: when, UTC.
        ended: when it ended, UTC; None while it stands.
        why: why it ended; empty while it stands.
    """

    signed: SignedDocument
    authorisation: str
    kept: datetime
    ended: datetime | None = None
    why: str = ""

    @cached_property
    def order(self) -> StandingAssessment:
        """What it says."""
        return StandingAssessment.from_bytes(self.signed.body)


@dataclass(frozen=True)
class RunRecord:
    """One time that an order was carried out.

    Attributes:
        number: its place among the runs of all orders.
        order: digest of the order.
        document: the job's; None if none was made.
        started: when, UTC.
        state: how it stands.
        what: why it was refused or failed, or what its submission met with; else empty.
        ended: when, UTC; None while it is under way.
    """

    number: int
    order: str
    document: bytes | None
    started: datetime
    state: RunState
    what: str
    ended: datetime | None

    @cached_property
    def job(self) -> Job | None:
        """What the document says; read when it is asked for, since there may be many runs."""
        return None if self.document is None else Job.from_bytes(self.document)


class AssessmentStore:
    """Standing assessments in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, record: OrderRecord) -> None:
        """Keeps an order.

        Raises:
            ConfideError: JOB_CONFLICT (the person's fault): one about this version stands already.
        """
        order = record.order
        for other in self.standing():
            if other.order.ref == order.ref:
                what = f"standing assessment {other.order.digest[:12]} of {order.ref.label} stands already"
                raise ConfideError(ErrorCode.JOB_CONFLICT, what, remedy="End it first: `confide model assessment end`.")
        row = StandingAssessmentRow(
            digest=order.digest,
            document=record.signed.to_bytes(),
            authorisation=record.authorisation,
            kept=record.kept,
            ended=record.ended,
            why=record.why,
        )
        self._session.add(row)
        self._session.flush()

    def all(self) -> tuple[OrderRecord, ...]:
        """Returns all orders, the oldest first."""
        query = select(StandingAssessmentRow).order_by(StandingAssessmentRow.number)
        return tuple(_order(row) for row in self._session.scalars(query))

    def standing(self) -> tuple[OrderRecord, ...]:
        """Returns the orders that have not ended, the oldest first."""
        query = select(StandingAssessmentRow).where(StandingAssessmentRow.ended.is_(None))
        return tuple(_order(row) for row in self._session.scalars(query.order_by(StandingAssessmentRow.number)))

    def at_work(self) -> tuple[OrderRecord, ...]:
        """Returns the orders that stand, and those that have ended while a run is under way, the oldest first."""
        under_way = exists().where(AssessmentRunRow.order == StandingAssessmentRow.digest, AssessmentRunRow.ended.is_(None))
        query = select(StandingAssessmentRow).where(or_(StandingAssessmentRow.ended.is_(None), under_way))
        return tuple(_order(row) for row in self._session.scalars(query.order_by(StandingAssessmentRow.number)))

    def get(self, digest: str) -> OrderRecord:
        """Returns an order by its digest, or by the beginning of it.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT (the asker's fault): none, or several.
        """
        found = [each for each in self.all() if len(digest) >= LEAST_DIGITS and each.order.digest.startswith(digest)]
        if len(found) != 1:
            remedy = "Look at `confide model assessment list`."
            raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, f"no standing assessment {digest[:64]!r} is kept here", remedy=remedy)
        return found[0]

    def end(self, digest: str, *, why: str, now: datetime) -> bool:
        """Ends an order; returns whether it stood."""
        row = self._session.scalars(select(StandingAssessmentRow).where(StandingAssessmentRow.digest == digest)).one()
        if row.ended is not None:
            return False
        row.ended, row.why = now, why[:MAX_WHAT]
        self._session.flush()
        return True

    def begin(self, order: str, job: Job, *, now: datetime) -> RunRecord:
        """Keeps that a run begins, before its job is submitted, and returns it."""
        return self._put(order, job, RunState.UNDER_WAY, "", now, None)

    def refuse(self, order: str, what: str, *, now: datetime) -> None:
        """Keeps that a run was due and that no job could be made."""
        self._put(order, None, RunState.REFUSED, what, now, now)

    def note(self, number: int, what: str) -> None:
        """Keeps what the submission of a run's job met with; the run goes on."""
        self._run(number).what = what[:MAX_WHAT]
        self._session.flush()

    def close(self, number: int, state: RunState, *, what: str, now: datetime) -> None:
        """Keeps how a run ended."""
        row = self._run(number)
        row.state, row.what, row.ended = state.value, what[:MAX_WHAT], now
        self._session.flush()

    def runs(self, order: str) -> tuple[RunRecord, ...]:
        """Returns the runs of an order, the oldest first."""
        query = select(AssessmentRunRow).where(AssessmentRunRow.order == order).order_by(AssessmentRunRow.number)
        return tuple(_run_record(row) for row in self._session.scalars(query))

    def last_run(self, order: str) -> RunRecord | None:
        """Returns the last run of an order, or None: whoever looks often need not read them all."""
        query = select(AssessmentRunRow).where(AssessmentRunRow.order == order).order_by(AssessmentRunRow.number.desc())
        row = self._session.scalars(query.limit(1)).first()
        return None if row is None else _run_record(row)

    def _put(
        self, order: str, job: Job | None, state: RunState, what: str, started: datetime, ended: datetime | None
    ) -> RunRecord:
        document = None if job is None else job.to_bytes()
        row = AssessmentRunRow(order=order, job=document, started=started, state=state.value, what=what[:MAX_WHAT], ended=ended)
        self._session.add(row)
        self._session.flush()
        return _run_record(row)

    def _run(self, number: int) -> AssessmentRunRow:
        return self._session.scalars(select(AssessmentRunRow).where(AssessmentRunRow.number == number)).one()


def _order(row: StandingAssessmentRow) -> OrderRecord:
    return OrderRecord(SignedDocument.from_bytes(row.document), row.authorisation, row.kept, row.ended, row.why)


def _run_record(row: AssessmentRunRow) -> RunRecord:
    return RunRecord(row.number, row.order, row.job, row.started, RunState(row.state), row.what, row.ended)
