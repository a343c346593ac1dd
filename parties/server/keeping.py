"""What one step of a session leaves in the database: all of it together, or nothing.

A step is stored before any of its actions is performed. If it cannot be stored, the loop takes the session back to the step
before, so machine and database never say different things.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog

from governance.admission import exhausted_evaluations
from governance.documents import DocumentKind, SignedDocument, sign
from parties.server.board import Board, Measured
from parties.server.courier import Courier
from parties.server.opened import OpenSession
from parties.server.party import Party, past_evaluations
from parties.server.slots import Slots
from parties.server.terms import refusal, snapshot_text
from parties.storage.database import Tables
from parties.storage.jobs import CountersignatureRecord
from parties.storage.leases import LeaseRecord
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.session import actions as act
from protocols.session import events as ev
from protocols.session.messages import Countersignature, Ending, SessionMessage

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

    def vetted(self, job: Job, event: ev.Event) -> ev.Event:
        """Turns an acceptance into a refusal if an owner's limit was used up since the job was checked.

        Raises:
            ConfideError: DISK_FULL (the operator's fault).
        """
        if not isinstance(event, ev.JobAccepted) or job.job_type is not JobType.EVALUATE:
            return event
        with self._party.database.transaction() as tables:
            past = past_evaluations(self._party, tables, job)
        error = exhausted_evaluations(job, past, party=self._party.id, most=self._party.config.max_evaluations)
        return event if error is None else refusal(error)

    def consent(self, job: Job, event: ev.Event, signed: SignedDocument | None) -> CountersignatureRecord | None:
        """Returns the countersignature that an event brings, this party's own or another's.

        Raises:
            ConfideError: BAD_SIGNATURE (that party's fault): it signed two different things; DISK_FULL (the operator's).
        """
        match event:
            case ev.JobAccepted(plan_digest=digest):
                own = self._courier.sign(SessionMessage(job.job_id, job.attempt, self._party.id, Countersignature(digest)))
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
        if (snapshot, consent, ending) == (session.stored, None, None) and not _moves_lease(event, todo):
            return
        signed = None if ending is None else self._sign(ending)
        with self._party.database.transaction() as tables:
            if consent is not None:
                tables.jobs.add_countersignature(consent)
            if isinstance(event, ev.JobAccepted) and session.job.job_type is JobType.EVALUATE:
                self._debit(tables, session.job)
            if snapshot != session.stored:
                state = session.machine.state.value
                tables.jobs.save_snapshot(session.job_id, snapshot=snapshot, state=state, now=self._party.now())
            self._keep_leases(tables, session, event, todo)
            if signed is not None:
                tables.jobs.put_ending(session.job_id, signed.to_bytes(), measured=self._measured(session.job_id).to_text())
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

    def _debit(self, tables: Tables, job: Job) -> None:
        for dataset in job.datasets:
            if dataset.party == self._party.id and job.model_ref is not None:
                tables.evaluations.debit(dataset.name, dataset.version, job.model_ref, job_id=job.job_id)

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


def _moves_lease(event: ev.Event, todo: Sequence[act.Action]) -> bool:
    return isinstance(event, ev.SlotGranted | ev.Recovered) or any(isinstance(action, act.ReleaseSlot) for action in todo)
