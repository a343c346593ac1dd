"""Everybody's slot or nobody's: how the lead reserves one worker slot at every participant.

A party has room for so many sessions. Two leads can want the same room; then somebody answers busy, both give everything
back and try again after a random wait (drawn by the runner), so that they neither deadlock nor collide for ever.
"""

from __future__ import annotations

from protocols.session import actions as act
from protocols.session.agreement import request_slot
from protocols.session.deciding import stop_work
from protocols.session.messages import Prepare, PrepareReply, Release, Start
from protocols.session.states import State
from protocols.session.turn import Turn


def take_slot(turn: Turn, ticket: int) -> None:
    """The local slot is reserved: the lead asks the others, the others start their worker and say so."""
    memory = turn.memory
    if ticket != memory.ticket:
        return
    if turn.leads:
        if memory.failing_since is not None:  # the session is about to end; nobody should start a worker for it
            stop_work(turn)
            return
        memory.round += 1
        memory.granted = {turn.me}
        for party in turn.others:
            turn.ask(party, Prepare(memory.round))
    else:
        memory.round, memory.asked_round = memory.asked_round, 0
        _say_granted(turn)
    memory.opened = False
    memory.worker += 1
    memory.works = True
    memory.worker_heard_at = memory.stepped_at = turn.now
    memory.step = -1
    turn.go(State.PREPARING)
    turn.do(act.StartWorker(memory.worker))


def be_busy(turn: Turn, ticket: int) -> None:
    """The local slot is taken: the lead must try again later."""
    memory = turn.memory
    if ticket == memory.ticket and memory.asked_round:
        turn.post(turn.spec.lead, PrepareReply(memory.asked_round, granted=False))
        memory.asked_round = memory.ticket = 0


def prepare_later(turn: Turn, sender: str, body: Prepare) -> None:
    """Not agreed here yet: a countersignature is still on its way."""
    _check_lead(turn, sender)
    turn.post(sender, PrepareReply(body.round, granted=False))
    turn.memory.seen_round = max(turn.memory.seen_round, body.round)


def try_slot(turn: Turn, sender: str, body: Prepare) -> None:
    """Tries to reserve the slot for a new round."""
    memory = turn.memory
    _check_lead(turn, sender)
    if body.round <= memory.seen_round:
        return
    memory.seen_round = memory.asked_round = body.round
    if not memory.ticket:  # else an answer for the round before is still on its way, and serves this one
        ask_for_slot(turn)


def ask_for_slot(turn: Turn) -> None:
    """Asks the runner for the slot, for the round under way."""
    memory = turn.memory
    memory.tickets += 1
    memory.ticket = memory.tickets
    turn.do(act.TrySlot(memory.ticket))


def prepare_again(turn: Turn, sender: str, body: Prepare) -> None:
    """The answer was lost, or the release of the last round was: the slot and the fresh worker serve the new one."""
    memory = turn.memory
    _check_lead(turn, sender)
    if body.round >= memory.round and not memory.opened:
        if body.round > memory.round:
            memory.entered_at = turn.now
        memory.round = memory.seen_round = body.round
        _say_granted(turn)


def count_reservation(turn: Turn, sender: str, body: PrepareReply) -> None:
    """Lead: starts when everybody has reserved; when somebody is busy, gives everything back and tries again later."""
    memory = turn.memory
    if not turn.leads or body.round != memory.round or memory.opened:
        return
    memory.outbox.drop(Prepare, to=sender)
    if not body.granted:
        memory.outbox.drop(Prepare)
        for party in turn.others:
            turn.post(party, Release(memory.round))
        stop_work(turn)
        turn.go(State.AGREED)
        timing = turn.timing
        request_slot(turn, min(timing.slot_backoff_most_s, timing.slot_backoff_s * 2**memory.refusals))
        memory.refusals = min(memory.refusals + 1, 16)
        return
    memory.granted.add(sender)
    if len(memory.granted) == len(turn.spec.participants) and memory.failing_since is None:
        memory.opened = True
        turn.do(act.OpenLinks(memory.worker))
        for party in turn.others:
            turn.post(party, Start(memory.round))


def release_slot(turn: Turn, sender: str, body: Release) -> None:
    """Gives back the slot of this round and waits for the next."""
    memory = turn.memory
    _check_lead(turn, sender)
    memory.seen_round = max(memory.seen_round, body.round)
    if memory.state is State.AGREED and 0 < memory.asked_round <= body.round:
        memory.asked_round = 0
        stop_work(turn)
    elif memory.state is State.PREPARING and memory.round <= body.round and not memory.opened:
        memory.outbox.drop(PrepareReply)
        stop_work(turn)
        turn.go(State.AGREED)


def open_links(turn: Turn, sender: str, body: Start) -> None:
    """Everybody has reserved: the worker may open its links."""
    memory = turn.memory
    _check_lead(turn, sender)
    if body.round == memory.round and not memory.opened:
        memory.opened = True
        turn.do(act.OpenLinks(memory.worker))


def _say_granted(turn: Turn) -> None:
    turn.post(turn.spec.lead, PrepareReply(turn.memory.round, granted=True))


def _check_lead(turn: Turn, sender: str) -> None:
    turn.demand(sender == turn.spec.lead and not turn.leads, sender, "only the lead orders reservations")
