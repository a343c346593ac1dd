"""Performs what a session's machine asks for; whatever takes time happens on other threads and comes back as an event."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from random import SystemRandom
from typing import TypeAlias

import structlog

from parties.server import results
from parties.server.board import Measured
from parties.server.courier import Courier, Outcome
from parties.server.desk import Desks
from parties.server.disk import DiskWatch
from parties.server.execution import Task
from parties.server.intake import CheckedJob
from parties.server.lanes import Lanes
from parties.server.opened import OpenSession
from parties.server.party import Party
from parties.server.slots import Slots
from parties.server.terms import log_defect, refusal
from parties.server.work import Work
from parties.server.workers import Template
from parties.transport.peers import Peers
from parties.transport.streams import LinkTable
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session import actions as act
from protocols.session import events as ev
from protocols.session.messages import Ending
from protocols.session.states import State

_SETTLE_AGAIN_S = 2.0
Accept: TypeAlias = "Callable[[Job, Callable[[ev.Event], None]], None]"
_log = structlog.get_logger()


class Effects:
    """Performs actions; `perform` is called by the session loop's thread."""

    def __init__(
        self,
        party: Party,
        *,
        courier: Courier,
        lanes: Lanes,
        slots: Slots,
        disk: DiskWatch,
        peers: Peers,
        links: LinkTable,
        template: Template,
        check: Callable[[Job], CheckedJob],
        accept: Accept,
        tell: Callable[[str, int, ev.Event], None],
        measure: Callable[[str, Measured], None],
        desks: Desks,
    ) -> None:
        """Takes what actions act upon; `tell` takes a session, its life and an event for it."""
        self._party = party
        self._courier = courier
        self._lanes = lanes
        self._slots = slots
        self._disk = disk
        self._peers = peers
        self._links = links
        self._template = template
        self._check = check
        self._accept = accept
        self._tell = tell
        self._measure = measure
        self._desks = desks
        self._random = SystemRandom()

    def perform(self, session: OpenSession, action: act.Action) -> None:
        """Does one thing, or begins it."""
        tell = partial(self._tell, session.job_id, session.life)
        match action:
            case act.Send():
                self._lanes.send(action.to, self._send, session, action, tell)
            case act.CheckJob():
                self._lanes.work(self._check_again, session, tell)
            case act.RequestSlot() | act.TrySlot() | act.ReleaseSlot():
                self._move_slot(session, action, tell)
            case act.StartWorker(number=number):
                session.work = self._work(session, tell)
                self._lanes.work(session.work.start, number)
            case act.OpenLinks():
                if session.work is not None:
                    self._lanes.work(session.work.open_links)
            case act.StopWorker():
                if session.work is not None:
                    self._lanes.work(session.work.stop)
            case act.PublishOutputs():
                self._lanes.work(self._settle, session, results.publish, tell)
            case act.DiscardOutputs():
                self._lanes.work(self._settle, session, results.discard, tell)
            case act.Announce(ending=ending):
                self._announce(session, ending)

    def accept(self, session: OpenSession) -> None:
        """Takes a job whose plan is kept to this party's answer, which comes back as an event."""
        self._accept(session.job, partial(self._tell, session.job_id, session.life))

    def _move_slot(
        self, session: OpenSession, action: act.RequestSlot | act.TrySlot | act.ReleaseSlot, tell: Callable[[ev.Event], None]
    ) -> None:
        claim, now = session.claim(action.ticket), time.time()
        match action:
            case act.RequestSlot(backoff_s=backoff):
                not_before = now + backoff * self._random.uniform(1, 2)
                self._slots.request(claim, session.applicant(self._party.id), now=now, not_before=not_before)
            case act.TrySlot(ticket=ticket):
                granted = self._slots.attempt(claim, session.applicant(self._party.id), now=now)
                tell(ev.SlotGranted(ticket) if granted else ev.SlotBusy(ticket))
            case act.ReleaseSlot():
                self._slots.release(claim)

    def _work(self, session: OpenSession, tell: Callable[[ev.Event], None]) -> Work:
        with self._party.database.transaction() as tables:
            plan = tables.jobs.plan(session.job_id)
        return Work(
            self._party,
            Task(session.job, plan.document if plan else b"", session.papers.initial_weights, session.query_share),
            disk=self._disk,
            template=self._template,
            links=self._links,
            peers=self._peers,
            tell=tell,
            measure=partial(self._measure, session.job_id),
            state=lambda: session.machine.state,
            desks=self._desks,
        )

    def _announce(self, session: OpenSession, ending: Ending) -> None:
        session.query_share = None  # nobody needs it any more
        self._slots.forget(session.job_id)
        _log.info("ended", job=session.job_id, state=ending.state.value, code=ending.code, at_fault=ending.at_fault)
        if ending.state is not State.ABORTED:  # it may have been that before, and then its checkpoints are still there
            self._lanes.work(self._drop_checkpoints, session)

    # Other threads.

    def _send(self, session: OpenSession, action: act.Send, tell: Callable[[ev.Event], None]) -> None:
        papers = session.papers if action.attach_job else None
        try:
            outcome = self._courier.send(action.message, to=action.to, papers=papers)
        except Exception as error:  # for example a channel that is being closed; the machine must hear of every message
            log_defect(session.job_id, "Send", error)
            outcome = Outcome.FAILED
        if outcome is Outcome.STORED:
            tell(ev.Delivered(action.to, action.token))
        else:
            tell(ev.Undelivered(action.to, action.token, needs_job=outcome is Outcome.UNKNOWN_SESSION))

    def _check_again(self, session: OpenSession, tell: Callable[[ev.Event], None]) -> None:
        try:
            checked = self._check(session.job)
            with self._party.database.transaction() as tables:
                tables.jobs.add_plan(checked.record(session.job_id))
        except ConfideError as error:
            self._note_storage(error)
            tell(refusal(error))
        except Exception as error:  # a job whose check fails in any way is not accepted
            log_defect(session.job_id, "CheckJob", error)
            tell(refusal(ConfideError(ErrorCode.INTERNAL)))
        else:
            self._accept(session.job, tell)

    def _settle(self, session: OpenSession, settle: Callable[[Party, Job], None], tell: Callable[[ev.Event], None]) -> None:
        work, session.work = session.work, None  # and with it the query's share
        if work is not None:
            work.stop()  # first, so that nothing is sealed any more
        try:
            settle(self._party, session.job)
        except Exception as error:  # nothing is released meanwhile; the machine asks again after a restart
            if isinstance(error, ConfideError) and error.code is ErrorCode.DISK_FULL:
                self._note_storage(error)
                self._lanes.later(_SETTLE_AGAIN_S, self._settle, session, settle, tell)
            else:
                log_defect(session.job_id, settle.__name__, error)
            return
        tell(ev.OutputsSettled())
        if session.machine.state is not State.ABORTED:
            self._drop_checkpoints(session)

    def _drop_checkpoints(self, session: OpenSession) -> None:
        completed = session.machine.state is State.COMPLETED
        try:
            results.drop_checkpoints(self._party, session.job, completed=completed)
        except ConfideError as error:  # they go with their retention
            self._note_storage(error)

    def _note_storage(self, error: ConfideError) -> None:
        if error.code is ErrorCode.DISK_FULL:
            self._disk.failed(error)
