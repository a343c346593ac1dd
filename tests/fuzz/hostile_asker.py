"""A researcher who sends whatever she likes, against the owner's real desk with real evaluators.

The service runs as it is, from the bytes that a connection delivers to the bytes of the answer; the network alone is not there.
Each case alters one thing of an honest exchange: a query, evaluation keys (which are then used with an honest query), a signed
enquiry, or any request.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message

from governance.documents import DocumentKind, sign_bytes
from governance.identity.names import MemberKind, PeerIdentity
from parties.server import access
from parties.server.encrypted.service import EncryptedInferenceService
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import encrypted_pb2
from protocols.canonical import sha256_hex
from protocols.ckks.wire import WireShape, decode_answer
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from tests.fuzz.ckks import altered
from tests.fuzz.mutations import a_document, a_message, a_recipe, on_the_wire
from tests.support.enquiry_world import Asker, EnquiryWorld, running_template

WITHIN_S = 60.0
HONEST_EVERY = 50
_SECONDS_A_CASE = 2  # of the party's clock, so that no rate of honest researchers is what refuses a case
_ANSWERS = 600


class Party:
    """An owner with a linear model, and a researcher with an enquiry that is open."""

    def __init__(self, folder: Path) -> None:
        self._open = ExitStack()
        template = self._open.enter_context(running_template(folder))
        self.world = EnquiryWorld(folder / "party", template, spec=ModelSpec.chain(4, linear=Linear(1)))
        self._open.callback(self.world.close)
        self.world.permit(max_requests_per_hour=1_000_000)
        self.service = EncryptedInferenceService(self.world.party, self.world.desk)
        access._caller.set(PeerIdentity(MemberKind.RESEARCHER, "cardio", "alice"))
        self.asker: Asker = self.world.asker()
        self.shape = WireShape.of(self.asker.plan)
        self.enquiry_id = self.world.open(self.asker, max_answers=_ANSWERS)
        self.query = self.asker.query(self.world.rows())

    def close(self) -> None:
        """Ends everything."""
        self._open.close()

    def run_case(self, number: int) -> str:
        """Runs one case; returns `taken`, or the code of the refusal. What else it raises is a finding."""
        rng = random.Random(f"asker {number}")
        self.world.at(self.world.party.now() + timedelta(seconds=_SECONDS_A_CASE))
        self.world.desk.sweep()
        if number % HONEST_EVERY == 0:
            self._ask_honestly()
        act = rng.choice((self._query, self._query, self._keys, self._keys, self._enquiry, self._request))
        try:
            act(rng)
        except ConfideError as error:
            if error.code is ErrorCode.INTERNAL:
                raise AssertionError(f"a defect: {error}") from error
            return error.code.name
        except DecodeError:  # gRPC refuses it
            return "DecodeError"
        return "taken"

    def _query(self, rng: random.Random) -> None:
        message = altered(self.query, a_recipe(rng), (self.asker.keys, self.query[::-1]))
        self._ask(rng, self.enquiry_id, message)

    def _keys(self, rng: random.Random) -> None:
        keys = altered(self.asker.keys, a_recipe(rng), (self.query, self.asker.keys[::-1]))
        enquiry_id = self.world.open(self.asker, upload=False, key=sha256_hex(keys), max_answers=4)
        try:
            self.world.upload(enquiry_id, keys)
            self._ask(rng, enquiry_id, self.query)
        finally:
            self.world.desk.end(enquiry_id, "alice")

    def _enquiry(self, rng: random.Random) -> None:
        body = a_document(rng, self.world.enquiry(self.asker, max_answers=4).to_bytes())
        signed = sign_bytes(body, kind=DocumentKind.ENQUIRY, signer="alice", key=self.world.consent.alice.signing)
        request = encrypted_pb2.OpenEnquiryRequest(enquiry=to_wire(signed))
        self.world.desk.end(self.service.open_enquiry(request).enquiry_id, "alice")

    def _request(self, rng: random.Random) -> None:
        sound, call = rng.choice(self._requests())
        changed = a_message(rng, sound)
        data = changed.SerializeToString() if rng.random() < 0.7 else on_the_wire(rng, sound.SerializeToString())
        reply: Any = call(type(sound).FromString(data))
        if isinstance(reply, Iterator):
            for part in reply:
                part.SerializeToString()
        else:
            reply.SerializeToString()

    def _requests(self) -> list[tuple[Message, Callable[[Any], Any]]]:
        request, service = secrets.token_hex(16), self.service
        part = self.asker.keys[:10_000]
        return [
            (encrypted_pb2.ListPublishedRequest(model=self.world.model.ref.label), service.list_published),
            (encrypted_pb2.GetEnquiryRequest(enquiry_id=self.enquiry_id), service.get_enquiry),
            (encrypted_pb2.FetchAnswerRequest(enquiry_id=self.enquiry_id, request=request), service.fetch_answer),
            (
                encrypted_pb2.AskEncryptedRequest(enquiry_id=self.enquiry_id, request=request, query=self.query),
                service.ask_encrypted,
            ),
            (
                encrypted_pb2.PutPartRequest(
                    enquiry_id=self.enquiry_id, digest=sha256_hex(self.query), total_bytes=len(self.query), data=self.query
                ),
                service.put_part,
            ),
            (
                encrypted_pb2.PutPartRequest(
                    enquiry_id=self.enquiry_id, digest=self.asker.key, total_bytes=len(self.asker.keys), data=part
                ),
                service.put_part,
            ),
        ]

    def _ask(self, rng: random.Random, enquiry_id: str, query: bytes) -> None:
        """Asks, sometimes to fetch it later; whatever is answered has the plan's form, and not a byte more."""
        request = encrypted_pb2.AskEncryptedRequest(enquiry_id=enquiry_id, request=secrets.token_hex(16), query=query)
        if rng.random() < 0.2:
            request.keep = True
        parts = list(self.service.ask_encrypted(request))
        if request.keep:
            parts = self._fetched(enquiry_id, request.request)
        decode_answer(self.shape, b"".join(part.data for part in parts))

    def _fetched(self, enquiry_id: str, request: str) -> list[encrypted_pb2.AnswerPart]:
        deadline = time.monotonic() + WITHIN_S
        while True:
            try:
                return list(self.service.fetch_answer(encrypted_pb2.FetchAnswerRequest(enquiry_id=enquiry_id, request=request)))
            except ConfideError as error:
                if error.code is not ErrorCode.NOT_READY or "computed" not in error.what or time.monotonic() > deadline:
                    raise
            time.sleep(0.005)

    def _ask_honestly(self) -> None:
        """An honest query is answered rightly, whatever came before."""
        enquiry_id = self.world.open(self.asker, max_answers=4)
        rows = self.world.rows()
        answer = self.world.ask(enquiry_id, self.asker.query(rows))
        found, plan = self.asker.opened(answer, len(rows)), self.asker.plan
        assert np.abs(found - self.world.expected(rows)).max() < 8 * plan.precision
        self.world.desk.end(enquiry_id, "alice")
