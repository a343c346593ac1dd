"""After a restart of the party process, or after a step that could not be stored.

What was remembered is restored; the worker and the slot are gone.
"""

from __future__ import annotations

from protocols.errors import ErrorCode
from protocols.session import actions as act
from protocols.session.agreement import request_slot
from protocols.session.deciding import look_for_majority
from protocols.session.messages import AskEnding
from protocols.session.reservation import ask_for_slot
from protocols.session.states import State
from protocols.session.turn import Turn
from protocols.session.voting import consider, fail


def recover_waiting(turn: Turn) -> None:
    """Goes on where nothing was reserved."""
    memory = turn.memory
    _wake(turn)
    if memory.state is State.PROPOSED and turn.me not in memory.digests:
        turn.do(act.CheckJob())
    elif memory.state is State.AGREED and turn.leads:
        request_slot(turn, 0.0)
    elif memory.asked_round:
        ask_for_slot(turn)
    consider(turn)


def recover_working(turn: Turn, cause: ErrorCode) -> None:
    """Confesses: the work cannot be taken up again under this attempt."""
    _wake(turn)
    if cause is ErrorCode.DISK_FULL:
        text = "the party could not store its state for a while"
    else:
        text = "the party process ended and started again"
    fail(turn, turn.report(cause, text, accused=turn.me))


def recover_ending(turn: Turn) -> None:
    """Asks everybody whether there is an ending; then goes on deciding, with an inquiry first."""
    memory = turn.memory
    _wake(turn)
    for party in turn.others:
        turn.say(party, AskEnding(0))
    if turn.leads and memory.accepted is not None:
        memory.decide_at = turn.now + turn.timing.grace_s
    consider(turn)


def recover_ended(turn: Turn) -> None:
    """Settles the outputs again if that is not known to be done, and goes on looking for a majority after ending alone."""
    memory = turn.memory
    if memory.ending is None:
        return
    if not memory.settled:
        turn.do(act.PublishOutputs() if memory.state is State.COMPLETED else act.DiscardOutputs())
        turn.do(act.Announce(memory.ending))
    if not memory.ending.by_majority:
        look_for_majority(turn)


def _wake(turn: Turn) -> None:
    """Nobody is presumed silent for the time in which this party was down."""
    memory = turn.memory
    memory.careful = True
    memory.watch_since = turn.now
    memory.poll_at = turn.now
