"""The transition table of a session: the rules first, the table second, the reading of it last.

The table is the same for every participant and does not know the role; where the lead acts differently, the rule says so.
A pair of state and event that is not in the table is refused with a typed error. A rule may leave the session where it is,
or move it to one of the states listed; the machine enforces that.

Two sentences of the table carry the safety of the whole: COMPLETED and WITHHELD are reached from RELEASING alone, which a
participant enters only with its own vote for it; and no row leads out of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from protocols.session import events as on
from protocols.session import messages as said
from protocols.session.states import OPEN, TERMINAL, State


class Rule(Enum):
    """What happens, in words; the functions are listed in `machine`."""

    ACCEPT_JOB = "countersign the plan and tell everybody"
    REFUSE_JOB = "refuse and tell everybody"
    COUNT_COUNTERSIGNATURE = "count it; agreed when all are equal"
    HEAR_REFUSAL = "stop: a participant refuses"
    KEEP_TIME = "act on what is due"
    NOTE_DELIVERY = "stop repeating the message, or repeat it later"
    TAKE_SLOT = "lead: ask the others to reserve; others: start the worker and say that the slot is reserved"
    BE_BUSY = "tell the lead that the slot is taken"
    PREPARE_LATER = "tell the lead: not yet agreed here"
    TRY_SLOT = "try to reserve the slot for this round"
    PREPARE_AGAIN = "repeat the answer, or keep the slot for the new round"
    COUNT_RESERVATION = "lead: start when all have reserved; give everything back when one is busy"
    RELEASE_SLOT = "give back the slot of this round"
    OPEN_LINKS = "let the worker open its links"
    NOTE_PREPARED = "the worker's links are authenticated"
    NOTE_RUNNING = "the worker computes"
    NOTE_PROGRESS = "the worker lives"
    VOTE_DONE = "vote done: the outputs are sealed"
    VOTE_WITHHELD = "vote withheld"
    VOTE_FAILED = "vote failed"
    COUNT_VOTE = "lead: count it; decide when all are in, or soon after the first failure"
    ANSWER_INQUIRY = "promise the ballot and say what is known here"
    COUNT_ANSWER = "count it; propose an ending when a majority promised"
    ACCEPT_ENDING = "accept the proposed ending unless a higher ballot is promised"
    COUNT_ACCEPTANCE = "count it; the ending takes effect when a majority accepted it"
    ADOPT_ENDING = "adopt the ending"
    END_CONSENT = "refuse if not countersigned, else vote failed: the consent has ended"
    ASK_CANCEL = "lead: decide for cancelled; others: tell the lead"
    HEAR_CANCEL = "lead: decide for cancelled, unless an ending is proposed"
    REFUSE_CANCEL = "refuse: too late"
    RECOVER_WAITING = "go on: nothing was reserved"
    RECOVER_WORKING = "vote failed: the worker died with the process"
    RECOVER_ENDING = "ask everybody for an ending"
    RECOVER_ENDED = "settle the outputs if that is not known to be done"
    TELL_ENDING = "answer: the ending is this"
    SET_RECORD_RIGHT = "an ending by majority replaces the one that this party wrote alone"
    NOTE_SETTLED = "the outputs are published or discarded"
    IGNORE = "no effect"


@dataclass(frozen=True)
class Cell:
    """One entry: the rule and the states that it may move the session to, besides leaving it where it is."""

    rule: Rule
    to: frozenset[State]


Row = Mapping[on.Kind, Cell]
WITHOUT_OUTPUT = TERMINAL - {State.COMPLETED}
_NOTHING_RELEASED = WITHOUT_OUTPUT - {State.WITHHELD}
_LATE_SLOT = (on.SlotGranted, on.SlotBusy)
_LATE_WORKER = (
    on.WorkerPrepared,
    on.WorkerRunning,
    on.WorkerProgress,
    on.WorkerFinished,
    on.OutputWithheld,
    on.WorkerFailed,
)


def _cell(rule: Rule, *to: State) -> Cell:
    return Cell(rule, frozenset(to))


def _open(endings: frozenset[State], *stop: State) -> dict[on.Kind, Cell]:
    """The part that all open states share; `endings` can follow, `stop` when a deadline passes."""
    return {
        on.Tick: _cell(Rule.KEEP_TIME, *stop, *_NOTHING_RELEASED),
        on.Delivered: _cell(Rule.NOTE_DELIVERY),
        on.Undelivered: _cell(Rule.NOTE_DELIVERY),
        on.CancelRequested: _cell(Rule.ASK_CANCEL),
        said.Vote: _cell(Rule.COUNT_VOTE),
        said.CancelRequest: _cell(Rule.HEAR_CANCEL),
        said.AskEnding: _cell(Rule.ANSWER_INQUIRY),
        said.EndingReply: _cell(Rule.COUNT_ANSWER),
        said.ProposeEnding: _cell(Rule.ACCEPT_ENDING, *endings),
        said.EndingAccepted: _cell(Rule.COUNT_ACCEPTANCE, *endings),
        said.Ending: _cell(Rule.ADOPT_ENDING, *endings),
    }


def _ignored(*kinds: on.Kind) -> dict[on.Kind, Cell]:
    return dict.fromkeys(kinds, _cell(Rule.IGNORE))


_WORKING: dict[on.Kind, Cell] = {
    **_open(_NOTHING_RELEASED, State.STOPPING),
    **_ignored(*_LATE_SLOT, said.Countersignature, said.Prepare, said.PrepareReply, said.Release, said.Start),
    on.WorkerProgress: _cell(Rule.NOTE_PROGRESS),
    on.WorkerFailed: _cell(Rule.VOTE_FAILED, State.STOPPING),
    on.ConsentEnded: _cell(Rule.END_CONSENT, State.STOPPING),
    on.Recovered: _cell(Rule.RECOVER_WORKING, State.STOPPING),
}
_COMPUTING: dict[on.Kind, Cell] = {
    **_WORKING,
    on.WorkerFinished: _cell(Rule.VOTE_DONE, State.RELEASING),
    on.OutputWithheld: _cell(Rule.VOTE_WITHHELD, State.RELEASING),
}
_ENDING: dict[on.Kind, Cell] = {
    **_ignored(*_LATE_SLOT, *_LATE_WORKER, said.Countersignature, said.Prepare, said.PrepareReply, said.Release, said.Start),
    **_ignored(on.ConsentEnded),  # it has voted, or cannot complete: what is released then is the release gate's matter
    on.Recovered: _cell(Rule.RECOVER_ENDING),
}
_TOLD = (
    said.Countersignature, said.Refusal, said.Prepare, said.PrepareReply, said.Vote, said.AskEnding, said.ProposeEnding,
    said.CancelRequest,
)  # fmt: skip
_ENDED: dict[on.Kind, Cell] = {
    **_ignored(*_LATE_SLOT, *_LATE_WORKER, on.JobAccepted, on.JobRefused, on.ConsentEnded, on.Delivered, on.Undelivered),
    **_ignored(said.Release, said.Start, said.EndingReply, said.EndingAccepted, said.Ending),
    **dict.fromkeys(_TOLD, _cell(Rule.TELL_ENDING)),
    on.Tick: _cell(Rule.KEEP_TIME),
    on.CancelRequested: _cell(Rule.REFUSE_CANCEL),
    on.Recovered: _cell(Rule.RECOVER_ENDED),
    on.OutputsSettled: _cell(Rule.NOTE_SETTLED),
}
_ENDED_WITHOUT_VOTE: dict[on.Kind, Cell] = {**_ENDED, said.Ending: _cell(Rule.SET_RECORD_RIGHT, *_NOTHING_RELEASED)}

TABLE: Mapping[State, Row] = {
    State.PROPOSED: {
        **_open(_NOTHING_RELEASED, State.STOPPING),
        **_ignored(said.PrepareReply, said.Release, said.Start),
        on.JobAccepted: _cell(Rule.ACCEPT_JOB, State.AGREED, State.STOPPING),
        on.JobRefused: _cell(Rule.REFUSE_JOB, State.STOPPING),
        on.ConsentEnded: _cell(Rule.END_CONSENT, State.STOPPING),
        on.Recovered: _cell(Rule.RECOVER_WAITING),
        said.Countersignature: _cell(Rule.COUNT_COUNTERSIGNATURE, State.AGREED, State.STOPPING),
        said.Refusal: _cell(Rule.HEAR_REFUSAL, State.STOPPING),
        said.Prepare: _cell(Rule.PREPARE_LATER),
    },
    State.AGREED: {
        **_open(_NOTHING_RELEASED, State.STOPPING),
        **_ignored(*_LATE_WORKER, said.PrepareReply, said.Start),
        on.SlotGranted: _cell(Rule.TAKE_SLOT, State.PREPARING),
        on.SlotBusy: _cell(Rule.BE_BUSY),
        on.ConsentEnded: _cell(Rule.END_CONSENT, State.STOPPING),
        on.Recovered: _cell(Rule.RECOVER_WAITING),
        said.Countersignature: _cell(Rule.COUNT_COUNTERSIGNATURE),
        said.Prepare: _cell(Rule.TRY_SLOT),
        said.Release: _cell(Rule.RELEASE_SLOT),
    },
    State.PREPARING: {
        **_WORKING,
        on.WorkerPrepared: _cell(Rule.NOTE_PREPARED, State.PREPARED),
        said.Prepare: _cell(Rule.PREPARE_AGAIN),
        said.PrepareReply: _cell(Rule.COUNT_RESERVATION, State.AGREED),
        said.Release: _cell(Rule.RELEASE_SLOT, State.AGREED),
        said.Start: _cell(Rule.OPEN_LINKS),
    },
    State.PREPARED: {**_COMPUTING, on.WorkerRunning: _cell(Rule.NOTE_RUNNING, State.RUNNING)},
    State.RUNNING: {**_COMPUTING, on.WorkerRunning: _cell(Rule.IGNORE)},
    State.RELEASING: {**_open(TERMINAL), **_ENDING},
    State.STOPPING: {
        **_open(_NOTHING_RELEASED),
        **_ENDING,
        **_ignored(on.JobAccepted),
        on.JobRefused: _cell(Rule.REFUSE_JOB),
        said.Countersignature: _cell(Rule.COUNT_COUNTERSIGNATURE),
        said.Refusal: _cell(Rule.HEAR_REFUSAL),
    },
    State.COMPLETED: _ENDED,
    State.WITHHELD: _ENDED,
    State.ABORTED: _ENDED_WITHOUT_VOTE,
    State.REJECTED: _ENDED_WITHOUT_VOTE,
    State.EXPIRED: _ENDED_WITHOUT_VOTE,
    State.CANCELLED: _ENDED_WITHOUT_VOTE,
}


def look_up(state: State, kind: on.Kind) -> Cell | None:
    """Returns the entry for an event of this kind in this state, None if it is refused."""
    return TABLE[state].get(kind)


def as_markdown() -> str:
    """Returns the table for people: one line per state and rule, with the events that trigger it."""
    lines = ["| state | event | rule | may move to |", "|---|---|---|---|"]
    for states in (
        *((state,) for state in OPEN),
        (State.COMPLETED, State.WITHHELD),
        tuple(sorted(_NOTHING_RELEASED, key=_order)),
    ):
        grouped: dict[Cell, list[str]] = {}
        for kind in on.KINDS:
            cell = look_up(states[0], kind)
            if cell is not None:
                grouped.setdefault(cell, []).append(kind.__name__)
        name = ", ".join(state.name for state in states)
        for cell, kinds in grouped.items():
            to = ", ".join(state.name for state in sorted(cell.to, key=_order)) or "(stays)"
            lines.append(f"| {name} | {', '.join(kinds)} | {cell.rule.value} | {to} |")
    return "\n".join(lines) + "\n"


def _order(state: State) -> int:
    return list(State).index(state)
