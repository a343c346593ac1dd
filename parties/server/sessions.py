"""The session loop: one thread that feeds every session's machine and has its actions performed.

For each event: the machine of the session decides, its step is stored, then its actions are performed. Whatever waits (the
network, a worker, a sealed file) happens on other threads and comes back as an event. So a crash at any point is a restart
from the last stored step, and two events never meet. A step that cannot be stored did not happen: the session goes back to the
one before and sleeps until the party can store again; the others see it fall silent, as they see a party that is gone.
"""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock, Thread

from governance.documents import SignedDocument
from parties.server import results
from parties.server.board import Board, Measured, Status
from parties.server.capacity import capacity
from parties.server.courier import Courier, JobPapers
from parties.server.desk import Desks
from parties.server.disk import DiskWatch
from parties.server.effects import Accept, Effects
from parties.server.intake import CheckedJob
from parties.server.keeping import RENEW_EVERY_S, Keeper, storage_error
from parties.server.lanes import Lanes
from parties.server.opened import OpenSession, new_session, unused
from parties.server.party import Party
from parties.server.slots import Slots
from parties.server.terms import log_defect, refusal
from parties.server.workers import Template
from parties.storage.jobs import JobRecord
from parties.transport.peers import Peers
from parties.transport.streams import LinkTable
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session import actions as act
from protocols.session import events as ev
from protocols.session.messages import FailureReport, SessionMessage
from protocols.session.states import State

_IDLE_S = 1.0
_STORE_WITHIN_S = 4.0  # below the deadline of the other side's call
_TIDY_EVERY_S = 3600.0
_CLOSE_EVERY_S = 60.0


@dataclass(frozen=True)
class _Item:
    """An event for a session; `life` is None if it comes from outside and fits whatever became of the session."""

    job_id: str
    event: ev.Event
    life: int | None = None
    done: Future[None] | None = None
    signed: SignedDocument | None = None


