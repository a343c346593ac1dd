"""Calls of LinkingService at another party: plain values in, plain values out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from parties.transport.peers import Peers
from parties.wire import methods
from parties.wire.generated.confide.v1 import linking_pb2
from protocols.identifiers.intersection import Mode
from protocols.identifiers.pseudonyms import Context

CALL_TIMEOUT_S = 60.0
BREAK_OFF_TIMEOUT_S = 5.0
MASKED = linking_pb2.SET_LIST_MASKED
DOUBLED = linking_pb2.SET_LIST_DOUBLED
SetList: TypeAlias = "linking_pb2.SetList.ValueType"  # a type of the checker's alone


@dataclass(frozen=True)
class Announced:
    """What the waiting side says when it is met; as it came, unchecked."""

    session: bytes
    size: int
    schema_document: bytes
    commitment: bytes


@dataclass(frozen=True)
class LinkingCalls:
    """One party's LinkingService. Every call raises what that party reported, or that it cannot be reached.

    Attributes:
        peers: this side's channels.
        party: the party called.
    """

    peers: Peers
    party: str

    def evaluate(self, context: Context, points: bytes) -> bytes:
        """Has blinded points raised to the party's key of a project."""
        request = linking_pb2.EvaluatePseudonymsRequest(
            project=context.project, rotation=context.rotation, members=context.members, points=points
        )
        reply = methods.EVALUATE_PSEUDONYMS.call(
            self.peers.channel(self.party), request, party=self.party, timeout_s=CALL_TIMEOUT_S
        )
        return reply.points

    def open(self, *, label: str, mode: Mode, size: int, schema_document: bytes, commitment: bytes) -> Announced:
        """Meets the offer of a set."""
        own = linking_pb2.SetAnnouncement(size=size, schema=schema_document, commitment=commitment)
        request = linking_pb2.OpenIntersectionRequest(label=label, mode=mode.value, set=own)
        reply = methods.OPEN_INTERSECTION.call(
            self.peers.channel(self.party), request, party=self.party, timeout_s=CALL_TIMEOUT_S
        )
        return Announced(reply.session, reply.set.size, reply.set.schema, reply.set.commitment)

    def put(self, session: bytes, which: SetList, offset: int, points: bytes, *, salt: bytes = b"") -> None:
        """Brings a part of a list."""
        request = linking_pb2.PutPartOfSetRequest(session=session, list=which, offset=offset, points=points, salt=salt)
        methods.PUT_PART_OF_SET.call(self.peers.channel(self.party), request, party=self.party, timeout_s=CALL_TIMEOUT_S)

    def get(self, session: bytes, which: SetList, offset: int, *, commitment: bytes = b"") -> tuple[bytes, bytes]:
        """Asks for a part of a list; returns its points, and the salt of the commitment to it."""
        request = linking_pb2.GetPartOfSetRequest(session=session, list=which, offset=offset, commitment=commitment)
        reply = methods.GET_PART_OF_SET.call(self.peers.channel(self.party), request, party=self.party, timeout_s=CALL_TIMEOUT_S)
        return reply.points, reply.salt

    def break_off(self, session: bytes, code: str) -> None:
        """Says that this side does not go on, and why: the name of an error code."""
        request = linking_pb2.BreakOffIntersectionRequest(session=session, code=code)
        methods.BREAK_OFF_INTERSECTION.call(
            self.peers.channel(self.party), request, party=self.party, timeout_s=BREAK_OFF_TIMEOUT_S
        )

    def finish(self, session: bytes, *, transcript: str, found: int) -> None:
        """Shows the outcome, which the party then registers."""
        request = linking_pb2.FinishIntersectionRequest(session=session, transcript=transcript, found=found)
        methods.FINISH_INTERSECTION.call(self.peers.channel(self.party), request, party=self.party, timeout_s=CALL_TIMEOUT_S)
