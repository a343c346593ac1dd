"""An owner of models that sends whatever it likes, against the researcher's real client.

The client runs as it is, from the bytes that a connection delivers to the file of answers; the network alone is not there. One
reply of an honest exchange is altered in each case: the listing with its signed descriptions (signed again, so that what is
altered reaches what comes after), the standing of the enquiry, the acceptance of keys, the answer in its parts, or a failure.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_status import rpc_status

from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.encrypted.enquiry import Enquiry
from parties.client.client import Client
from parties.client.encrypted.enquiring import Permission
from parties.client.encrypted.evaluator import RemoteEvaluator
from parties.client.encrypted.inference import ask_request, prepare_request
from parties.client.encrypted.keys import QueryKey, make_key
from parties.client.encrypted.published import EncryptedModel, PublishedEntry, find_published, published_at, verified
from parties.client.encrypted.sample_files import write_answers
from parties.wire.documents import from_wire, to_wire
from parties.wire.generated.confide.v1 import encrypted_pb2
from parties.wire.methods import ASK_ENCRYPTED, END_ENQUIRY, GET_ENQUIRY, LIST_PUBLISHED, OPEN_ENQUIRY, PUT_PART
from parties.wire.status import to_status
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode
from tests.fuzz.ckks import altered
from tests.fuzz.mutations import a_document, a_message, a_recipe, a_stream, on_the_wire
from tests.support.evaluator import (
    AGREEMENT,
    OWNER,
    PURPOSE,
    a_client,
    a_consortium,
    a_published_model,
    loaded,
    samples,
    signed,
)

PART_BYTES = 20_000  # so that an answer has several
ROWS = 2
LANE = "latency"
_ALL_LANES = 0.2  # of cases; the others are quicker
Alter = Callable[[random.Random, str, Any], Any]


class Broken(grpc.RpcError):
    """A call that failed as the owner says; gRPC's own errors have these methods too."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status.code

    def details(self) -> str:
        return self._status.details

    def trailing_metadata(self) -> Any:
        return self._status.trailing_metadata


class Owner:
    """A `grpc.Channel` to an owner that is honest but for one reply.

    Attributes:
        at: which reply is altered, from 0 on.
    """

    def __init__(self, rng: random.Random, model: EncryptedModel, *, at: int) -> None:
        self._rng, self._model, self.at, self._said = rng, model, at, 0

    def unary_unary(self, path: str, write: Callable[[Any], bytes], read: Callable[[bytes], Any]) -> Callable[..., Any]:
        def call(request: Any, *, timeout: float) -> Any:
            reply = _listing(self._model) if path == LIST_PUBLISHED.path else REPLIES[path](request)
            return _delivered(self._altered(reply), read) if self._is_its_turn() else read(reply.SerializeToString())

        return call

    def unary_stream(self, path: str, write: Callable[[Any], bytes], read: Callable[[bytes], Any]) -> Callable[..., Any]:
        def call(request: Any, *, timeout: float) -> Stream:
            parts = _parts(_answer()) if path == ASK_ENCRYPTED.path and not request.keep else [encrypted_pb2.AnswerPart()]
            if not self._is_its_turn():
                return Stream(read(part.SerializeToString()) for part in parts)
            return Stream(self._altered_parts(parts, read))

        return call

    def _is_its_turn(self) -> bool:
        self._said += 1
        return self._said == self.at + 1

    def _altered(self, reply: Message) -> bytes:
        rng = self._rng
        if rng.random() < 0.1:
            raise _failure(rng)
        if isinstance(reply, encrypted_pb2.ListPublishedReply) and rng.random() < 0.8:
            reply.models[0].CopyFrom(to_wire(_signed_again(a_document(rng, reply.models[0].body))))
            return reply.SerializeToString()
        if rng.random() < 0.75:
            return a_message(rng, reply).SerializeToString()
        return on_the_wire(rng, reply.SerializeToString())

    def _altered_parts(self, parts: list[encrypted_pb2.AnswerPart], read: Callable[[bytes], Any]) -> Iterator[Any]:
        rng = self._rng
        match rng.randrange(10):
            case 0:
                raise _failure(rng)
            case 1 | 2:
                parts = list(parts)
                for part in a_stream(rng, parts):
                    yield _delivered(part.SerializeToString(), read)
                    if rng.random() < 0.01:
                        raise _failure(rng)
                return
            case 3:
                for part in parts:
                    yield _delivered(on_the_wire(rng, part.SerializeToString()), read)
                return
        message = altered(_answer(), a_recipe(rng), _others())
        if rng.random() < 0.3:  # as if it were complete
            message = message[: len(_answer())].ljust(len(_answer()), b"\0")
        for part in _parts(message):
            yield _delivered(part.SerializeToString(), read)


