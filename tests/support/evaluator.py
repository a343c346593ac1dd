"""A model's owner in the same process: real plans, keys and ciphertexts, its enquiries and uploads kept in memory."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np

from governance.documents import SignedDocument
from governance.encrypted.enquiry import Enquiry, verify_enquiry
from governance.encrypted.published import PublishedModel, sign_published
from governance.identity.names import MemberKind, PeerIdentity
from parties.client.client import Client
from parties.client.encrypted.evaluator import EnquiryState
from parties.client.encrypted.published import EncryptedModel, verified
from parties.client.records import JobRecords
from parties.storage.state import Member
from parties.worker.evaluating import LoadedModel
from protocols.canonical import sha256_hex
from protocols.ckks.lanes import plan_lanes
from protocols.ckks.latency_planning import Declared
from protocols.errors import ConfideError, ErrorCode
from protocols.model import reference
from protocols.model.layers import Linear, Sigmoid
from protocols.model.spec import ModelSpec
from tests.support.encrypted_models import Float64, random_weights
from tests.support.members import World, a_world

FEATURES = ("age", "height", "pulse", "weight")
SPEC = ModelSpec.chain(len(FEATURES), linear=Linear(1), sigmoid=Sigmoid())
WEIGHTS = random_weights(SPEC)
AGREEMENT, PURPOSE = "ab" * 32, "prognosis"
OWNER, RESEARCHER = "hospital-a", "alice"


@cache
def a_consortium() -> World:
    """One for all tests; nothing changes it."""
    return a_world()


def a_client(folder: Path) -> Client:
    """The researcher's client; it is connected to nobody."""
    world = a_consortium()
    member = Member(
        identity=PeerIdentity(MemberKind.RESEARCHER, world.directory.consortium, RESEARCHER),
        signing_key=world.alice.signing,
        tls_key=world.alice.tls,
        certificate=world.certificate_of(RESEARCHER),
        directory=world.directory,
    )
    return Client(member, JobRecords(folder / "jobs"))


def signed(published: PublishedModel) -> SignedDocument:
    """A description with the owner's signature."""
    return sign_published(published, a_consortium().hospital_a.signing)


@cache
def a_published_model() -> EncryptedModel:
    """A logistic regression of four features in all lanes, as a researcher has verified it."""
    lanes = plan_lanes(SPEC, WEIGHTS, Declared(-1.0, 1.0), lanes=("latency", "packed", "batch"), decimals=2)
    now = datetime.now(UTC).replace(microsecond=0)
    published = PublishedModel(
        consortium=a_consortium().directory.consortium,
        issuer=OWNER,
        name="diagnosis",
        commitment="c" * 64,
        plans={lane: plan.to_document() for lane, plan in lanes.plans.items()},
        features=FEATURES,
        ranges=(("0", "100"), ("100", "200"), ("40", "140"), ("30", "130")),
        outputs=("malignant",),
        client_activation="sigmoid",
        decimals=lanes.decimals,
        known_after=5,
        key_lifetime_s=3600,
        valid_from=now - timedelta(hours=1),
        expires=now + timedelta(days=1),
    )
    return verified(signed(published), party=OWNER, directory=a_consortium().directory)


@cache
def loaded(lane: str) -> LoadedModel:
    """The model in an evaluator's memory."""
    return LoadedModel(a_published_model().plan(lane), SPEC, WEIGHTS)


def samples(count: int, seed: int = 3) -> Float64:
    """Samples within the ranges of the published model."""
    low, high = np.array([[float(end) for end in ends] for ends in a_published_model().published.ranges]).T
    return np.random.default_rng(seed).uniform(low, high, (count, len(FEATURES)))


def plain(rows: Float64) -> Float64:
    """What the model says of samples without any encryption."""
    low, high = np.array([[float(end) for end in ends] for ends in a_published_model().published.ranges]).T
    logits = reference.logits(SPEC, WEIGHTS, 2 * (rows - low) / (high - low) - 1)
    return np.asarray(1 / (1 + np.exp(-logits)), np.float64)


class MemoryEvaluator:
    """An `Evaluator` without a network.

    Attributes:
        failures: what the next calls fail with, by name of the call; a call without one goes through.
        calls: names of the calls that came, in order.
        parts: sizes of the parts that came.
        debited: requests whose answers were kept, in order.
    """

    def __init__(self, party: str = OWNER) -> None:
        self.party = party
        self.failures: dict[str, deque[ConfideError | None]] = {}
        self.calls: list[str] = []
        self.parts: list[int] = []
        self.enquiries: dict[str, Enquiry] = {}
        self.ended: list[str] = []
        self.uploads: dict[str, bytearray] = {}
        self.kept: dict[str, bytes] = {}
        self.debited: list[str] = []

    def open(self, enquiry: SignedDocument) -> EnquiryState:
        self._called("open")
        read = verify_enquiry(enquiry, a_consortium().directory)
        self.enquiries[read.enquiry_id] = read
        return self.state(read.enquiry_id)

    def state(self, enquiry_id: str) -> EnquiryState:
        self._called("state")
        enquiry = self.enquiries[enquiry_id]
        have = len(self.uploads.get(enquiry.key, b""))
        return EnquiryState(enquiry_id, enquiry_id not in self.ended, "", enquiry.max_answers, have, enquiry.expires)

    def put(self, enquiry_id: str, digest: str, *, total: int, offset: int, data: bytes) -> int:
        self._called("put")
        have = self.uploads.setdefault(digest, bytearray())
        if offset > len(have) or offset + len(data) > total:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "parts come in order")
        self.parts.append(len(data))
        have += data[len(have) - offset :]
        if len(have) == total and sha256_hex(bytes(have)) != digest:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "not the message of this digest")
        return len(have)

    def ask(self, enquiry_id: str, request: str, query: bytes | str, *, answer_bytes: int) -> bytes:
        self._called("ask")
        enquiry = self.enquiries[enquiry_id]
        model = loaded(enquiry.lane)
        message = query if isinstance(query, bytes) else bytes(self.uploads[query])
        return model.answer(message, model.load_keys(bytes(self.uploads[enquiry.key])), os.urandom)

    def ask_and_keep(self, enquiry_id: str, request: str, query: bytes | str) -> None:
        if request in self.debited:
            raise ConfideError(ErrorCode.JOB_CONFLICT, "an id serves once")
        self.kept[request] = self.ask(enquiry_id, request, query, answer_bytes=0)
        self.debited.append(request)

    def fetch(self, enquiry_id: str, request: str, *, answer_bytes: int) -> bytes:
        self._called("fetch")
        return self.kept.pop(request)

    def end(self, enquiry_id: str) -> EnquiryState:
        self._called("end")
        self.ended.append(enquiry_id)
        return replace(self.state(enquiry_id), reason="asked for")

    def _called(self, name: str) -> None:
        self.calls.append(name)
        waiting = self.failures.get(name)
        failure = waiting.popleft() if waiting else None
        if failure is not None:
            raise failure
