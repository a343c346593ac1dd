"""The worker's side of one session at this party: starts it, hears what it says, seals what it made.

Everything that a worker says becomes an event of the session's machine, with the number of the worker. Nothing here decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from threading import Event, Lock
from typing import Any

import structlog

from parties import defect
from parties.server.board import Measured
from parties.server.desk import Desk, Desks
from parties.server.disk import DiskWatch
from parties.server.execution import Execution, Task
from parties.server.party import Party
from parties.server.results import Sealed, seal_checkpoint, seal_results
from parties.server.workers import Template, failure
from parties.transport.peers import Peers
from parties.transport.streams import LinkTable
from parties.worker.channel import Parcel
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.timing import SegmentTiming
from protocols.plan.plan import Plan
from protocols.session import events as ev
from protocols.session.messages import FailureReport
from protocols.session.states import State

# Failures that this party can only have caused itself, so that it accuses itself.
_CONFESSIONS = frozenset(
    {
        ErrorCode.WORKER_LOST,
        ErrorCode.PARTY_RESTARTED,
        ErrorCode.DISK_FULL,
        ErrorCode.STATE_DAMAGED,
        ErrorCode.CHECKPOINT_DIFFERS,
        ErrorCode.INTERNAL,
        ErrorCode.SETUP_INCOMPLETE,
    }
)
_HEAD = re.compile(r"[0-9a-f]{64}")
_log = structlog.get_logger()


class Work:
    """One session's worker; its methods are called on pool threads, in any order."""

    def __init__(
        self,
        party: Party,
        task: Task,
        *,
        disk: DiskWatch,
        template: Template,
        links: LinkTable,
        peers: Peers,
        tell: Callable[[ev.Event], None],
        measure: Callable[[Measured], None],
        state: Callable[[], State],
        desks: Desks,
    ) -> None:
        self._party = party
        self._task = task
        self._disk = disk
        self._template = template
        self._links = links
        self._peers = peers
        self._tell = tell
        self._measure = measure
        self._state = state
        self._number = 0
        self._lock = Lock()
        self._started = Event()
        self._stopped = False
        self._execution: Execution | None = None
        self._desks = desks
        self._desk: Desk | None = None
        self._beats = 0

    def start(self, number: int) -> None:
        """Starts the worker process; may wait until the template has loaded its libraries."""
        self._number = number
        try:
            execution = Execution(self._party, self._task, template=self._template, links=self._links, peers=self._peers)
        except Exception as error:  # whatever it was: the session must end, not wait
            self._failed(self._reason(error))
        else:
            self._take(execution)
        finally:
            self._started.set()

    def open_links(self) -> None:
        """Gives the worker its task and joins its links to the peers, once it has started."""
        self._started.wait()
        if self._execution is None:
            return
        try:
            if self._task.job.serving is not None and not self._stopped:
                self._desk = self._desks.open(self._task.job, Plan.from_document(parse_canonical(self._task.plan)))
            self._execution.open_links(on_parcel=self._heard, on_lost=self._failed)
            if self._desk is not None:
                self._desk.connect(self._execution.say)
        except Exception as error:  # whatever it was: the session must end, not wait
            self._failed(self._reason(error))

    def stop(self) -> None:
        """Ends the worker; what it still says has no effect, and nothing is sealed any more. Safe to call again."""
        with self._lock:
            self._stopped = True
        self._started.set()  # a start that never comes must not be waited for
        if self._execution is not None:
            self._execution.stop()
        self._close_desk("the session has ended")

    def _close_desk(self, what: str, *, accused: str = "", remedy: str = "") -> None:
        if self._desk is not None:
            self._desk.close(what, accused=accused, remedy=remedy)
            self._desks.remove(self._desk)

    def _take(self, execution: Execution) -> None:
        with self._lock:
            if not self._stopped:
                self._execution = execution
                return
        execution.stop()

    def _reason(self, error: Exception) -> ConfideError:
        if isinstance(error, ConfideError):
            return error
        _log.error("defect", job=self._task.job.job_id, path=defect.path(error), error=type(error).__name__)
        return ConfideError(ErrorCode.INTERNAL, defect.place(error))

    def _heard(self, parcel: Parcel) -> None:
        header = parcel.header
        match header["event"]:
            case "prepared":
                self._tell(ev.WorkerPrepared(self._number))
                self._tell(ev.WorkerRunning(self._number))
            case "progress":
                self._measure(_measured(header))
                if self._desk is not None and self._desk.is_idle:
                    self._beats += 1  # it waits for queries, and has not stalled
                self._tell(ev.WorkerProgress(self._number, header["rounds"] + header["step"] + self._beats))
            case "serving" | "answer" | "refused" | "drained" if self._desk is not None:
                self._desk.heard(parcel)
            case "checkpoint":
                self._keep_checkpoint(parcel)
            case "finished":
                self._measure(_measured(header))
                self._seal(parcel)
            case _:
                self._failed(failure(parcel))

    def _seal(self, parcel: Parcel) -> None:
        plan = Plan.from_document(parse_canonical(self._task.plan))
        try:
            # Under the lock: results that are being destroyed must not appear after their destruction.
            with self._lock:
                if self._stopped:
                    return
                sealed = seal_results(self._party, self._task.job, plan, parcel)
        except ConfideError as error:
            if error.code is ErrorCode.DISK_FULL:
                self._disk.failed(error)
            self._failed(error)
        except OSError as error:
            self._failed(ConfideError(ErrorCode.WORKER_LOST, f"results cannot be kept: {error.strerror}"))
        else:
            self._tell(ev.WorkerFinished(self._number, sealed.commitments) if not sealed.withheld else self._withheld(sealed))

    def _withheld(self, sealed: Sealed) -> ev.OutputWithheld:
        text = "; ".join(str(reason) for reason in sealed.withheld)
        return ev.OutputWithheld(self._number, FailureReport(ErrorCode.RELEASE_WITHHELD, State.RELEASING, "", text))

    def _keep_checkpoint(self, parcel: Parcel) -> None:
        run, head = parcel.header["run"], parcel.header["head"]
        if type(run) is not int or not isinstance(head, str) or not _HEAD.fullmatch(head):
            raise ConfideError(ErrorCode.INTERNAL, "a checkpoint is not one")  # ends the session
        job = self._task.job
        try:
            with self._lock:  # as in `_seal`
                if not self._stopped:
                    seal_checkpoint(self._party, job, run=run, head=head, state=parcel.blobs["state"])
        except ConfideError as error:  # the training goes on: without this one, a resumption loses more, and nothing else
            _log.warning("checkpoint_lost", job=job.job_id, code=error.code.name, what=error.what)
            if error.code is ErrorCode.DISK_FULL:
                self._disk.failed(error)

    def _failed(self, error: ConfideError) -> None:
        accused = error.party or (self._party.id if error.code in _CONFESSIONS else "")
        self._close_desk(f"the session has failed: {error.what}", accused=accused, remedy=error.remedy)
        if self._stopped:  # a worker that was ended on purpose is not lost; an operator must not look for it
            return
        _log.warning("work_failed", job=self._task.job.job_id, code=error.code.name, what=error.what, accused=accused)
        self._tell(ev.WorkerFailed(self._number, FailureReport(error.code, self._state(), accused, error.what)))


def _measured(header: Mapping[str, Any]) -> Measured:
    return Measured(
        phase=header["phase"],
        step=header["step"],
        steps=header["steps"],
        rounds=header["rounds"],
        payload_bytes=header["payload_bytes"],
        frame_bytes=header["frame_bytes"],
        sent_bytes=header["sent_bytes"],
        received_bytes=header["received_bytes"],
        elapsed_ms=header["elapsed_ms"],
        memory_bytes=header["memory_bytes"],
        timing=tuple(SegmentTiming.from_document(entry) for entry in header.get("timing", ())),
    )
