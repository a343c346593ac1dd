"""What the participants of a session say to each other, as documents.

The runner signs the document of a `SessionMessage` and checks that signer, `sender` and TLS identity are one. Everything in
these messages is public to the participants: they name states, codes and digests, never a row, a weight or a share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, TypeAlias

from protocols.canonical import Document
from protocols.session import documents as read
from protocols.session.endings import ENDING_FORMAT as ENDING_FORMAT
from protocols.session.endings import Ending as Ending
from protocols.session.endings import FailureReport as FailureReport

FORMAT = "confide.session/2"


class Verdict(Enum):
    """How a participant's part went."""

    DONE = "done"
    WITHHELD = "withheld"
    FAILED = "failed"


@dataclass(frozen=True)
class Countersignature:
    """The sender has checked the job, derived this plan from it and takes part.

    Attributes:
        plan_digest: 64 hexadecimal digits.
        manifest: what shows that this consent stands in the sender's audit log; the machine does not read it.
    """

    KIND: ClassVar[str] = "countersignature"
    plan_digest: str
    manifest: str

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {"plan_digest": self.plan_digest, "manifest": self.manifest}

    @staticmethod
    def from_document(document: object) -> Countersignature:
        """Reads the fields; raises INVALID_DOCUMENT."""
        found = read.fields(document, "plan_digest", "manifest")
        return Countersignature(read.digest(found["plan_digest"]), read.manifest(found["manifest"]))


@dataclass(frozen=True)
class Refusal:
    """The sender does not take part, and why."""

    KIND: ClassVar[str] = "refusal"
    report: FailureReport

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {"report": self.report.to_document()}

    @staticmethod
    def from_document(document: object) -> Refusal:
        """Reads the fields; raises INVALID_DOCUMENT."""
        return Refusal(FailureReport.from_document(read.fields(document, "report")["report"]))


@dataclass(frozen=True)
class Prepare:
    """Lead to all: reserve a slot and start a worker. `round` counts the lead's reservations from 1."""

    KIND: ClassVar[str] = "prepare"
    round: int

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {"round": self.round}

    @staticmethod
    def from_document(document: object) -> Prepare:
        """Reads the fields; raises INVALID_DOCUMENT."""
        return Prepare(read.whole(read.fields(document, "round")["round"], 1))


@dataclass(frozen=True)
class PrepareReply:
    """Answer to the lead: the slot is reserved and links are accepted, or the sender is busy."""

    KIND: ClassVar[str] = "prepare_reply"
    round: int
    granted: bool

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {"round": self.round, "granted": self.granted}

    @staticmethod
    def from_document(document: object) -> PrepareReply:
        """Reads the fields; raises INVALID_DOCUMENT."""
        found = read.fields(document, "round", "granted")
        return PrepareReply(read.whole(found["round"], 1), read.flag(found["granted"]))


@dataclass(frozen=True)
class Release:
    """Lead to all: somebody is busy; give the slot of this round back."""

    KIND: ClassVar[str] = "release"
    round: int

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {"round": self.round}

    @staticmethod
    def from_document(document: object) -> Release:
        """Reads the fields; raises INVALID_DOCUMENT."""
        return Release(read.whole(read.fields(document, "round")["round"], 1))


@dataclass(frozen=True)
class Start:
    """Lead to all: everybody has reserved; open the links."""

    KIND: ClassVar[str] = "start"
    round: int

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {"round": self.round}

    @staticmethod
    def from_document(document: object) -> Start:
        """Reads the fields; raises INVALID_DOCUMENT."""
        return Start(read.whole(read.fields(document, "round")["round"], 1))


@dataclass(frozen=True)
class Vote:
    """How the sender's part went; stored before it is sent and never changed.

    Attributes:
        verdict: how.
        report: why; with all but DONE.
        commitments: DONE of a computing party: its commitment to its share of each output, 64 hexadecimal digits; else empty.
    """

    KIND: ClassVar[str] = "vote"
    verdict: Verdict
    report: FailureReport | None
    commitments: Mapping[str, str] = field(hash=False)

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {
            "verdict": self.verdict.value,
            "report": None if self.report is None else self.report.to_document(),
            "commitments": dict(self.commitments),
        }

    @staticmethod
    def from_document(document: object) -> Vote:
        """Reads the fields; raises INVALID_DOCUMENT."""
        found = read.fields(document, "verdict", "report", "commitments")
        verdict = read.member(Verdict, found["verdict"])
        if (verdict is Verdict.DONE) != (found["report"] is None):
            raise read.invalid("a vote carries a report unless it is done")
        commitments = read.commitments(found["commitments"])
        if commitments and verdict is not Verdict.DONE:
            raise read.invalid("only a vote for done carries commitments")
        report = None if found["report"] is None else FailureReport.from_document(found["report"])
        return Vote(verdict, report, commitments)


@dataclass(frozen=True)
class AskEnding:
    """Is there an ending? With a ballot above 0 the sender also asks to decide under that ballot; 0 only asks."""

    KIND: ClassVar[str] = "ask_ending"
    ballot: int

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {"ballot": self.ballot}

    @staticmethod
    def from_document(document: object) -> AskEnding:
        """Reads the fields; raises INVALID_DOCUMENT."""
        return AskEnding(read.whole(read.fields(document, "ballot")["ballot"]))


