"""Standing assessments while a party serves: jobs submitted when they are due, their figures stated, evidence renewed by them.

Everything that has happened lies in the database: a run is kept with its job before the job is submitted, so a process that ends
anywhere leaves one job, which the next one goes on with. A party that was down submits one job when it is back, however many days
it has missed. What people ended is looked at before anything is submitted, and before anything is stated.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from governance.admission import SUBMITTED_WITHIN
from governance.audit.entries import Fact
from governance.documents import SignedDocument
from governance.evidence.gate import Verdict
from governance.evidence.standing import StandingAssessment
from parties.arrived_reports import PutOff, newer_reports
from parties.evidence import warm_statements
from parties.model_registry import Holder
from parties.renewal import renew_release
from parties.risk_statements import keep_statement, unsigned_risk
from parties.server.assessor import Asks
from parties.server.handing_over import HandingOver, waits_for_another
from parties.server.order_records import note_order, require_order_stands
from parties.server.party import Party
from parties.server.repeating import Repeating
from parties.standing_assessments import next_due, unfit_for, waits_at_most
from parties.storage.assessments import OrderRecord, RunRecord, RunState
from parties.storage.database import Tables
from privacy.risk.joint import risk_of
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError
from protocols.job import TIME_FORMAT, Job, ModelRef
from protocols.session.endings import Ending
from protocols.session.states import State

PAUSE_S = 2.0
EVERY = timedelta(seconds=30)  # between two looks at an order of which nothing is under way
RENEW_EVERY = timedelta(hours=1)  # by what other owners tell; what this party has assessed itself counts at once
COLLECT_EVERY = timedelta(seconds=20)
COLLECT_WITHIN = timedelta(days=1)  # after the job's life: then the party that does not answer is not waited for any longer
_STOP_S = 3.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class _NothingNew:
    """That nothing had arrived for a version. To read all that its owners ever told at every look would keep a party busy.

    Attributes:
        known: its last bundle, the policy, and how many statements there were.
        since: when that was found, UTC.
        until: when it is looked at again though nothing has changed: a report may have been dated ahead, or its turn be over.
    """

    known: tuple[str, str, int, int]
    since: datetime
    until: datetime


class AssessmentWatch:
    """Carries out the standing assessments of a serving party, on a thread of its own."""

    def __init__(
        self, party: Party, asks: Asks, *, ended: Callable[[], None], every: timedelta = EVERY, pause_s: float = PAUSE_S
    ) -> None:
        """Takes the party, whose clock it goes by, who asks for it, and what to call for each release that ends."""
        self._party = party
        self._asks = asks
        self._ended = ended
        self._every = every
        self._looked: dict[str, datetime] = {}
        self._submitted: set[str] = set()  # jobs that this process has given to everybody, or tried to
        self._collected: dict[str, datetime] = {}
        self._put_off: dict[tuple[ModelRef, str], datetime] = {}
        self._nothing_new: dict[ModelRef, _NothingNew] = {}
        self._handing = HandingOver(party, asks)
        self._repeating = Repeating(self.look, name="assessments", pause_s=pause_s, stop_s=_STOP_S)

    def start(self) -> None:
        """Begins."""
        self._repeating.start()

    def stop(self) -> None:
        """Stops the thread; a question that is under way is waited for a moment, and the next process goes on with the run."""
        self._repeating.stop()

    def look(self) -> None:
        """Looks once at every order: follows what is under way, begins what is due, renews the evidence by what has arrived."""
        with self._party.database.transaction() as tables:
            orders = tables.assessments.at_work()
        defect: Exception | None = None
        for record in orders:  # what stops one keeps no other waiting
            try:
                self._go_on(record)
            except ConfideError as error:
                _log.warning("assessment", order=record.order.digest, code=error.code.name, what=error.what)
            except Exception as error:
                defect = error
        self._handing.look()
        if defect is not None:
            raise defect

    def _go_on(self, record: OrderRecord) -> None:
        digest = record.order.digest
        with self._party.database.transaction() as tables:
            run = tables.assessments.last_run(digest)
        if run is not None and run.ended is None and run.job is not None:
            if record.ended is None:
                self._still_stands(record)  # if not, the order has ended now, and so does its run
            self._follow(record, run, run.job)
            return
        now, looked = self._party.now(), self._looked.get(digest)
        # A clock that was set back must not keep the watch waiting.
        if looked is not None and timedelta(0) <= now - looked < self._every:
            return
        self._looked[digest] = now
        if self._still_stands(record):
            self._begin_if_due(record)
            self._renew(record, least=RENEW_EVERY)

    # Beginning.

    def _still_stands(self, record: OrderRecord) -> bool:
        """Whether an order stands; one whose time is over, or whose person may not order it any more, ends."""
        party, order, now = self._party, record.order, self._party.now()
        try:
            with party.database.transaction() as tables:
                require_order_stands(tables, record, party=party.id, policy=party.policy, now=now)
        except ConfideError as error:
            why = error.what
        else:
            return True
        with party.database.transaction() as tables:
            if tables.assessments.end(order.digest, why=why, now=now):
                note_order(tables, order, "ended", why, now=now)
        _log.warning("assessment_order_ended", order=order.digest, model=order.ref.label, what=why)
        return False

    def _begin_if_due(self, record: OrderRecord) -> None:
        party, order, now = self._party, record.order, self._party.now()
        with party.database.transaction() as tables:
            due = next_due(tables, order, policy=party.policy, now=now)
            if due is None or due > now:
                return
            at_most = waits_at_most(tables, order, policy=party.policy, now=now)
            if waits_for_another(tables, order, due=due, at_most=at_most, now=now):
                return
            unfit = unfit_for(tables, order, policy=party.policy, now=now)
            if unfit:
                self._refuse(tables, order, unfit, now)
                return
        try:
            job = self._asks.prepare(order, now)
            with party.database.transaction() as tables:
                unfit = unfit_for(tables, order, policy=party.policy, now=now, job=job)
                if unfit:
                    self._refuse(tables, order, unfit, now)
                    return
        except ConfideError as error:
            with party.database.transaction() as tables:
                self._refuse(tables, order, _in_words(error), now)
            return
        with party.database.transaction() as tables:
            # Ended while the job was prepared, or served by another owner's.
            due = next_due(tables, order, policy=party.policy, now=now)
            if tables.assessments.get(order.digest).ended is not None or due is None or due > now:
                return
            run = tables.assessments.begin(order.digest, job, now=now)
            note_order(tables, order, "submitted", "", job=job, now=now)
        self._submit(order, run, job)

    def _refuse(self, tables: Tables, order: StandingAssessment, what: str, now: datetime) -> None:
        tables.assessments.refuse(order.digest, what, now=now)
        note_order(tables, order, "refused", what, now=now)
        _log.warning("assessment_refused", order=order.digest, model=order.ref.label, what=what)

    def _submit(self, order: StandingAssessment, run: RunRecord, job: Job) -> None:
        """Gives the job to everybody; what fails at one of them may still be mended by the others, who tell it."""
        self._submitted.add(job.job_id)
        try:
            self._asks.submit(job)
        except ConfideError as error:
            with self._party.database.transaction() as tables:
                tables.assessments.note(run.number, _in_words(error))
            _log.warning("assessment_submission", order=order.digest, job=job.job_id, code=error.code.name, what=error.what)

    # Following.

    def _follow(self, record: OrderRecord, run: RunRecord, job: Job) -> None:
        now = self._party.now()
        with self._party.database.transaction() as tables:
            is_over = tables.assessments.get(record.order.digest).ended is not None
            known = tables.jobs.find(job.job_id) is not None
            document = tables.jobs.ending(job.job_id)
        if is_over:
            with suppress(ConfideError):  # it ended, or will by itself; nothing of it is used
                self._asks.cancel(job)
            self._close(record.order, run, RunState.FAILED, "the standing assessment has ended", job)
        elif not known:
            # Whoever has the job brings it here until everybody must have agreed: before, it may still run, and would count.
            if now > job.agree_by:
                self._close(record.order, run, RunState.REFUSED, run.what or "the job has not reached this party", job)
            elif job.job_id not in self._submitted and now - job.created <= SUBMITTED_WITHIN:
                self._submit(record.order, run, job)
        elif document is not None:
            self._conclude(record, run, job, Ending.from_document(parse_canonical(SignedDocument.from_bytes(document).body)))

    def _conclude(self, record: OrderRecord, run: RunRecord, job: Job, ending: Ending) -> None:
        if ending.state is not State.COMPLETED:
            state = RunState.REFUSED if ending.state in (State.REJECTED, State.EXPIRED) else RunState.FAILED
            self._close(record.order, run, state, f"{ending.code}: {ending.cause}", job)
            return
        now = self._party.now()
        last = self._collected.get(job.job_id)
        if last is not None and timedelta(0) <= now - last < COLLECT_EVERY:
            return
        self._collected[job.job_id] = now
        try:
            opened = self._asks.counts(job)
            found = unsigned_risk(job, risk_of(job, opened.value), now=_assessed_at(job, ending, now))
        except ConfideError as error:
            if now > job.expires + COLLECT_WITHIN:
                self._close(record.order, run, RunState.FAILED, _in_words(error), job)
            else:
                with self._party.database.transaction() as tables:
                    tables.assessments.note(run.number, _in_words(error))
            return
        with self._party.database.transaction() as tables:
            if tables.assessments.get(record.order.digest).ended is not None:
                return  # the next look closes the run
            facts: dict[str, Fact] = {"authorisation": record.authorisation, "order": record.order.digest, "job": job.job_id}
            keep_statement(tables, found, self._party.member, facts, now=now)
            tables.assessments.close(run.number, RunState.DONE, what="", now=now)
            note_order(tables, record.order, RunState.DONE.value, "", job=job, now=now)
        _log.info("assessment_repeated", order=record.order.digest, model=record.order.ref.label, job=job.job_id)
        self._handing.add(record.order, job, found, opened.shares)
        self._renew(record, least=timedelta(0))

    def _close(self, order: StandingAssessment, run: RunRecord, state: RunState, what: str, job: Job) -> None:
        now = self._party.now()
        with self._party.database.transaction() as tables:
            tables.assessments.close(run.number, state, what=what, now=now)
            note_order(tables, order, state.value, what, job=job, now=now)
        _log.warning("assessment_" + state.value, order=order.digest, model=order.ref.label, job=job.job_id, what=what)

    # Renewing.

    def _renew(self, record: OrderRecord, *, least: timedelta) -> None:
        """Renews the evidence by what has arrived, if the last bundle is at least so old."""
        party, ref, now = self._party, record.order.ref, self._party.now()
        policy, directory = party.policy, party.directory
        with party.database.transaction() as tables:
            kept = [each for each in tables.evidence.of_model(ref.name) if each.ref == ref]
            if not kept or timedelta(0) <= now - kept[-1].kept < least:
                return
            known = (kept[-1].digest, policy.digest, tables.statements.last_number(), tables.statements.last_heard())
            looked = self._nothing_new.get(ref)
            if looked is not None and looked.known == known and looked.since <= now < looked.until:
                return
            arrived = newer_reports(tables, ref, party=party.id, policy=policy, directory=directory, now=now)
        self._tell_put_off(ref, arrived.put_off)
        if arrived.reports is None:
            until = min([now + RENEW_EVERY, *(each.until for each in arrived.put_off)])
            self._nothing_new[ref] = _NothingNew(known, now, until)
            return
        warm_statements(party.database.transaction, ref, party=party.id, now=now)
        with party.database.transaction() as tables:
            found = renew_release(
                tables,
                Holder.of(party.member, directory),
                ref,
                policy=policy,
                directory=directory,
                authorisation=record.authorisation,
                now=now,
            )
        if found is None:
            return
        if found.verdict is Verdict.BLOCKED:
            self._ended()
        elif found.verdict is Verdict.NEEDS_OFFICER:
            _log.warning("release_needs_officer", model=ref.label, what="; ".join(reason.what for reason in found.reasons))

    def _tell_put_off(self, ref: ModelRef, waiting: tuple[PutOff, ...]) -> None:
        """Says once of each owner's turn that a report of it waits, and why."""
        first = {each.told.stated.owner: each for each in reversed(waiting)}
        for owner, each in first.items():
            if self._put_off.get((ref, owner)) != each.until:
                _log.warning("report_put_off", model=ref.label, what=each.in_words)
        self._put_off = {key: until for key, until in self._put_off.items() if key[0] != ref}
        self._put_off |= {(ref, owner): each.until for owner, each in first.items()}


def _assessed_at(job: Job, ending: Ending, now: datetime) -> datetime:
    """When an assessment ended: its figures are as old as that, by whoever's clock, but no older than the job."""
    return min(now, max(datetime.strptime(ending.time, TIME_FORMAT).replace(tzinfo=UTC), job.created))


def _in_words(error: ConfideError) -> str:
    return "; ".join([f"{error.code.name}: {error.what}", *(str(problem) for problem in error.problems)])
