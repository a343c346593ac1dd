"""Everything that happens because time passes: each timer of a session is one line of `timers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from protocols.errors import ErrorCode
from protocols.session import deciding
from protocols.session.memory import BallotPhase
from protocols.session.messages import AskEnding
from protocols.session.outbox import Letter
from protocols.session.states import State
from protocols.session.turn import Turn
from protocols.session.voting import fail, find_silent, note_failure

_WATCHED = frozenset({State.AGREED, State.PREPARING, State.PREPARED, State.RUNNING, State.RELEASING})


@dataclass(frozen=True)
class Timer:
    """Something to do at a Unix time in seconds; doing it moves or removes the timer."""

    due: float
    act: Callable[[Turn], None]


def timers(turn: Turn) -> Iterator[Timer]:
    """Yields all timers that run now."""
    memory = turn.memory
    if memory.state.is_terminal:
        if memory.alone_poll_at is not None:
            yield Timer(memory.alone_poll_at, _poll_alone)
        return
    for letter in memory.outbox.letters:
        yield Timer(letter.due, _resend(letter))
    yield from _limits(turn)
    yield from _watch(turn)
    if memory.decide_at is not None:
        yield Timer(memory.decide_at, deciding.decide)
    if memory.ballot_phase is BallotPhase.ASKING:
        yield Timer(memory.ask_until, deciding.close_inquiry)
    if memory.seeking_since is not None:
        yield Timer(memory.alone_check_at, _check_alone)


def keep_time(turn: Turn) -> None:
    """Does everything that is due, the earliest first."""
    for _ in range(1_000):
        due = min((timer for timer in timers(turn) if timer.due <= turn.now), key=lambda timer: timer.due, default=None)
        if due is None:
            return
        due.act(turn)


def _limits(turn: Turn) -> Iterator[Timer]:
    """Deadlines of the state."""
    memory, timing = turn.memory, turn.timing
    match memory.state:
        case State.PROPOSED:
            yield Timer(turn.spec.agree_by, _expire)
        case State.AGREED:
            yield Timer(turn.spec.start_by, _expire)
        case State.PREPARING:
            yield Timer(memory.entered_at + timing.prepare_timeout_s, _fail_preparing)
        case State.PREPARED | State.RUNNING:
            yield Timer(memory.worker_heard_at + timing.worker_silence_s, _fail_worker)
            yield Timer(memory.stepped_at + timing.stall_timeout_s, _fail_stalled)
        case State.STOPPING:
            yield Timer(memory.entered_at + timing.stop_limit_s, deciding.end_alone)
        case _:
            pass  # RELEASING is bounded by the watch over the lead, and then by the doubt limit


def _watch(turn: Turn) -> Iterator[Timer]:
    """Signs of life: the others ask the lead regularly, and each side notices when the other falls silent."""
    memory, timing = turn.memory, turn.timing
    if turn.leads:
        if memory.state in _WATCHED and memory.accepted is None:
            for party in turn.others:
                if party not in memory.findings:
                    yield Timer(turn.last_heard(party) + timing.silence_s, _presume_gone(party))
        return
    # Before it has checked the job, a party has nothing to ask about.
    if turn.me in memory.digests or memory.state is not State.PROPOSED or memory.cancelled:
        yield Timer(memory.poll_at, _poll)
    if (memory.state in _WATCHED or memory.state is State.STOPPING or memory.cancelled) and _is_idle(turn):
        patience_s = timing.silence_s + timing.deputy_stagger_s * (turn.place - 1)
        yield Timer(max(turn.last_heard(turn.spec.lead) + patience_s, memory.retry_at), _act_as_deputy)


def _is_idle(turn: Turn) -> bool:
    return turn.memory.ballot_phase is BallotPhase.IDLE


def _resend(letter: Letter) -> Callable[[Turn], None]:
    return lambda turn: turn.send_letter(letter)


def _presume_gone(party: str) -> Callable[[Turn], None]:
    return lambda turn: find_silent(turn, party)


def _poll(turn: Turn) -> None:
    turn.memory.poll_at = turn.now + turn.timing.poll_s
    turn.say(turn.spec.lead, AskEnding(0))


def _poll_alone(turn: Turn) -> None:
    memory = turn.memory
    memory.alone_poll_at = turn.now + turn.timing.alone_poll_s
    if memory.alone_poll_at > memory.alone_until:
        memory.alone_poll_at = None
    for party in turn.others:
        turn.say(party, AskEnding(0))


def _expire(turn: Turn) -> None:
    missing = [party for party in turn.spec.participants if party not in turn.memory.digests]
    if turn.memory.state is State.AGREED:
        fail(turn, turn.report(ErrorCode.JOB_EXPIRED, "agreed by all, but not started before the job expired"))
    else:
        accused = missing[0] if len(missing) == 1 and missing[0] != turn.me else ""
        fail(turn, turn.report(ErrorCode.JOB_EXPIRED, f"not countersigned in time: {', '.join(missing)}", accused=accused))


def _fail_preparing(turn: Turn) -> None:
    missing = [party for party in turn.others if party not in turn.memory.granted] if turn.leads else []
    accused = missing[0] if len(missing) == 1 else ""
    text = f"no reservation at {', '.join(missing)}" if missing else "the links were not complete in time"
    fail(turn, turn.report(ErrorCode.DEADLINE_PASSED, text, accused=accused))


def _fail_worker(turn: Turn) -> None:
    silence_s = round(turn.timing.worker_silence_s)
    fail(turn, turn.report(ErrorCode.WORKER_LOST, f"the worker has reported nothing for {silence_s} s", accused=turn.me))


def _fail_stalled(turn: Turn) -> None:
    stall_s = round(turn.timing.stall_timeout_s)
    fail(turn, turn.report(ErrorCode.DEADLINE_PASSED, f"the worker has made no step for {stall_s} s"))


def _act_as_deputy(turn: Turn) -> None:
    find_silent(turn, turn.spec.lead)
    deciding.inquire(turn)


def _check_alone(turn: Turn) -> None:
    memory, timing = turn.memory, turn.timing
    signs = memory.spoke if turn.leads else memory.heard
    reachable = 1 + sum(turn.now - signs.get(party, 0.0) < timing.alone_after_s for party in turn.others)
    lonely = reachable < turn.spec.majority
    doubt_ends = (memory.seeking_since or turn.now) + timing.doubt_limit_s
    if (lonely and not deciding.may_be_completed(turn)) or turn.now >= doubt_ends:
        note_failure(turn)
        deciding.end_alone(turn)
    else:
        memory.alone_check_at = turn.now + timing.ask_s
