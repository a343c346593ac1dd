"""Carries signed control messages to the other participants and says what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.identity.keys import SigningKey
from parties.transport.peers import Peers
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import session_pb2
from parties.wire.methods import DELIVER
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode, Kind
from protocols.session.messages import SessionMessage

CALL_TIMEOUT_S = 5.0


class Outcome(Enum):
    """What became of a message."""

    STORED = "stored"  # the receiver stored its effect, or refused it for good
    UNKNOWN_SESSION = "unknown session"  # the receiver is up and wants the job
    FAILED = "failed"  # try again


# The receiver did not read what was sent as what it is, or nothing went out, since the proxy that is named here has no address:
# that says nothing about the message itself, which is sent again.
_SPOILT = frozenset({
    ErrorCode.INVALID_ARGUMENT, ErrorCode.INVALID_DOCUMENT, ErrorCode.BAD_SIGNATURE, ErrorCode.INVALID_CONFIG
})  # fmt: skip


@dataclass(frozen=True)
class JobPapers:
    """What a party needs to take part in a session that it has not heard of."""

    job: SignedDocument
    initial_weights: bytes


class Courier:
    """Signs and sends; may be used by several threads."""

    def __init__(self, party: str, key: SigningKey, peers: Peers) -> None:
        self._party = party
        self._key = key
        self._peers = peers

    def sign(self, message: SessionMessage) -> SignedDocument:
        """Signs a message as this party."""
        body = canonical_bytes(message.to_document())
        return sign_bytes(body, kind=DocumentKind.SESSION_MESSAGE, signer=self._party, key=self._key)

    def send(self, message: SessionMessage, *, to: str, papers: JobPapers | None) -> Outcome:
        """Delivers one message, once."""
        request = session_pb2.DeliverRequest(message=to_wire(self.sign(message)))
        if papers is not None:
            request.job.CopyFrom(to_wire(papers.job))
            request.initial_weights = papers.initial_weights
        try:
            DELIVER.call(self._peers.channel(to), request, party=to, timeout_s=CALL_TIMEOUT_S)
        except ConfideError as error:
            if error.code is ErrorCode.UNKNOWN_SESSION:
                return Outcome.UNKNOWN_SESSION
            final = error.code.kind in (Kind.INVALID, Kind.DENIED, Kind.INTEGRITY) and error.code not in _SPOILT
            return Outcome.STORED if final else Outcome.FAILED
        return Outcome.STORED
