"""The session loop: one thread that feeds every session's machine and has its actions performed.

For each event: the machine of the session decides, its snapshot is stored, then its actions are performed. Whatever waits (the
network, a worker, a sealed file) happens on other threads and comes back as an event. So a crash at any point is a restart
from the last snapshot, and two events never meet.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from random import SystemRandom
from threading import RLock, Thread

import structlog

from governance.documents import DocumentKind, SignedDocument, sign
from parties.server import results
from parties.server.board import Board, Measured, Status
from parties.server.courier import Courier, JobPapers, Outcome
from parties.server.execution import ATTEMPT, Task
from parties.server.party import Party
from parties.server.slots import Claim, Slots
from parties.server.terms import log_defect, refusal, snapshot_text, spec_of
from parties.server.work import Work
from parties.server.workers import Template
from parties.storage.jobs import CountersignatureRecord, JobRecord, PlanRecord
from parties.transport.peers import Peers
from parties.transport.streams import LinkTable
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session import actions as act
from protocols.session import events as ev
from protocols.session.machine import SessionMachine
from protocols.session.messages import Countersignature, Ending, SessionMessage
from protocols.session.states import State

CONCURRENT_SESSIONS = 1
_SENDERS = 16
_IDLE_S = 1.0
_STORE_WITHIN_S = 4.0  # below the deadline of the other side's call
_log = structlog.get_logger()


@dataclass
class _Open:
    """A session in the loop's hands."""

    job: Job
    papers: JobPapers
    machine: SessionMachine
    query_share: bytes | None = field(repr=False)
    stored: str = ""
    work: Work | None = None


@dataclass(frozen=True)
class _Item:
    job_id: str
    event: ev.Event
    done: Future[None] | None = None
    signed: SignedDocument | None = None


