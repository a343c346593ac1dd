"""Consent while a job waits and runs: what a party agreed to can end at any time, and then its part in the job ends too.

Once a second, if anything has changed in the database or a consent ends by the clock, the cascade runs and every session that
has not voted yet is checked again. One whose consent has ended is told so: it stops waiting at once, or computing at its next
step, at every participant. What has been computed is the release gate's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Event, Thread

import structlog

from governance.admission import Finding
from governance.identity.directory import Directory
from parties.server.cascade import Cascade
from parties.server.consents import consent_findings, ended_elsewhere, next_end
from parties.server.desk import Desks
from parties.server.party import Party
from parties.server.sessions import Sessions
from parties.server.terms import log_defect
from parties.storage.changes import ChangeWatch
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job
from protocols.session.messages import FailureReport
from protocols.session.states import State

PAUSE_S = 1.0
# A clock that was set, or a document that reads differently under a new directory, is noticed after this at the latest.
_AT_LEAST_EVERY = timedelta(seconds=15)
_WATCHED = frozenset({State.AGREED, State.PREPARING, State.PREPARED, State.RUNNING})
_log = structlog.get_logger()


class ConsentWatch:
    """Looks after the consents of a serving party, on a thread of its own."""

    def __init__(self, party: Party, sessions: Sessions, desks: Desks, *, pause_s: float = PAUSE_S) -> None:
        """Takes the party, the sessions that it tells, and the servings that operators may end."""
        self._party = party
        self._sessions = sessions
        self._desks = desks
        self._cascade = Cascade(party)
        self._changes = ChangeWatch(party.config.folder.database_file)
        self._pause_s = pause_s
        self._next: datetime | None = None
        self._directory: Directory | None = None
        self._states: dict[str, State] = {}
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="consents", daemon=True)

    def start(self) -> None:
        """Brings models up to what is known, before anybody may use them, then begins."""
        self._guarded(self.look)
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._changes.close()

    def look(self) -> None:
        """Looks once: whether anything has changed, and if so, what it ends."""
        now, directory = self._party.now(), self._party.directory
        states, changed = self._watched_states(), self._changes.has_changed()
        same = not changed and directory == self._directory and states == self._states
        if same and self._next is not None and now < self._next:
            return
        self._directory, self._states = directory, states
        self._desks.obey()
        ends = [now + _AT_LEAST_EVERY, self._cascade.run(now=now), *(self._check(job_id, now) for job_id in states)]
        self._next = min(end for end in ends if end is not None)

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s):
            self._guarded(self.look)

    def _guarded(self, look: Callable[[], None]) -> None:
        try:
            look()
        except Exception as error:  # consents must be looked after as long as the party serves
            self._next = None
            log_defect("", "consents", error)

    def _watched_states(self) -> dict[str, State]:
        shown = self._sessions.board.shown()
        return {status.job.job_id: status.state for status in shown if self._is_watched(status.job, status.state)}

    def _is_watched(self, job: Job, state: State) -> bool:
        if state is not State.PROPOSED:
            return state in _WATCHED
        # While a job is being checked, the check says everything at once; afterwards it may wait for days.
        with self._party.database.transaction() as tables:
            kept = tables.acceptances.find(job.job_id)
        return kept is not None and not kept.refused and (bool(kept.waiting_for) or kept.entry_index is not None)

    def _check(self, job_id: str, now: datetime) -> datetime | None:
        """Tells a session if its consent has ended; returns when it would end by the clock."""
        with self._party.database.transaction() as tables:
            record = tables.jobs.find(job_id)
            if record is None:
                return None
            job = Job.from_bytes(record.document)
            findings = (
                *consent_findings(self._party, tables, job, now),
                *ended_elsewhere(self._party, tables, job, now),
                *_querier(self._party.directory, job),
            )
            end = next_end(self._party, tables, job, now)
        if findings:
            _log.warning("consent_ended", job=job_id, code=findings[0].code.name, reasons=len(findings))
            self._sessions.end_consent(job_id, _report(self._party.id, findings, self._states[job_id]))
        return end


def _querier(directory: Directory, job: Job) -> tuple[Finding, ...]:
    try:
        directory.researcher(job.querier)
    except ConfideError as error:
        return (Finding(ErrorCode.NOT_ENROLLED, Problem("querier", error.what, "enrol again")),)
    return ()


def _report(party: str, findings: tuple[Finding, ...], phase: State) -> FailureReport:
    text = f"consent has ended, as {party} sees it: " + "; ".join(str(finding.problem) for finding in findings)
    return FailureReport(findings[0].code, phase, "", text)