class Sessions:
    """All sessions of this party process. Public methods may be called from any thread."""

    def __init__(
        self,
        party: Party,
        *,
        peers: Peers,
        links: LinkTable,
        template: Template,
        check: Callable[[Job], CheckedJob],
        accept: Accept,
        tell_health: Callable[[bool], None],
        desks: Desks,
    ) -> None:
        """Takes the party, its channels and where workers come from.

        Args:
            party: this party.
            peers: channels to the others.
            links: where streams of peers meet workers.
            template: where workers come from.
            check: returns a job's plan or refuses the job.
            accept: takes a job whose plan is kept to this party's answer, JobAccepted or JobRefused.
            tell_health: told when the party cannot store any more (False), and when it can again (True).
            desks: where queries of servings meet their workers.
        """
        self._party = party
        self._queue: queue.Queue[_Item | None] = queue.Queue()
        self._open: dict[str, OpenSession] = {}
        self._opening = RLock()
        self._board = Board()
        self._lanes = Lanes()
        self._slots = Slots(capacity(party.config))
        self._disk = DiskWatch(party, tell_health)
        courier = Courier(party.id, party.member.signing_key, peers)
        self._keeper = Keeper(party, courier, self._board, self._slots, holder=secrets.token_hex(16))
        self._effects = Effects(
            party,
            courier=courier,
            lanes=self._lanes,
            slots=self._slots,
            disk=self._disk,
            peers=peers,
            links=links,
            template=template,
            check=check,
            accept=accept,
            tell=self._tell,
            measure=self._measure,
            desks=desks,
        )
        self._renew_at = self._tidy_at = self._close_at = 0.0
        self._thread = Thread(target=self._run, name="sessions", daemon=True)

    @property
    def board(self) -> Board:
        """What is shown of the sessions."""
        return self._board

    @property
    def stores(self) -> bool:
        """Whether this party can store what happens."""
        return not self._disk.fails

    @property
    def num_running(self) -> int:
        """How many sessions have a slot."""
        return self._slots.num_held

    @property
    def num_waiting(self) -> int:
        """How many sessions that this party leads wait for a slot."""
        return self._slots.num_waiting

    def start(self) -> None:
        """Takes up what the last process left, then begins."""
        with self._party.database.transaction() as tables:
            self._party.sealed.sweep(tables.sealed_names())
            unfinished = tables.jobs.without_ending()
        self._guard_storage(self._keeper.take_over)
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
        self._lanes.stop()

    def knows(self, job_id: str) -> bool:
        """Whether the job has reached this party."""
        try:
            self._find(job_id)
        except ConfideError as error:
            if error.code is not ErrorCode.UNKNOWN_SESSION:
                raise
            return False
        return True

    def propose(self, job: Job, papers: JobPapers, *, query_share: bytes | None, checked: CheckedJob | ConfideError) -> None:
        """Opens a session for a job that reached this party, with the plan or the refusal that its check gave. Idempotent.

        A job that was not refused goes on to this party's consent; nobody waits for that here.

        Raises:
            ConfideError: DISK_FULL (the operator's fault): the job is not known here then.
        """
        session = new_session(job, papers, party=self._party.id, query_share=query_share)
        try:
            with self._opening:
                if not self._keeper.keep_new(session, checked):
                    return
                self._adopt(session)
        except ConfideError as error:
            self.note_storage(error)
            raise
        if isinstance(checked, CheckedJob):
            self._effects.accept(session)
        else:
            self._put_and_wait(job.job_id, refusal(checked))

    def refuse(self, job_id: str, error: ConfideError) -> None:
        """Ends this party's part in a session that is not agreed yet; without effect on one that is.

        Raises:
            ConfideError: UNKNOWN_SESSION; DISK_FULL (the operator's fault).
        """
        session = self._find(job_id)
        if session.machine.state is not State.PROPOSED:
            return
        self._keeper.note_refusal(session.job, error)
        with suppress(ConfideError):  # the state was another one by then
            self._put_and_wait(job_id, refusal(error))

    def end_consent(self, job_id: str, report: FailureReport) -> None:
        """Tells a session that something which this party's consent rests on has ended; one that is over stays as it is."""
        self._queue.put(_Item(job_id, ev.ConsentEnded(report)))

    def deliver(self, message: SessionMessage, signed: SignedDocument | None) -> None:
        """Feeds a participant's verified message, `signed` if it may be kept; returns when its effect is stored.

        Raises:
            ConfideError: UNKNOWN_SESSION; DISK_FULL if it cannot store what follows; else what the machine says of the message.
        """
        self._find(message.session)
        self._put_and_wait(message.session, ev.Received(message), signed)

    def cancel(self, job_id: str) -> None:
        """Asks for a session's cancellation; its ending shows whether it came in time.

        Raises:
            ConfideError: UNKNOWN_SESSION, or CANCEL_TOO_LATE (the asker's fault); DISK_FULL (this party's operator's).
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
            if error.code is not ErrorCode.UNKNOWN_SESSION:
                raise
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"no job {job_id[:32]} is known here") from error
        return self._board.wait(job_id, revision=-1, timeout_s=0)

    def wait_for_change(self, job_id: str, *, revision: int, timeout_s: float) -> Status:
        """Returns the status once its revision is another one, or after the time."""
        return self._board.wait(job_id, revision=revision, timeout_s=timeout_s)

    # The loop's own thread.

    def _run(self) -> None:
        while True:
            try:
                item: _Item | None = self._queue.get(timeout=self._pause())
                if item is None:
                    return
            except queue.Empty:
                item = None
            try:
                if item is not None:
                    self._step(item)
                self._tick()
            except Exception as error:  # of this loop alone: the sessions' own failures are theirs; no session may end all
                with suppress(OSError):  # even the log may lie on a full disk
                    log_defect("", "loop", error)

    def _pause(self) -> float:
        now = time.time()
        times = [session.machine.next_deadline for session in list(self._open.values())]
        times += [self._slots.next_time(now), self._disk.next_time]
        soonest = min((t for t in times if t is not None), default=now + _IDLE_S)
        return min(_IDLE_S, max(0.0, soonest - now))

    def _tick(self) -> None:
        now = time.time()
        if self._disk.fails and now >= (self._disk.next_time or now) and self._disk.recovers():
            for session in list(self._open.values()):
                if session.asleep is not None:
                    self._step(_Item(session.job_id, ev.Recovered(session.asleep)))
        for job_id, session in list(self._open.items()):
            deadline = session.machine.next_deadline
            if deadline is not None and deadline <= now:
                self._step(_Item(job_id, ev.Tick()))
        while (granted := self._slots.grant(now)) is not None:
            self._step(_Item(granted.job_id, ev.SlotGranted(granted.ticket)))
        if now >= self._renew_at and self._slots.num_held:
            self._renew_at = now + RENEW_EVERY_S
            self._guard_storage(self._keeper.renew_leases)
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_EVERY_S
            self._lanes.work(self._guard_storage, lambda: results.drop_old_checkpoints(self._party))
        if now >= self._close_at:
            self._close_at = now + _CLOSE_EVERY_S
            self._close_unused()

    def _close_unused(self) -> None:
        with self._opening:
            for job_id in unused(self._open):
                del self._open[job_id]
                self._board.remove(job_id)

    def _step(self, item: _Item) -> None:
        session = self._open.get(item.job_id)
        if session is None:  # it was over long ago; whoever asks again opens it again
            return
        session.used = time.monotonic()
        if item.life is not None and item.life != session.life:
            return  # an answer to something that the session does not remember
        if (session.asleep is None) == isinstance(item.event, ev.Recovered):
            if item.done is not None:
                item.done.set_exception(ConfideError(ErrorCode.DISK_FULL, party=self._party.id))
            return
        try:
            todo = self._advance(session, item)
        except Exception as error:
            if item.done is not None:
                item.done.set_exception(error)
            elif not isinstance(error, ConfideError) or error.code is ErrorCode.INTERNAL:
                log_defect(item.job_id, type(item.event).__name__, error)
            return
        for action in todo:
            try:
                self._effects.perform(session, action)
            except Exception as error:  # one failed action must not end the loop of all sessions; this one has its deadlines
                log_defect(item.job_id, type(item.event).__name__, error)
        if item.done is not None:
            item.done.set_result(None)

    def _advance(self, session: OpenSession, item: _Item) -> tuple[act.Action, ...]:
        try:
            consent = self._keeper.consent(session.job, item.event, item.signed)
        except ConfideError as error:
            if error.code is ErrorCode.DISK_FULL:
                self._lay_down(session, error)
            raise
        asleep, session.asleep = session.asleep, None
        try:
            todo = session.machine.handle(item.event, time.time())  # if this raises, nothing has changed
        except Exception:
            session.asleep = asleep
            raise
        try:
            self._keeper.keep(session, item.event, todo, consent)
        except Exception as error:
            if not isinstance(error, ConfideError) or error.code is not ErrorCode.DISK_FULL:
                log_defect(session.job_id, type(item.event).__name__, error)
            failure = storage_error(error)
            self._lay_down(session, failure)
            raise failure from error
        return todo

    def _lay_down(self, session: OpenSession, error: ConfideError) -> None:
        work = session.go_back(self._party.id, because=ErrorCode.DISK_FULL)
        self._slots.forget(session.job_id)
        if work is not None:
            self._lanes.work(work.stop)
        self._board.update(session.job_id, state=session.machine.state)
        self._disk.failed(error)

    # Any thread.

    def _guard_storage(self, store: Callable[[], None]) -> None:
        try:
            store()
        except ConfideError as error:
            self.note_storage(error)

    def note_storage(self, error: ConfideError) -> None:
        """Stops serving for as long as nothing can be stored, if that is what failed."""
        if error.code is ErrorCode.DISK_FULL:
            self._disk.failed(error)

    def _measure(self, job_id: str, measured: Measured) -> None:
        self._board.update(job_id, measured=measured)

    def _tell(self, job_id: str, life: int, event: ev.Event) -> None:
        self._queue.put(_Item(job_id, event, life))

    def _put_and_wait(self, job_id: str, event: ev.Event, signed: SignedDocument | None = None) -> None:
        done: Future[None] = Future()
        self._queue.put(_Item(job_id, event, None, done, signed))
        try:
            done.result(timeout=_STORE_WITHIN_S)
        except TimeoutError as error:
            raise ConfideError(ErrorCode.PARTY_BUSY, "this party is too busy to take that in now") from error

    def _find(self, job_id: str) -> OpenSession:
        with self._opening:
            if job_id in self._open:
                self._open[job_id].used = time.monotonic()
                return self._open[job_id]
            with self._party.database.transaction() as tables:
                record = tables.jobs.find(job_id)
            if record is not None:
                return self._restore(record)
        raise ConfideError(ErrorCode.UNKNOWN_SESSION, f"session {job_id[:32]} is not known here")

    def _restore(self, record: JobRecord) -> OpenSession:
        session, shown = self._keeper.recall(record)
        self._adopt(session)
        self._board.update(record.job_id, **shown)
        self._tell(record.job_id, session.life, ev.Recovered())
        return session

    def _adopt(self, session: OpenSession) -> None:
        self._board.post(Status(session.job, session.machine.state))
        self._open[session.job_id] = session
