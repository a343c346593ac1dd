"""All that a participant remembers of a session, and its form on disk.

The fields listed at the end are in the snapshot. The others are forgotten in a restart on purpose: what was heard when, which
sendings are under way, the worker and the slot (they are gone with the process). So a mere sign of life changes no snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from protocols.session import documents as read
from protocols.session.messages import Ending, FailureReport, Vote
from protocols.session.outbox import Letter, Outbox
from protocols.session.states import State

FORMAT = "confide.session-state/2"


class BallotPhase(Enum):
    """What this participant does about deciding the ending."""

    IDLE = "idle"
    ASKING = "asking"  # it asks the others to support its ballot
    PROPOSING = "proposing"  # it has accepted an ending under its ballot and asks the others to


@dataclass(frozen=True)
class _Codec:
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _entries(document: object) -> dict[str, object]:
    if not isinstance(document, dict):
        raise read.invalid("expected an object")
    return {read.identifier(key): value for key, value in document.items()}


def _seconds(value: object) -> float:
    # Whole milliseconds: JSON carries them exactly.
    if type(value) is not int or not 0 <= value < 2**53:
        raise read.invalid("expected a time in milliseconds")
    return value / 1000


def _letters(value: object) -> Outbox:
    if not isinstance(value, list):
        raise read.invalid("expected a list of letters")
    return Outbox(tuple(Letter.from_document(entry) for entry in value))


def _mapped(encode: Callable[[Any], Any], decode: Callable[[object], Any]) -> _Codec:
    return _Codec(
        lambda entries: {key: encode(value) for key, value in entries.items()},
        lambda document: {key: decode(value) for key, value in _entries(document).items()},
    )


def _optional(codec: _Codec) -> _Codec:
    return _Codec(
        lambda value: None if value is None else codec.encode(value),
        lambda value: None if value is None else codec.decode(value),
    )


_STATE = _Codec(lambda state: state.value, lambda value: read.member(State, value))
_TIME = _Codec(lambda seconds: round(seconds * 1000), _seconds)
_WHOLE = _Codec(int, lambda value: read.whole(value, -1))
_FLAG = _Codec(bool, read.flag)
_ENDING = _optional(_Codec(lambda ending: ending.to_document(), Ending.from_document))
_DIGESTS = _mapped(str, read.digest)
_VOTES = _mapped(lambda vote: vote.to_document(), Vote.from_document)
_REPORTS = _mapped(lambda report: report.to_document(), FailureReport.from_document)
_OUTBOX = _Codec(lambda outbox: [letter.to_document() for letter in outbox.letters], _letters)


@dataclass
class Memory:
    """What one participant remembers of one session. Times are Unix times in seconds.

    Attributes:
        state: where it stands.
        phase: the latest working state, which failures name.
        entered_at: when `state` was entered.
        digests: plan digest by party, from countersignatures.
        votes: votes known here; the own one is never changed.
        findings: what this party found out about others, by accused.
        cancelled: whether the querier's wish to cancel is known here.
        failing_since: when the first failure became known here.
        round: the reservation that holds the slot; counts up at the lead.
        seen_round: highest round that the lead prepared or released, seen by the others.
        asked_round: the round for which `TrySlot` is under way, 0 if none.
        ticket: of the slot that is held or requested, 0 if none.
        tickets: the last ticket given out.
        granted: lead: who has reserved in this round.
        opened: whether the links of this round may be opened.
        refusals: lead: rounds in a row that somebody was busy.
        worker: number of the latest worker.
        works: whether that worker is meant to run.
        worker_heard_at: when it last reported.
        step: the last operation it reported.
        stepped_at: when `step` last grew.
        outbox: messages that must arrive.
        token: the last token given to a sending.
        lacks_job: parties that are up and do not know the session.
        heard: when each party last said something or took a message.
        spoke: when each party last said something.
        watch_since: nobody is presumed silent for anything before this.
        poll_at: when to ask the lead again.
        promised: the highest ballot supported.
        accepted_ballot: the ballot of `accepted`, -1 if none.
        accepted: the ending accepted last.
        careful: whether this process restarted; then even the lead asks before it decides.
        ballot: own ballot.
        ballot_phase: what the own ballot does.
        supporters: who answered the inquiry.
        found_ballot: the ballot of `found`.
        found: the ending accepted under the highest ballot that the inquiry met.
        acceptors: who accepted the proposal.
        ask_until: when the inquiry closes.
        retry_at: not to try another ballot before this.
        decide_at: lead: when to decide.
        seeking_since: since when this party tries to decide without success.
        alone_check_at: when to look whether a majority is in reach.
        ending: the end.
        settled: whether the outputs are known to be published or discarded.
        alone_poll_at: after ending alone: when to ask the others again; None if not.
        alone_until: when to give that up.
        agrees: after ending alone: who is known to show the same ending.
    """

    state: State = State.PROPOSED
    phase: State = State.PROPOSED
    entered_at: float = 0.0
    digests: dict[str, str] = field(default_factory=dict)
    votes: dict[str, Vote] = field(default_factory=dict)
    findings: dict[str, FailureReport] = field(default_factory=dict)
    cancelled: bool = False
    failing_since: float | None = None

    round: int = 0
    seen_round: int = 0
    asked_round: int = 0
    ticket: int = 0
    tickets: int = 0
    granted: set[str] = field(default_factory=set)
    opened: bool = False
    refusals: int = 0

    worker: int = 0
    works: bool = False
    worker_heard_at: float = 0.0
    step: int = -1
    stepped_at: float = 0.0

    outbox: Outbox = field(default_factory=Outbox)
    token: int = 0
    lacks_job: set[str] = field(default_factory=set)
    heard: dict[str, float] = field(default_factory=dict)
    spoke: dict[str, float] = field(default_factory=dict)
    watch_since: float = 0.0
    poll_at: float = 0.0

    promised: int = 0
    accepted_ballot: int = -1
    accepted: Ending | None = None
    careful: bool = False
    ballot: int = 0
    ballot_phase: BallotPhase = BallotPhase.IDLE
    supporters: set[str] = field(default_factory=set)
    found_ballot: int = -1
    found: Ending | None = None
    acceptors: set[str] = field(default_factory=set)
    ask_until: float = 0.0
    retry_at: float = 0.0
    decide_at: float | None = None
    seeking_since: float | None = None
    alone_check_at: float = 0.0

    ending: Ending | None = None
    settled: bool = False
    alone_poll_at: float | None = None
    alone_until: float = 0.0
    agrees: set[str] = field(default_factory=set)

    def to_document(self) -> dict[str, Any]:
        """Returns the snapshot: strings, whole numbers, booleans, lists and objects."""
        return {"format": FORMAT, **{name: codec.encode(getattr(self, name)) for name, codec in _KEPT.items()}}

    @staticmethod
    def from_document(document: object) -> Memory:
        """Reads a snapshot; raises INVALID_DOCUMENT if it is not one."""
        found = read.fields(document, "format", *_KEPT)
        if found["format"] != FORMAT:
            raise read.invalid(f"this version reads session states of format {FORMAT}")
        return Memory(**{name: codec.decode(found[name]) for name, codec in _KEPT.items()})


_KEPT: dict[str, _Codec] = {
    "state": _STATE,
    "phase": _STATE,
    "entered_at": _TIME,
    "digests": _DIGESTS,
    "votes": _VOTES,
    "findings": _REPORTS,
    "cancelled": _FLAG,
    "failing_since": _optional(_TIME),
    "round": _WHOLE,
    "seen_round": _WHOLE,
    "asked_round": _WHOLE,
    "worker": _WHOLE,
    "outbox": _OUTBOX,
    "promised": _WHOLE,
    "accepted_ballot": _WHOLE,
    "accepted": _ENDING,
    "careful": _FLAG,
    "ending": _ENDING,
    "settled": _FLAG,
}
