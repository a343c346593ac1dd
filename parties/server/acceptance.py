"""From a checked job to this party's countersignature: the one path, and the only place where consent is given.

    reasons    admission, consent, budgets, policy; all of them at once, or the job is refused
    people     if the policy asks them, the job waits; the command that takes their approvals is another process
    decision   in one transaction: budget reserved, grants counted, COUNTERSIGNED appended to the audit log
    witnesses  a checkpoint over that entry, cosigned by every other participant of the job
    answer     JobAccepted with the plan's digest and the proof; the session countersigns with both

The decision is durable before anything is shown, and every step finds what an earlier process left: a crash anywhere, a second
submission and a word of a faster participant lead to one reservation, one use of each grant and one entry. One thread works on
all jobs; it waits for nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Condition, Thread

import structlog

from governance.audit.entries import EntryKind, Fact
from governance.audit.manifest import Manifest, ManifestProof, verify_manifest
from parties.server.approvals import Standing, note_standing, standing
from parties.server.budgets import note_budget_refusal, reserve_budget
from parties.server.consents import grants_used
from parties.server.party import Party
from parties.server.policy import note_policy
from parties.server.reasons import JobRefusal, codes_of, reasons, warm_reasons
from parties.server.terms import log_defect, refusal
from parties.server.witnessing import Witnessing
from parties.storage.acceptances import AcceptanceRecord
from parties.storage.database import Tables
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session import events as ev
from protocols.session.messages import Countersignature, SessionMessage
from protocols.session.states import State

# The refusal must reach the others before the time by which all have to agree.
REFUSE_BEFORE = timedelta(seconds=3)
WATCH_EVERY_S = 1.0
LOOK_AGAIN_S = 30.0  # at what no approval and no policy changed: a grant may have ended, a budget may have been spent
_AFTER_FULL_DISK_S = 2.0
_log = structlog.get_logger()


@dataclass
class _Pursuit:
    """A job on its way; `seen` is what the last look at its approvals rested on."""

    job: Job
    tell: Callable[[ev.Event], None]
    due: float = 0.0
    seen: tuple[int, str] | None = None
    look_again: float = 0.0
    shown: str = ""
    began: float = field(default_factory=time.monotonic)


class Acceptance:
    """See the module. Public methods may be called from any thread."""

    def __init__(
        self,
        party: Party,
        witnessing: Witnessing,
        *,
        show: Callable[[str, str], None],
        storage_failed: Callable[[ConfideError], None],
    ) -> None:
        """Takes the party and its witnesses.

        Args:
            party: this party.
            witnessing: who has its checkpoints cosigned; it is told of every job that waits for that.
            show: told for what a job waits, in words, and the empty text when it waits no longer.
            storage_failed: told when the database takes nothing.
        """
        self._party = party
        self._witnessing = witnessing
        self._show = show
        self._storage_failed = storage_failed
        self._changed = Condition()
        self._woken = False
        self._stopped = False
        self._pursuits: dict[str, _Pursuit] = {}
        self._thread = Thread(target=self._run, name="acceptance", daemon=True)
        witnessing.listen(self.wake)

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; what was decided is durable, and the next process goes on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Looks at every job now."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def pursue(self, job: Job, tell: Callable[[ev.Event], None]) -> None:
        """Takes a job whose plan has been derived and kept; `tell` is called once, with JobAccepted or JobRefused.

        A job that is pursued already goes on, and only the later `tell` is called.
        """
        with self._changed:
            self._pursuits[job.job_id] = _Pursuit(job, tell)
            self._woken = True
            self._changed.notify_all()

    # The thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._stopped and not self._woken:
                    self._changed.wait(WATCH_EVERY_S)
                if self._stopped:
                    return
                self._woken = False
                pursuits = list(self._pursuits.values())
            now = time.monotonic()
            for pursuit in pursuits:
                if pursuit.due <= now:
                    self._go_on(pursuit)

    def _go_on(self, pursuit: _Pursuit) -> None:
        job_id = pursuit.job.job_id
        try:
            event = self._step(pursuit)
        except ConfideError as error:
            if error.code is ErrorCode.DISK_FULL:
                self._storage_failed(error)
                pursuit.due = time.monotonic() + _AFTER_FULL_DISK_S
                return
            event = self._refuse(pursuit.job, error)
        except Exception as error:  # a job whose check fails in any way is not accepted
            log_defect(job_id, "acceptance", error)
            event = self._refuse(pursuit.job, ConfideError(ErrorCode.INTERNAL))
        if event is not None:
            self._drop(pursuit)
            pursuit.tell(event)

    def _drop(self, pursuit: _Pursuit) -> None:
        job_id = pursuit.job.job_id
        with self._changed:
            if self._pursuits.get(job_id) is pursuit:
                del self._pursuits[job_id]
                self._witnessing.forget(job_id)
        self._show_waiting(pursuit, "")

    def _show_waiting(self, pursuit: _Pursuit, what: str) -> None:
        if pursuit.shown != what:
            pursuit.shown = what
            self._show(pursuit.job.job_id, what)

    def _step(self, pursuit: _Pursuit) -> ev.Event | None:
        """Does what can be done now; returns the answer if there is one.

        Raises:
            ConfideError: the refusal; DISK_FULL (the operator's fault): try again.
        """
        job, party, now = pursuit.job, self._party, self._party.now()
        if self._witnessing.halted is not None:
            raise self._witnessing.halted
        with party.database.transaction() as tables:
            state = tables.jobs.state(job.job_id)
            kept = tables.acceptances.find(job.job_id)
        if state != State.PROPOSED.value:  # it ended meanwhile, whatever this party would have said
            self._drop(pursuit)
            return None
        if kept is not None and kept.refused:  # the process ended before its session had stored that: the log says it already
            what = "this party has refused the job before, as its audit log says"
            raise ConfideError(ErrorCode[kept.refused.split()[0]], what, party=party.id)
        late = now > job.agree_by - REFUSE_BEFORE
        if kept is None or kept.entry_index is None:
            kept = self._decide(pursuit)
            if kept is None:
                return None
            if kept.entry_index is None:
                if late:
                    raise ConfideError(ErrorCode.APPROVAL_PENDING, f"nobody approved in time: {kept.waiting_for}", party=party.id)
                self._show_waiting(pursuit, kept.waiting_for)
                return None
        self._show_waiting(pursuit, "")
        others = [participant for participant in job.participants if participant != party.id]
        manifest = self._proof(kept.entry_index, others)
        if manifest is not None:
            _log.info("consented", job=job.job_id, after_s=round(time.monotonic() - pursuit.began, 3))
            return ev.JobAccepted(kept.plan_digest, manifest)
        if late:
            missing = self._witnessing.missing(kept.entry_index, others, now=now)
            what = f"the audit log of {party.id} was not cosigned in time by {', '.join(missing) or 'all at once'}"
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE, what, party=missing[0] if missing else "")
        self._witnessing.want(job.job_id, others)
        return None

    def _decide(self, pursuit: _Pursuit) -> AcceptanceRecord | None:
        """Gives consent, or finds that people have still to approve; None if the session has ended meanwhile.

        Raises:
            ConfideError: the refusal, with all reasons.
        """
        job, party, now = pursuit.job, self._party, self._party.now()
        warm_reasons(party, job)  # a process that began after the job was checked has derived nothing yet
        with party.database.transaction() as tables:
            if tables.jobs.state(job.job_id) != State.PROPOSED.value:
                return None  # what its end gave back is not taken again
            plan = tables.jobs.plan(job.job_id)
            kept = tables.acceptances.find(job.job_id)
            if plan is None:
                raise ConfideError(ErrorCode.INTERNAL, "a job without a plan is not countersigned")
            seen = (tables.approvals.count(), party.policy.digest)
            if kept is not None and kept.waiting_for and pursuit.seen == seen and time.monotonic() < pursuit.look_again:
                return kept
            against = reasons(party, tables, job, plan=plan.document, now=now)
            if against:
                raise JobRefusal(against, party=party.id)
            found = standing(party, tables, job, plan.document)
            note_standing(party, tables, job, plan.document, found, now=now)
            made = AcceptanceRecord(job.job_id, plan.digest, rule=found.decision.rule, waiting_for=found.waiting_for)
            if found.may_go_on:
                made = _countersign(party, tables, job, found, made)
            tables.acceptances.put(made)
        pursuit.seen, pursuit.look_again = seen, time.monotonic() + LOOK_AGAIN_S
        return made

    def _proof(self, index: int, witnesses: list[str]) -> str | None:
        checkpoint = self._witnessing.cosigned(index, witnesses, now=self._party.now())
        if checkpoint is None:
            return None
        with self._party.database.transaction() as tables:
            entry = tables.audit.entry(index)
            proof = tables.audit.inclusion(index, checkpoint.size)
        return ManifestProof(entry.body, index, checkpoint.size, proof, checkpoint.cosigned_note).to_text()

    def _refuse(self, job: Job, error: ConfideError) -> ev.JobRefused:
        with suppress(ConfideError), self._party.database.transaction() as tables:  # a full disk: the session says it anyway
            record_refusal(self._party, tables, job, error)
        return refusal(error)


def record_arrival(party: Party, tables: Tables, job: Job) -> None:
    """Appends that a job has reached this party, in the transaction that keeps it."""
    facts: dict[str, Fact] = {
        "job": job.job_id,
        "job_digest": job.digest,
        "job_type": job.job_type.value,
        "querier": job.querier,
        "agreement": job.agreement,
    }
    tables.audit.append(EntryKind.JOB_RECEIVED, facts, now=party.now())


def record_refusal(party: Party, tables: Tables, job: Job, error: ConfideError) -> None:
    """Appends that this party refuses a job, once, with the codes of all reasons, and keeps that."""
    kept = tables.acceptances.find(job.job_id) or AcceptanceRecord(job.job_id, "")
    if kept.refused:
        return
    codes, now = codes_of(error), party.now()
    note_policy(tables, party.policy, now=now)
    facts: dict[str, Fact] = {"job": job.job_id, "codes": list(codes), "accused": error.party}
    tables.audit.append(EntryKind.JOB_REFUSED, facts, now=now)
    if ErrorCode.BUDGET_EXHAUSTED.name in codes and error.party in ("", party.id):
        note_budget_refusal(party, tables, job, now)
    tables.acceptances.put(
        AcceptanceRecord(job.job_id, kept.plan_digest, rule=kept.rule, entry_index=kept.entry_index, refused=" ".join(codes))
    )


def check_consent(party: Party, job: Job, message: SessionMessage) -> None:
    """Checks the consent of another participant before its countersignature counts.

    Raises:
        ConfideError: NOT_LOGGED (that party's fault), with every problem.
    """
    if not isinstance(message.body, Countersignature):
        return
    verify_manifest(
        message.body.manifest,
        party=message.sender,
        job=job,
        plan_digest=message.body.plan_digest,
        directory=party.directory,
        witnesses=[participant for participant in job.participants if participant != message.sender],
        now=party.now(),
    )


def _countersign(party: Party, tables: Tables, job: Job, found: Standing, made: AcceptanceRecord) -> AcceptanceRecord:
    now = party.now()
    reserve_budget(party, tables, job, now)
    used = grants_used(party, tables, job, now)
    for grant in used:
        tables.grants.use(grant.grant_id, job.job_id)
    manifest = Manifest(
        party=party.id,
        job_id=job.job_id,
        job_digest=job.digest,
        plan_digest=made.plan_digest,
        grants=used,
        rule=found.decision.rule,
        approvals=found.approvals,
    )
    if job.query_commitment is not None and job.model_ref is not None:
        query: dict[str, Fact] = {"job": job.job_id, "model": job.model_ref.label, "rows": job.query_rows}
        tables.audit.append(EntryKind.QUERY, {**query, "commitment": job.query_commitment}, now=now)
    entry = tables.audit.append(EntryKind.COUNTERSIGNED, manifest.to_facts(), now=now)
    return AcceptanceRecord(job.job_id, made.plan_digest, rule=made.rule, entry_index=entry.index)
