"""What one step of a session leaves in the database: all of it together, or nothing.

A step is stored before any of its actions is performed. If it cannot be stored, the loop takes the session back to the step
before, so machine and database never say different things.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from governance.audit.entries import EntryKind
from governance.budget.amounts import served
from governance.documents import DocumentKind, SignedDocument, sign
from parties.server.acceptance import record_arrival, record_refusal
from parties.server.board import Board, Measured
from parties.server.charges import charges_of
from parties.server.courier import Courier
from parties.server.intake import CheckedJob
from parties.server.opened import OpenSession, kept_session
from parties.server.party import Party
from parties.server.slots import Slots
from parties.server.terms import snapshot_text
from parties.storage.database import Tables
from parties.storage.jobs import CountersignatureRecord, JobRecord
from parties.storage.leases import LeaseRecord
from parties.storage.serving import Served
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session import actions as act
from protocols.session import events as ev
from protocols.session.messages import Countersignature, Ending, SessionMessage, Verdict

LEASE_FOR = timedelta(seconds=30)
RENEW_EVERY_S = 10.0
_log = structlog.get_logger()


class Keeper:
    """Stores steps; used by the session loop's thread."""

    def __init__(self, party: Party, courier: Courier, board: Board, slots: Slots, *, holder: str) -> None:
        """Takes what a step is made of; `holder` is the random id of this process, for its leases."""
        self._party = party
        self._courier = courier
        self._board = board
        self._slots = slots
        self._holder = holder

    def keep_new(self, session: OpenSession, checked: CheckedJob | ConfideError) -> bool:
        """Keeps a job that has reached this party, with its plan or the refusal that its check gave.

        Returns:
            Whether it was new; one that is kept already is left as it is.

        Raises:
            ConfideError: DISK_FULL (the operator's fault): nothing is stored.
        """
        job, papers, now = session.job, session.papers, self._party.now()
        record = JobRecord(
            job_id=job.job_id,
            querier=job.querier,
            document=papers.job.body,
            signature=papers.job.signature,
            initial_weights=papers.initial_weights or None,
            snapshot=session.stored,
            state=session.machine.state.value,
            created=now,
            updated=now,
        )
        with self._party.database.transaction() as tables:
            if tables.jobs.find(job.job_id) is not None:
                return False
            tables.jobs.add(record)
            record_arrival(self._party, tables, job)
            if isinstance(checked, CheckedJob):
                tables.jobs.add_plan(checked.record(job.job_id))
            else:
                record_refusal(self._party, tables, job, checked)
        return True

    def recall(self, record: JobRecord) -> tuple[OpenSession, dict[str, Any]]:
        """Makes a session from what is kept of it.

        Returns:
            The session, and what the board shows of it beside its state.
        """
        with self._party.database.transaction() as tables:
            ending, measured = tables.jobs.ending(record.job_id), tables.jobs.measured(record.job_id)
            plan = tables.jobs.plan(record.job_id)
            signers = tuple(known.party for known in tables.jobs.countersignatures(record.job_id))
        shown = {
            "ending": None if ending is None else SignedDocument.from_bytes(ending),
            "measured": Measured.from_text(measured) if measured else Measured(),
            "plan_digest": plan.digest if plan else "",
            "countersigned_by": signers,
        }
        return kept_session(record, party=self._party.id, memory_bytes=plan.memory_bytes if plan else 0), shown

    def note_refusal(self, job: Job, error: ConfideError) -> None:
        """Keeps that this party refuses a job, and why.

        Raises:
            ConfideError: DISK_FULL (the operator's fault).
        """
        with self._party.database.transaction() as tables:
            record_refusal(self._party, tables, job, error)

    def consent(self, job: Job, event: ev.Event, signed: SignedDocument | None) -> CountersignatureRecord | None:
        """Returns the countersignature that an event brings, this party's own or another's.

        Raises:
            ConfideError: BAD_SIGNATURE (that party's fault): it signed two different things; DISK_FULL (the operator's).
        """
        match event:
            case ev.JobAccepted(plan_digest=digest, manifest=manifest):
                own = self._courier.sign(
                    SessionMessage(job.job_id, job.attempt, self._party.id, Countersignature(digest, manifest))
                )
                record = CountersignatureRecord(job.job_id, self._party.id, digest, own.body, own.signature)
            case ev.Received(message=SessionMessage(body=Countersignature(plan_digest=digest))) if signed is not None:
                record = CountersignatureRecord(job.job_id, signed.signer, digest, signed.body, signed.signature)
            case _:
                return None
        with self._party.database.transaction() as tables:
            tables.jobs.check_countersignature(record)
        return record

    def keep(
        self, session: OpenSession, event: ev.Event, todo: Sequence[act.Action], consent: CountersignatureRecord | None
    ) -> None:
        """Stores a step that the session's machine has made, then shows it.

        Raises:
            ConfideError: DISK_FULL (the operator's fault): nothing is stored, and nothing of the step may be performed.
        """
        snapshot, ending = snapshot_text(session.machine), _ending(todo)
        spends = _spends(session.job, todo)
        if (snapshot, consent, ending) == (session.stored, None, None) and not _moves_lease(event, todo) and not spends:
            return
        signed = None if ending is None else self._sign(ending)
        with self._party.database.transaction() as tables:
            if consent is not None:
                tables.jobs.add_countersignature(consent)
            if snapshot != session.stored:
                state = session.machine.state.value
                tables.jobs.save_snapshot(session.job_id, snapshot=snapshot, state=state, now=self._party.now())
            self._keep_leases(tables, session, event, todo)
            if spends:
                tables.ledger.commit(session.job_id, self._party.now())
            if signed is not None:
                tables.jobs.put_ending(session.job_id, signed.to_bytes(), measured=self._measured(session.job_id).to_text())
            self._settle(tables, session, event, ending)
            signers = tuple(record.party for record in tables.jobs.countersignatures(session.job_id))
            plan = tables.jobs.plan(session.job_id)
        session.stored = snapshot
        session.memory_bytes = plan.memory_bytes if plan else 0
        self._show(session, signers, plan.digest if plan else "", signed)

    def take_over(self) -> None:
        """Ends the leases of every process that held the state folder before this one.

        Raises:
            ConfideError: DISK_FULL (the operator's fault): they end when they expire.
        """
        with self._party.database.transaction() as tables:
            tables.leases.release_all()

    def renew_leases(self) -> None:
        """Moves the end of this process's leases.

        Raises:
            ConfideError: DISK_FULL (the operator's fault).
        """
        with self._party.database.transaction() as tables:
            tables.leases.renew(self._holder, expires=self._party.now() + LEASE_FOR)

    def _keep_leases(self, tables: Tables, session: OpenSession, event: ev.Event, todo: Sequence[act.Action]) -> None:
        now = self._party.now()
        if isinstance(event, ev.Recovered):
            tables.leases.release_session(session.job_id)
        if isinstance(event, ev.SlotGranted) and self._slots.holds(session.claim(event.ticket)):
            need = session.applicant(self._party.id).need
            expires = now + LEASE_FOR
            lease = LeaseRecord(session.job_id, event.ticket, self._holder, need.cores, need.memory_bytes, expires)
            tables.leases.take(lease, now=now)
        for action in todo:
            if isinstance(action, act.ReleaseSlot):
                tables.leases.release(session.job_id, action.ticket)

    def _settle(self, tables: Tables, session: OpenSession, event: ev.Event, ending: Ending | None) -> None:
        """Debits with the vote that the job is done, before anything can be opened; gives back with any end but that."""
        vote, now = session.machine.vote, self._party.now()
        is_done = vote is not None and vote.verdict is Verdict.DONE
        if is_done and isinstance(event, ev.WorkerFinished):
            if session.job.serving is None:
                tables.ledger.commit(session.job_id, now)
            else:
                self._settle_serving(tables, session.job, now)
        if ending is None:
            return
        if not is_done and session.job.serving is not None:
            if not self._settle_serving(tables, session.job, now):
                tables.grants.give_back(session.job_id)
        elif not is_done:
            tables.ledger.refund(session.job_id, now)
            charged = charges_of(tables, session.job, self._party.id)
            # What was spent when the session began to run stays used; without charges there is nothing to spend.
            if not charged or not tables.ledger.is_committed(session.job_id, charged):
                tables.grants.give_back(session.job_id)
        facts = {"job": session.job_id, "state": ending.state.value, "code": ending.code, "decided_by": ending.decided_by}
        tables.audit.append(EntryKind.SESSION_ENDED, facts, now=now)

    def _settle_serving(self, tables: Tables, job: Job, now: datetime) -> int:
        """Spends what a serving answered and gives the rest back; returns how many queries that were.

        Without the participants' agreement on it, after a crash or an abort, everything that was let in here counts: an answer
        leaves only after its query was kept, so no more can have been opened.
        """
        used = tables.serving.used(job.job_id)
        if job.serving is not None:
            # A query that was refused, and not taken back yet, counts here; the quota bounds what can have been answered.
            used = Served(min(used.queries, job.serving.max_queries), min(used.num_rows, job.serving.max_rows))
        tables.ledger.settle(job.job_id, served(job, self._party.id, queries=used.queries, rows=used.num_rows), now)
        return used.queries

    def _sign(self, ending: Ending) -> SignedDocument:
        key = self._party.member.signing_key
        return sign(ending.to_document(), kind=DocumentKind.ENDING, signer=self._party.id, key=key)

    def _measured(self, job_id: str) -> Measured:
        shown = self._board.find(job_id)
        return Measured() if shown is None else shown.measured

    def _show(self, session: OpenSession, signers: tuple[str, ...], plan_digest: str, ending: SignedDocument | None) -> None:
        state, shown = session.machine.state, self._board.find(session.job_id)
        if shown is None or shown.state is not state:
            _log.info("session", job=session.job_id, state=state.value)
        changes = {} if ending is None else {"ending": ending}
        self._board.update(session.job_id, state=state, countersigned_by=signers, plan_digest=plan_digest, **changes)


def storage_error(error: Exception) -> ConfideError:
    """Returns why a step could not be stored, in the terms of the catalogue."""
    if isinstance(error, ConfideError) and error.code is ErrorCode.DISK_FULL:
        return error
    return ConfideError(ErrorCode.DISK_FULL, f"a step could not be stored: {type(error).__name__}")


def _ending(todo: Sequence[act.Action]) -> Ending | None:
    return next((action.ending for action in todo if isinstance(action, act.Announce)), None)


def _spends(job: Job, todo: Sequence[act.Action]) -> bool:
    """Says whether a step spends what a job has reserved, for good, before anything of it is performed.

    The owners of a private training share their noise as soon as the links are open, and a step may be opened at any time after
    that. Whoever saw it keeps it, so nothing is given back however the job ends.
    """
    is_private = job.training is not None and job.training.privacy is not None
    return is_private and any(isinstance(action, act.OpenLinks) for action in todo)


def _moves_lease(event: ev.Event, todo: Sequence[act.Action]) -> bool:
    return isinstance(event, ev.SlotGranted | ev.Recovered) or any(isinstance(action, act.ReleaseSlot) for action in todo)