class Sessions:
    """All sessions of this party process. Public methods may be called from any thread."""

    def __init__(
        self, party: Party, *, peers: Peers, links: LinkTable, template: Template, check: Callable[[Job], bytes]
    ) -> None:
        """Takes the party, its channels, where workers come from, and `check`, which returns a job's plan or refuses it."""
        self._template = template
        self._party = party
        self._peers = peers
        self._links = links
        self._check = check
        self._courier = Courier(party.id, party.member.signing_key, peers)
        self._queue: queue.Queue[_Item | None] = queue.Queue()
        self._pool = ThreadPoolExecutor(_SENDERS, thread_name_prefix="session")
        self._slots = Slots(CONCURRENT_SESSIONS)
        self._open: dict[str, _Open] = {}
        self._opening = RLock()
        self._board = Board()
        self._random = SystemRandom()
        self._thread = Thread(target=self._run, name="sessions", daemon=True)

    def start(self) -> None:
        """Takes up what the last process left, then begins."""
        with self._party.database.transaction() as tables:
            unfinished = tables.jobs.without_ending()
        for record in unfinished:
            self._restore(record)
        self._thread.start()

    def stop(self) -> None:
        """Stops the loop and every worker; sessions go on when the party is served again."""
        self._queue.put(None)
        self._thread.join()
        for session in self._open.values():
            if session.work is not None:
                session.work.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def knows(self, job_id: str) -> bool:
        """Whether the job has reached this party."""
        try:
            self._find(job_id)
        except ConfideError:
            return False
        return True

    def propose(self, job: Job, papers: JobPapers, *, query_share: bytes | None, checked: bytes | ConfideError) -> None:
        """Opens a session for a job that reached this party, with the plan or the refusal that its check gave. Idempotent."""
        now = self._party.now()
        machine = SessionMachine(spec_of(job), self._party.id)
        record = JobRecord(
            job_id=job.job_id,
            querier=job.querier,
            document=papers.job.body,
            signature=papers.job.signature,
            initial_weights=papers.initial_weights or None,
            snapshot=snapshot_text(machine),
            state=State.PROPOSED.value,
            created=now,
            updated=now,
        )
        with self._opening:
            with self._party.database.transaction() as tables:
                if tables.jobs.find(job.job_id) is not None:
                    return
                tables.jobs.add(record)
                if isinstance(checked, bytes):
                    tables.jobs.add_plan(PlanRecord(job.job_id, checked, sha256_hex(checked)))
            self._adopt(_Open(job, papers, machine, query_share))
        event = ev.JobAccepted(sha256_hex(checked)) if isinstance(checked, bytes) else refusal(checked)
        self._put_and_wait(job.job_id, event)

    def deliver(self, message: SessionMessage, signed: SignedDocument) -> None:
        """Feeds a participant's verified message; returns when its effect is stored.

        Raises:
            ConfideError: UNKNOWN_SESSION if this party has not heard of the job; else what the machine says of the message.
        """
        self._find(message.session)
        self._put_and_wait(message.session, ev.Received(message), signed)

    def cancel(self, job_id: str) -> None:
        """Asks for a session's cancellation; its ending shows whether it came in time.

        Raises:
            ConfideError: UNKNOWN_SESSION, or CANCEL_TOO_LATE (the asker's fault).
        """
        self._find(job_id)
        self._put_and_wait(job_id, ev.CancelRequested())

    def status(self, job_id: str) -> Status:
        """Returns what this party shows of a session.

        Raises:
            ConfideError: UNKNOWN_JOB (the asker's fault).
        """
        try:
            self._find(job_id)
        except ConfideError as error:
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"no job {job_id[:32]} is known here") from error
        return self._board.wait(job_id, revision=-1, timeout_s=0)

    def wait_for_change(self, job_id: str, *, revision: int, timeout_s: float) -> Status:
        """Returns the status once its revision is another one, or after the time."""
        return self._board.wait(job_id, revision=revision, timeout_s=timeout_s)

    # The loop's own thread.

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=self._pause())
            except queue.Empty:
                self._tick()
                continue
            if item is None:
                return
            self._step(item)
            self._tick()

    def _pause(self) -> float:
        times = [session.machine.next_deadline for session in list(self._open.values())]
        times.append(self._slots.next_time())
        soonest = min((t for t in times if t is not None), default=time.time() + _IDLE_S)
        return min(_IDLE_S, max(0.0, soonest - time.time()))

    def _tick(self) -> None:
        now = time.time()
        for job_id, session in list(self._open.items()):
            deadline = session.machine.next_deadline
            if deadline is not None and deadline <= now:
                self._step(_Item(job_id, ev.Tick()))
        while (granted := self._slots.grant(now)) is not None:
            self._step(_Item(granted.job_id, ev.SlotGranted(granted.ticket)))

    def _step(self, item: _Item) -> None:
        session = self._open[item.job_id]
        try:
            self._keep_consent(session.job, item)
            todo = session.machine.handle(item.event, time.time())
            self._store(session)
        except Exception as error:
            if item.done is not None:
                item.done.set_exception(error)
            elif not isinstance(error, ConfideError) or error.code is ErrorCode.INTERNAL:
                log_defect(item.job_id, type(item.event).__name__, error)
            return
        for action in todo:
            try:
                self._perform(session, action)
            except Exception as error:  # one failed action must not end the loop of all sessions; this one has its deadlines
                log_defect(item.job_id, type(item.event).__name__, error)
        if item.done is not None:
            item.done.set_result(None)

    def _store(self, session: _Open) -> None:
        job_id, state = session.job.job_id, session.machine.state
        snapshot = snapshot_text(session.machine)
        if snapshot == session.stored:
            return
        with self._party.database.transaction() as tables:
            tables.jobs.save_snapshot(job_id, snapshot=snapshot, state=state.value, now=self._party.now())
            signed = tuple(record.party for record in tables.jobs.countersignatures(job_id))
            plan = tables.jobs.plan(job_id)
        session.stored = snapshot
        shown = self._board.find(job_id)
        if shown is None or shown.state is not state:
            _log.info("session", job=job_id, state=state.value)
        self._board.update(job_id, state=state, countersigned_by=signed, plan_digest=plan.digest if plan else "")

    def _keep_consent(self, job: Job, item: _Item) -> None:
        # Before the machine hears it: a party that signed two different plans is refused here, and nothing has changed.
        consent = self._consent(job, item)
        if consent is not None:
            with self._party.database.transaction() as tables:
                tables.jobs.add_countersignature(consent)

    def _consent(self, job: Job, item: _Item) -> CountersignatureRecord | None:
        match item.event:
            case ev.JobAccepted(plan_digest=digest):
                signed = self._courier.sign(SessionMessage(job.job_id, ATTEMPT, self._party.id, Countersignature(digest)))
                return CountersignatureRecord(job.job_id, self._party.id, digest, signed.body, signed.signature)
            case ev.Received(message=SessionMessage(body=Countersignature(plan_digest=digest))) if item.signed is not None:
                signed = item.signed
                return CountersignatureRecord(job.job_id, signed.signer, digest, signed.body, signed.signature)
            case _:
                return None

    def _perform(self, session: _Open, action: act.Action) -> None:
        job_id = session.job.job_id
        match action:
            case act.Send():
                self._pool.submit(self._send, session, action)
            case act.CheckJob():
                self._pool.submit(self._check_again, session)
            case act.RequestSlot(ticket=ticket, backoff_s=backoff):
                self._slots.request(Claim(job_id, ticket), not_before=time.time() + backoff * self._random.uniform(1, 2))
            case act.TrySlot(ticket=ticket):
                granted = self._slots.attempt(Claim(job_id, ticket))
                self._put(job_id, ev.SlotGranted(ticket) if granted else ev.SlotBusy(ticket))
            case act.ReleaseSlot(ticket=ticket):
                self._slots.release(Claim(job_id, ticket))
            case act.StartWorker(number=number):
                session.work = self._work(session)
                self._pool.submit(session.work.start, number)
            case act.OpenLinks():
                if session.work is not None:
                    self._pool.submit(session.work.open_links)
            case act.StopWorker():
                if session.work is not None:
                    self._pool.submit(session.work.stop)
            case act.PublishOutputs():
                self._pool.submit(self._settle, session, results.publish)
            case act.DiscardOutputs():
                self._pool.submit(self._settle, session, results.discard)
            case act.Announce(ending=ending):
                self._announce(session, ending)

    def _work(self, session: _Open) -> Work:
        job_id = session.job.job_id
        with self._party.database.transaction() as tables:
            plan = tables.jobs.plan(job_id)
        return Work(
            self._party,
            Task(session.job, plan.document if plan else b"", session.papers.initial_weights, session.query_share),
            template=self._template,
            links=self._links,
            peers=self._peers,
            tell=partial(self._put, job_id),
            measure=partial(self._measure, job_id),
            state=lambda: session.machine.state,
        )

    def _announce(self, session: _Open, ending: Ending) -> None:
        key = self._party.member.signing_key
        signed = sign(ending.to_document(), kind=DocumentKind.ENDING, signer=self._party.id, key=key)
        with self._party.database.transaction() as tables:
            tables.jobs.put_ending(session.job.job_id, signed.to_bytes())
        session.query_share = None  # nobody needs it any more
        _log.info("ended", job=session.job.job_id, state=ending.state.value, code=ending.code, at_fault=ending.at_fault)
        self._board.update(session.job.job_id, ending=signed)

    # Other threads.

    def _send(self, session: _Open, action: act.Send) -> None:
        papers = session.papers if action.attach_job else None
        try:
            outcome = self._courier.send(action.message, to=action.to, papers=papers)
        except Exception as error:  # for example a channel that is being closed; the machine must hear of every message
            log_defect(session.job.job_id, "Send", error)
            outcome = Outcome.FAILED
        if outcome is Outcome.STORED:
            self._put(session.job.job_id, ev.Delivered(action.to, action.token))
        else:
            needs_job = outcome is Outcome.UNKNOWN_SESSION
            self._put(session.job.job_id, ev.Undelivered(action.to, action.token, needs_job=needs_job))

    def _check_again(self, session: _Open) -> None:
        job_id = session.job.job_id
        try:
            plan = self._check(session.job)
            with self._party.database.transaction() as tables:
                tables.jobs.add_plan(PlanRecord(job_id, plan, sha256_hex(plan)))
        except ConfideError as error:
            self._put(job_id, refusal(error))
        except Exception as error:  # a job whose check fails in any way is not accepted
            log_defect(job_id, "CheckJob", error)
            self._put(job_id, refusal(ConfideError(ErrorCode.INTERNAL)))
        else:
            self._put(job_id, ev.JobAccepted(sha256_hex(plan)))

    def _settle(self, session: _Open, settle: Callable[[Party, Job], None]) -> None:
        work, session.work = session.work, None  # and with it the query's share
        if work is not None:
            work.stop()  # first, so that nothing is sealed any more
        try:
            settle(self._party, session.job)
        except Exception as error:  # the machine asks again after a restart; nothing is released meanwhile
            log_defect(session.job.job_id, settle.__name__, error)
        else:
            self._put(session.job.job_id, ev.OutputsSettled())

    def _measure(self, job_id: str, measured: Measured) -> None:
        self._board.update(job_id, measured=measured)

    def _put(self, job_id: str, event: ev.Event) -> None:
        self._queue.put(_Item(job_id, event))

    def _put_and_wait(self, job_id: str, event: ev.Event, signed: SignedDocument | None = None) -> None:
        done: Future[None] = Future()
        self._queue.put(_Item(job_id, event, done, signed))
        try:
            done.result(timeout=_STORE_WITHIN_S)
        except TimeoutError as error:
            raise ConfideError(ErrorCode.PARTY_BUSY, "this party is too busy to take that in now") from error

    def _find(self, job_id: str) -> _Open:
        with self._opening:
            if job_id in self._open:
                return self._open[job_id]
            with self._party.database.transaction() as tables:
                record = tables.jobs.find(job_id)
            if record is not None:
                return self._restore(record)
        raise ConfideError(ErrorCode.UNKNOWN_SESSION, f"session {job_id[:32]} is not known here")

    def _restore(self, record: JobRecord) -> _Open:
        job = Job.from_bytes(record.document)
        machine = SessionMachine.restore(spec_of(job), self._party.id, json.loads(record.snapshot))
        signed = SignedDocument(DocumentKind.JOB, record.querier, record.document, record.signature)
        session = _Open(job, JobPapers(signed, record.initial_weights or b""), machine, None, record.snapshot)
        with self._party.database.transaction() as tables:
            ending = tables.jobs.ending(job.job_id)
            plan = tables.jobs.plan(job.job_id)
        self._adopt(session)
        shown = None if ending is None else SignedDocument.from_bytes(ending)
        self._board.update(job.job_id, ending=shown, plan_digest=plan.digest if plan else "")
        self._put(job.job_id, ev.Recovered())
        return session

    def _adopt(self, session: _Open) -> None:
        self._board.post(Status(session.job, session.machine.state))
        self._open[session.job.job_id] = session
