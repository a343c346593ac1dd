"""The party that evaluates a model, as the researcher's program calls it: one call each of the wire contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from governance.documents import SignedDocument
from parties.client.calls import Calls
from parties.wire import methods
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import encrypted_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.session.documents import clean_text

CALL_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 600.0
PART_BYTES = 1 << 20


@dataclass(frozen=True)
class EnquiryState:
    """How an enquiry stands, as its evaluator says.

    Attributes:
        enquiry_id: 32 hexadecimal digits.
        open: whether anything is answered still.
        reason: why not; empty while it is open.
        answers_left: numbers that may still be answered.
        key_bytes: of its evaluation keys, as many as have arrived.
        expires: UTC.
    """

    enquiry_id: str
    open: bool
    reason: str
    answers_left: int
    key_bytes: int
    expires: datetime


class Evaluator(Protocol):
    """What a researcher's program asks of the party that evaluates a model."""

    party: str

    def open(self, enquiry: SignedDocument) -> EnquiryState:
        """Asks to ask; raises a refusal with all its reasons."""

    def state(self, enquiry_id: str) -> EnquiryState:
        """Returns how an enquiry stands."""

    def put(self, enquiry_id: str, digest: str, *, total: int, offset: int, data: bytes) -> int:
        """Sends a part of a message; returns how much of it the party has, from its beginning."""

    def ask(self, enquiry_id: str, request: str, query: bytes | str, *, answer_bytes: int) -> bytes:
        """Sends a query, or names by its digest one that was put, and waits for its answer of just so many bytes."""

    def ask_and_keep(self, enquiry_id: str, request: str, query: bytes | str) -> None:
        """Sends a query whose answer is kept until it is fetched."""

    def fetch(self, enquiry_id: str, request: str, *, answer_bytes: int) -> bytes:
        """Fetches an answer that was kept, once; raises NOT_READY while it is being computed."""

    def end(self, enquiry_id: str) -> EnquiryState:
        """Ends an enquiry: what was not answered goes back to its budgets."""


class RemoteEvaluator:
    """A party of the consortium, over its wire contract."""

    def __init__(self, calls: Calls, party: str) -> None:
        self._calls, self.party = calls, party

    def open(self, enquiry: SignedDocument) -> EnquiryState:
        """See `Evaluator`."""
        request = encrypted_pb2.OpenEnquiryRequest(enquiry=to_wire(enquiry))
        return self._state(self._call(methods.OPEN_ENQUIRY, request))

    def state(self, enquiry_id: str) -> EnquiryState:
        """See `Evaluator`."""
        return self._state(self._call(methods.GET_ENQUIRY, encrypted_pb2.GetEnquiryRequest(enquiry_id=enquiry_id)))

    def put(self, enquiry_id: str, digest: str, *, total: int, offset: int, data: bytes) -> int:
        """See `Evaluator`."""
        request = encrypted_pb2.PutPartRequest(enquiry_id=enquiry_id, digest=digest, total_bytes=total, offset=offset, data=data)
        return int(self._call(methods.PUT_PART, request).received)

    def ask(self, enquiry_id: str, request: str, query: bytes | str, *, answer_bytes: int) -> bytes:
        """See `Evaluator`."""
        message = _question(enquiry_id, request, query, keep=False)
        return self._whole(self._stream(methods.ASK_ENCRYPTED, message), answer_bytes)

    def ask_and_keep(self, enquiry_id: str, request: str, query: bytes | str) -> None:
        """See `Evaluator`."""
        for number, part in enumerate(self._stream(methods.ASK_ENCRYPTED, _question(enquiry_id, request, query, keep=True))):
            if number or part.total_bytes or part.data:
                raise self._not_as_asked("an answer that was to be kept")

    def fetch(self, enquiry_id: str, request: str, *, answer_bytes: int) -> bytes:
        """See `Evaluator`."""
        message = encrypted_pb2.FetchAnswerRequest(enquiry_id=enquiry_id, request=request)
        return self._whole(self._stream(methods.FETCH_ANSWER, message), answer_bytes)

    def end(self, enquiry_id: str) -> EnquiryState:
        """See `Evaluator`."""
        return self._state(self._call(methods.END_ENQUIRY, encrypted_pb2.EndEnquiryRequest(enquiry_id=enquiry_id)))

    def _call(self, method: methods.Method[methods.Request, methods.Reply], request: methods.Request) -> methods.Reply:
        return method.call(self._calls.channel(self.party), request, party=self.party, timeout_s=CALL_TIMEOUT_S)

    def _stream(
        self, method: methods.Method[methods.Request, encrypted_pb2.AnswerPart], request: methods.Request
    ) -> Iterator[encrypted_pb2.AnswerPart]:
        channel = self._calls.channel(self.party)
        return method.stream(channel, request, party=self.party, timeout_s=ANSWER_TIMEOUT_S)

    def _whole(self, parts: Iterator[encrypted_pb2.AnswerPart], answer_bytes: int) -> bytes:
        """Puts an answer together; one of another size than the plan's is refused before it is held."""
        found = bytearray()
        for part in parts:
            # An empty part would be one of a stream that never ends.
            if part.total_bytes != answer_bytes or not 0 < len(part.data) <= answer_bytes - len(found):
                raise self._not_as_asked(f"an answer of {part.total_bytes} bytes where the plan has {answer_bytes}")
            found += part.data
        if len(found) != answer_bytes:
            raise self._not_as_asked(f"{len(found)} bytes of an answer of {answer_bytes}")
        return bytes(found)

    def _not_as_asked(self, what: str) -> ConfideError:
        return ConfideError(ErrorCode.BAD_FRAME, f"{self.party} sent {what}", party=self.party)

    def _state(self, said: encrypted_pb2.EnquiryStatus) -> EnquiryState:
        try:
            expires = datetime.fromisoformat(said.expires).astimezone(UTC)
        except (ValueError, OverflowError) as error:  # the latter at the first and last day that there is
            raise self._not_as_asked("an enquiry without the time of its end") from error
        return EnquiryState(
            enquiry_id=clean_text(said.enquiry_id),
            open=said.open,
            reason=clean_text(said.reason),
            answers_left=said.answers_left,
            key_bytes=said.key_bytes,
            expires=expires,
        )


def _question(enquiry_id: str, request: str, query: bytes | str, *, keep: bool) -> encrypted_pb2.AskEncryptedRequest:
    said = {"query": query} if isinstance(query, bytes) else {"query_digest": query}
    return encrypted_pb2.AskEncryptedRequest(enquiry_id=enquiry_id, request=request, keep=keep, **said)