@dataclass(frozen=True)
class EndingReply:
    """There is no ending here; what the sender knows, to a party that wants to decide.

    Attributes:
        ballot: the ballot asked about.
        promised: the highest ballot that the sender supports; above `ballot` it means no.
        accepted_ballot: the ballot under which it accepted an ending, -1 if none (then `accepted` is None).
        accepted: that ending.
        vote: the sender's own vote, if cast.
    """

    KIND: ClassVar[str] = "ending_reply"
    ballot: int
    promised: int
    accepted_ballot: int
    accepted: Ending | None
    vote: Vote | None

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {
            "ballot": self.ballot,
            "promised": self.promised,
            "accepted_ballot": self.accepted_ballot,
            "accepted": None if self.accepted is None else self.accepted.to_document(),
            "vote": None if self.vote is None else self.vote.to_document(),
        }

    @staticmethod
    def from_document(document: object) -> EndingReply:
        """Reads the fields; raises INVALID_DOCUMENT."""
        found = read.fields(document, "ballot", "promised", "accepted_ballot", "accepted", "vote")
        accepted_ballot = read.whole(found["accepted_ballot"], -1)
        if (accepted_ballot < 0) != (found["accepted"] is None):
            raise read.invalid("an accepted ending has a ballot")
        return EndingReply(
            ballot=read.whole(found["ballot"]),
            promised=read.whole(found["promised"]),
            accepted_ballot=accepted_ballot,
            accepted=None if found["accepted"] is None else Ending.from_document(found["accepted"]),
            vote=None if found["vote"] is None else Vote.from_document(found["vote"]),
        )


@dataclass(frozen=True)
class ProposeEnding:
    """The sender has accepted this ending under this ballot and asks the others to accept it."""

    KIND: ClassVar[str] = "propose_ending"
    ballot: int
    ending: Ending

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {"ballot": self.ballot, "ending": self.ending.to_document()}

    @staticmethod
    def from_document(document: object) -> ProposeEnding:
        """Reads the fields; raises INVALID_DOCUMENT."""
        found = read.fields(document, "ballot", "ending")
        return ProposeEnding(read.whole(found["ballot"]), Ending.from_document(found["ending"]))


@dataclass(frozen=True)
class EndingAccepted:
    """The sender has stored the ending proposed under this ballot as accepted."""

    KIND: ClassVar[str] = "ending_accepted"
    ballot: int

    def to_document(self) -> dict[str, Any]:
        """Returns the fields."""
        return {"ballot": self.ballot}

    @staticmethod
    def from_document(document: object) -> EndingAccepted:
        """Reads the fields; raises INVALID_DOCUMENT."""
        return EndingAccepted(read.whole(read.fields(document, "ballot")["ballot"]))


@dataclass(frozen=True)
class CancelRequest:
    """The querier asked the sender to cancel; the sender checked the querier's signature."""

    KIND: ClassVar[str] = "cancel_request"

    def to_document(self) -> dict[str, Any]:
        """Returns the fields, of which there are none."""
        return {}

    @staticmethod
    def from_document(document: object) -> CancelRequest:
        """Reads the fields; raises INVALID_DOCUMENT."""
        read.fields(document)
        return CancelRequest()


Body: TypeAlias = (
    Countersignature | Refusal | Prepare | PrepareReply | Release | Start | Vote | AskEnding | EndingReply | ProposeEnding
    | EndingAccepted | Ending | CancelRequest
)  # fmt: skip
BODIES: tuple[type[Body], ...] = (
    Countersignature, Refusal, Prepare, PrepareReply, Release, Start, Vote, AskEnding, EndingReply, ProposeEnding,
    EndingAccepted, Ending, CancelRequest,
)  # fmt: skip
_BY_KIND: dict[str, type[Body]] = {body.KIND: body for body in BODIES}


@dataclass(frozen=True)
class SessionMessage:
    """A message between two participants; bound to its session and attempt, so that it cannot be replayed into another.

    Attributes:
        session: session id.
        attempt: attempt.
        sender: party id of its author.
        body: what it says.
    """

    session: str
    attempt: int
    sender: str
    body: Body

    def to_document(self) -> dict[str, Any]:
        """Returns the document that is signed and sent."""
        return {
            "format": FORMAT,
            "kind": self.body.KIND,
            "session": self.session,
            "attempt": self.attempt,
            "sender": self.sender,
            "body": self.body.to_document(),
        }

    @staticmethod
    def from_document(document: Document) -> SessionMessage:
        """Reads a message; raises INVALID_DOCUMENT (its author's fault) for anything unexpected."""
        found = read.fields(document, "format", "kind", "session", "attempt", "sender", "body")
        if found["format"] != FORMAT:
            raise read.invalid(f"this version reads messages of format {FORMAT}")
        return SessionMessage(
            session=read.identifier(found["session"]),
            attempt=read.whole(found["attempt"], 1),
            sender=read.identifier(found["sender"]),
            body=read_body(found["kind"], found["body"]),
        )


def read_body(kind: object, document: object) -> Body:
    """Reads the body of a message of this kind; raises INVALID_DOCUMENT."""
    if not isinstance(kind, str) or kind not in _BY_KIND:
        raise read.invalid("unknown kind of session message")
    return _BY_KIND[kind].from_document(document)