class Stream:
    """What a call with a stream returns."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self._parts = iter(parts)

    def __iter__(self) -> Iterator[Any]:
        return self._parts

    def cancel(self) -> None:
        """Ends it."""


class Peers:
    """Connections of which one leads to the owner and all others nowhere."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def channel(self, party: str) -> Any:
        if party == OWNER:
            return self._owner
        raise ConfideError(ErrorCode.PARTY_UNREACHABLE, f"{party} cannot be reached", party=party)

    def close(self) -> None:
        """Closes nothing."""


def run_case(number: int, folder: Path) -> str:
    """Runs one case; returns `taken`, or the code of the refusal. What else it raises is a finding.

    Args:
        number: of the case, from which all follows.
        folder: where the client keeps what it keeps.
    """
    rng = random.Random(f"owner {number}")
    client = a_client(folder)
    sound = a_published_model() if rng.random() < _ALL_LANES else _one_lane()
    client.calls._peers = Peers(Owner(rng, sound, at=rng.randrange(7)))  # type: ignore[assignment]
    key = _key(sound.label)
    key.owner.answers_opened = 0
    client.query_keys[key.published, LANE] = key
    try:
        model = _found(client, rng, sound)
        rows = samples(ROWS) if model.published == sound.published else _rows_within(model.published)
        request = prepare_request(client, model, rows, lane=LANE if LANE in model.plans else None)
        if request.model.plan(request.choice.lane).keys != key.plan.keys:
            return "taken"  # what is taken may need keys that take long to make; what a plan may need is bounded elsewhere
        evaluator = RemoteEvaluator(client.calls, OWNER)
        answers = ask_request(client, evaluator, request, Permission(AGREEMENT, PURPOSE), key=None)
        assert answers.values.shape == (ROWS, len(answers.outputs))
        write_answers(folder / "answers.csv", answers, decimals=model.published.decimals)
        evaluator.state(answers.enquiries[0])
    except ConfideError as error:
        str(error)
        return error.code.name
    return "taken"


REPLIES: dict[str, Callable[[Any], Message]] = {
    OPEN_ENQUIRY.path: lambda request: _opened(request),
    GET_ENQUIRY.path: lambda request: _standing(request.enquiry_id),
    END_ENQUIRY.path: lambda request: _standing(request.enquiry_id),
    PUT_PART.path: lambda request: encrypted_pb2.PutPartReply(received=request.offset + len(request.data)),
}


def _found(client: Client, rng: random.Random, sound: EncryptedModel) -> EncryptedModel:
    """What the client takes for the model: of one party's listing, or of everybody's, which takes threads."""
    label = rng.choice((sound.label, sound.published.name))
    if rng.random() < _ALL_LANES:
        return find_published(client, label)
    models = published_at(client.calls, OWNER, label)
    if not models:
        raise ConfideError(ErrorCode.UNKNOWN_MODEL, "the listing is empty")
    PublishedEntry(models[0], min(models[0].plans)).cells()
    return models[0]


