"""EncryptedInferenceService: a researcher's encrypted queries to the models that this party has published.

An enquiry is bound to who asks: TLS has authenticated the caller, and only the researcher who signed it may upload, ask, fetch or
end it. To everybody else it does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator

from parties.server.access import caller
from parties.server.encrypted.desk import EnquiryDesk
from parties.server.encrypted.keys import MAX_PART_BYTES
from parties.server.encrypted.listing import page
from parties.server.encrypted.said import Asked, Part, Standing
from parties.server.party import Party
from parties.wire import methods
from parties.wire.documents import from_wire
from parties.wire.generated.confide.v1 import encrypted_pb2
from parties.wire.methods import Handlers


class EncryptedInferenceService:
    """EncryptedInferenceService: what queriers ask of published models."""

    def __init__(self, party: Party, desk: EnquiryDesk) -> None:
        self._party = party
        self._desk = desk

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        return dict(
            (
                methods.LIST_PUBLISHED.unary_handler(self.list_published),
                methods.OPEN_ENQUIRY.unary_handler(self.open_enquiry),
                methods.GET_ENQUIRY.unary_handler(self.get_enquiry),
                methods.PUT_PART.unary_handler(self.put_part),
                methods.ASK_ENCRYPTED.stream_handler(self.ask_encrypted),
                methods.FETCH_ANSWER.stream_handler(self.fetch_answer),
                methods.END_ENQUIRY.unary_handler(self.end_enquiry),
            )
        )

    def list_published(self, request: encrypted_pb2.ListPublishedRequest) -> encrypted_pb2.ListPublishedReply:
        """Tells what is published and not withdrawn, the latest first, a page at a time."""
        with self._party.database.transaction() as tables:
            records = tables.encrypted.models()
        return page(records, party=self._party.id, model=request.model, after=request.after, now=self._party.now())

    def open_enquiry(self, request: encrypted_pb2.OpenEnquiryRequest) -> encrypted_pb2.EnquiryStatus:
        """Decides an enquiry."""
        return _status(self._desk.open(from_wire(request.enquiry), caller().id))

    def get_enquiry(self, request: encrypted_pb2.GetEnquiryRequest) -> encrypted_pb2.EnquiryStatus:
        """Tells how an enquiry stands."""
        return _status(self._desk.standing(request.enquiry_id, caller().id))

    def put_part(self, request: encrypted_pb2.PutPartRequest) -> encrypted_pb2.PutPartReply:
        """Takes a part of a large message."""
        part = Part(request.digest, request.total_bytes, request.offset, request.data)
        return encrypted_pb2.PutPartReply(received=self._desk.put(request.enquiry_id, part, caller().id))

    def ask_encrypted(self, request: encrypted_pb2.AskEncryptedRequest) -> Iterator[encrypted_pb2.AnswerPart]:
        """Answers a query, or begins to."""
        asked = Asked(request.enquiry_id, request.request, request.query, request.query_digest)
        if request.keep:
            self._desk.keep(asked, caller().id)
            yield encrypted_pb2.AnswerPart()
            return
        yield from _parts(self._desk.ask(asked, caller().id))

    def fetch_answer(self, request: encrypted_pb2.FetchAnswerRequest) -> Iterator[encrypted_pb2.AnswerPart]:
        """Hands out an answer that was kept."""
        yield from _parts(self._desk.fetch(request.enquiry_id, request.request, caller().id))
        self._desk.sent(request.enquiry_id, request.request)

    def end_enquiry(self, request: encrypted_pb2.EndEnquiryRequest) -> encrypted_pb2.EnquiryStatus:
        """Ends an enquiry."""
        return _status(self._desk.end(request.enquiry_id, caller().id))


def _parts(answer: bytes) -> Iterator[encrypted_pb2.AnswerPart]:
    for start in range(0, len(answer), MAX_PART_BYTES):
        yield encrypted_pb2.AnswerPart(total_bytes=len(answer), data=answer[start : start + MAX_PART_BYTES])


def _status(standing: Standing) -> encrypted_pb2.EnquiryStatus:
    return encrypted_pb2.EnquiryStatus(
        enquiry_id=standing.enquiry_id,
        open=standing.is_open,
        reason=standing.reason,
        answers_left=standing.answers_left,
        key_bytes=standing.key_bytes,
        expires=standing.expires.isoformat(),
    )
