"""What the worker reports. A word of an earlier worker has no effect."""

from __future__ import annotations

from protocols.errors import ConfideError, ErrorCode
from protocols.session import events as on
from protocols.session.messages import Verdict, Vote
from protocols.session.states import State
from protocols.session.turn import Turn
from protocols.session.voting import fail, release


def note_prepared(turn: Turn, event: on.WorkerPrepared) -> None:
    """Links are authenticated and plan digests equal."""
    if _is_current(turn, event.number) and turn.memory.opened:
        turn.go(State.PREPARED)


def note_running(turn: Turn, event: on.WorkerRunning) -> None:
    """The worker computes."""
    if _is_current(turn, event.number):
        turn.go(State.RUNNING)


def note_progress(turn: Turn, event: on.WorkerProgress) -> None:
    """The worker lives; the step tells whether it also gets on."""
    if _is_current(turn, event.number) and event.step > turn.memory.step:
        turn.memory.step = event.step
        turn.memory.stepped_at = turn.now


def vote_done(turn: Turn, event: on.WorkerFinished) -> None:
    """The outputs are sealed; the vote says which shares.

    Raises:
        ConfideError: INTERNAL (ours): not one commitment to each output.
    """
    if set(event.commitments) != turn.spec.committed_by(turn.me):
        raise ConfideError(ErrorCode.INTERNAL, "a computing party commits to its share of each output, the others to none")
    if _is_current(turn, event.number):
        release(turn, Vote(Verdict.DONE, None, event.commitments))


def vote_withheld(turn: Turn, event: on.OutputWithheld) -> None:
    """The local release step withholds the outputs."""
    if _is_current(turn, event.number):
        release(turn, Vote(Verdict.WITHHELD, event.report, {}))


def vote_failed(turn: Turn, event: on.WorkerFailed) -> None:
    """The worker failed or is gone."""
    if _is_current(turn, event.number):
        fail(turn, event.report)


def _is_current(turn: Turn, number: int) -> bool:
    memory = turn.memory
    if number != memory.worker or not memory.works:
        return False
    memory.worker_heard_at = turn.now
    return True