def _listing(model: EncryptedModel) -> encrypted_pb2.ListPublishedReply:
    return encrypted_pb2.ListPublishedReply.FromString(_listed(model.label))


@cache
def _listed(label: str) -> bytes:
    model = next(each for each in (_one_lane(), a_published_model()) if each.label == label)
    return encrypted_pb2.ListPublishedReply(party=OWNER, models=[to_wire(signed(model.published))]).SerializeToString()


@cache
def _one_lane() -> EncryptedModel:
    """The published model in one lane alone: its description is a third as long, and a case takes half as long."""
    published = a_published_model().published
    slim = replace(published, plans={LANE: published.plans[LANE]})
    return verified(signed(slim), party=OWNER, directory=a_consortium().directory)


def _opened(request: encrypted_pb2.OpenEnquiryRequest) -> encrypted_pb2.EnquiryStatus:
    enquiry = Enquiry.from_bytes(from_wire(request.enquiry).body)
    return _standing(enquiry.enquiry_id, expires=enquiry.expires.isoformat())


def _standing(enquiry_id: str, *, expires: str = "2026-03-01T12:00:00+00:00") -> encrypted_pb2.EnquiryStatus:
    return encrypted_pb2.EnquiryStatus(enquiry_id=enquiry_id, open=True, answers_left=8, key_bytes=0, expires=expires)


def _signed_again(body: bytes) -> SignedDocument:
    return sign_bytes(body, kind=DocumentKind.PUBLISHED_MODEL, signer=OWNER, key=a_consortium().hospital_a.signing)


@cache
def _key(label: str) -> QueryKey:
    model = next(each for each in (_one_lane(), a_published_model()) if each.label == label)
    now = datetime.now(UTC)
    return replace(make_key(model.published, LANE, model.plan(LANE), now=now), expires=now + timedelta(days=1))


@cache
def _answer() -> bytes:
    """An honest one; to other samples than are asked about, which nobody can tell."""
    key, model = _key(_one_lane().label), loaded(LANE)
    query = key.encrypt((samples(1) - 100.0) / 1000.0)
    return model.answer(query, model.load_keys(key.message), secrets.token_bytes)


@cache
def _others() -> tuple[bytes, ...]:
    return _key(_one_lane().label).message, _answer()[::-1]


def _parts(message: bytes) -> list[encrypted_pb2.AnswerPart]:
    starts = range(0, len(message), PART_BYTES)
    return [encrypted_pb2.AnswerPart(total_bytes=len(message), data=message[at : at + PART_BYTES]) for at in starts]


def _rows_within(published: Any) -> Any:
    """Samples for a description that was altered and taken: in the middle of every range."""
    plan = a_published_model().plan(LANE)
    width = len(published.features) or plan.num_features
    middles = [(float(low) + float(high)) / 2 for low, high in published.ranges] or [0.0] * width
    return np.tile(np.array(middles), (ROWS, 1))


def _delivered(data: bytes, read: Callable[[bytes], Any]) -> Any:
    """What gRPC makes of bytes: a message, or a failure of the call if they are none."""
    try:
        return read(data)
    except Exception:
        status = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message="Exception deserializing response!")
        raise Broken(rpc_status.to_status(status)) from None


def _failure(rng: random.Random) -> Broken:
    codes = [code for code in ErrorCode if code is not ErrorCode.PARTY_BUSY]  # which is waited out, for two minutes
    status = to_status(ConfideError(rng.choice(codes), "what the owner says", party=OWNER))
    if rng.random() < 0.7:
        status = a_message(rng, status)
    if rng.random() < 0.3:
        status.details.extend(list(status.details) * rng.choice((1, 50)))
    try:
        return Broken(rpc_status.to_status(status))
    except Exception:
        return Broken(rpc_status.to_status(to_status(ConfideError(ErrorCode.INTERNAL, sha256_hex(status.SerializeToString())))))
