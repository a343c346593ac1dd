"""Why a part failed, and how a session ended: the two documents that people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from protocols.errors import ErrorCode
from protocols.job import TIME_FORMAT
from protocols.session import documents as read
from protocols.session.states import TERMINAL, State

ENDING_FORMAT = "confide.ending/2"


@dataclass(frozen=True)
class FailureReport:
    """Why a participant's part cannot complete, as it sees it; public text.

    Attributes:
        code: what happened.
        phase: the state in which it happened.
        accused: the party that the reporter holds responsible, possibly itself; empty if nobody.
        text: one sentence for people; control characters are replaced, at most 2,000 characters are kept.
    """

    code: ErrorCode
    phase: State
    accused: str
    text: str

    def __post_init__(self) -> None:
        """Cleans the text, which may come from a worker's exception."""
        object.__setattr__(self, "text", read.clean_text(self.text))

    def to_document(self) -> dict[str, Any]:
        """Returns the report as a document."""
        return {"code": self.code.name, "phase": self.phase.value, "accused": self.accused, "text": self.text}

    @staticmethod
    def from_document(document: object) -> FailureReport:
        """Reads a report; raises INVALID_DOCUMENT (its author's fault)."""
        found = read.fields(document, "code", "phase", "accused", "text")
        return FailureReport(
            code=read.error_code(found["code"]),
            phase=read.member(State, found["phase"]),
            accused=read.identifier_or_empty(found["accused"]),
            text=read.text(found["text"]),
        )


@dataclass(frozen=True)
class Ending:
    """The one end of a session that everybody shows; the fields of this message are also the querier's document.

    Attributes:
        session: session id.
        attempt: attempt.
        state: a terminal state.
        code: name of the error code; empty if completed.
        phase: the state in which the cause arose.
        at_fault: the party at fault where that is provable, else empty.
        cause: what happened, for people.
        remedy: what to do.
        decided_by: the party that wrote the document.
        time: when, by that party's clock; UTC, whole seconds.
        by_majority: whether it took effect by a majority of the participants; otherwise its author was cut off and ended alone.
        commitments: completed only: the commitments to the output shares, by computing party and output, 64 hexadecimal digits
            each, as these parties voted them; else empty. A party that signs this ending thereby vouches for its own.
    """

    KIND: ClassVar[str] = "ending"
    session: str
    attempt: int
    state: State
    code: str
    phase: State
    at_fault: str
    cause: str
    remedy: str
    decided_by: str
    time: str
    by_majority: bool
    commitments: Mapping[str, Mapping[str, str]] = field(hash=False)

    def to_document(self) -> dict[str, Any]:
        """Returns the ending as a document."""
        return {
            "format": ENDING_FORMAT,
            "session": self.session,
            "attempt": self.attempt,
            "state": self.state.value,
            "code": self.code,
            "phase": self.phase.value,
            "at_fault": self.at_fault,
            "cause": self.cause,
            "remedy": self.remedy,
            "decided_by": self.decided_by,
            "time": self.time,
            "by_majority": self.by_majority,
            "commitments": {party: dict(found) for party, found in self.commitments.items()},
        }

    @staticmethod
    def from_document(document: object) -> Ending:
        """Reads an ending; raises INVALID_DOCUMENT (its author's fault)."""
        names = ("format", "session", "attempt", "state", "code", "phase", "at_fault", "cause", "remedy", "decided_by", "time")
        found = read.fields(document, *names, "by_majority", "commitments")
        if found["format"] != ENDING_FORMAT:
            raise read.invalid(f"this version reads endings of format {ENDING_FORMAT}")
        ending = Ending(
            session=read.identifier(found["session"]),
            attempt=read.whole(found["attempt"], 1),
            state=read.member(State, found["state"]),
            code=read.text(found["code"]),
            phase=read.member(State, found["phase"]),
            at_fault=read.identifier_or_empty(found["at_fault"]),
            cause=read.text(found["cause"]),
            remedy=read.text(found["remedy"]),
            decided_by=read.identifier(found["decided_by"]),
            time=_time(found["time"]),
            by_majority=read.flag(found["by_majority"]),
            commitments=read.commitment_sets(found["commitments"]),
        )
        if ending.state not in TERMINAL:
            raise read.invalid("an ending names a terminal state")
        if (ending.state is State.COMPLETED) != (ending.code == ""):
            raise read.invalid("an ending has a code unless it is completed")
        if ending.commitments and ending.state is not State.COMPLETED:
            raise read.invalid("only a completed ending carries commitments")
        if ending.code:
            read.error_code(ending.code)
        return ending


def _time(value: object) -> str:
    try:
        datetime.strptime(read.text(value), TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise read.invalid("expected a time in UTC with whole seconds") from error
    return read.text(value)
