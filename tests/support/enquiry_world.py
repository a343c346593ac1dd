"""An institution with a published model, a researcher with keys, and the institution's evaluators; no network."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from governance.audit.entries import EntryKind, read_entry
from governance.budget.amounts import consumer_account, model_account
from governance.budget.ledger import LedgerEntry
from governance.documents import SignedDocument
from governance.encrypted.commitment import commit_model
from governance.encrypted.enquiry import Enquiry, sign_enquiry
from governance.encrypted.grant import sign_encrypted_grant
from governance.encrypted.published import PublishedModel, sign_published
from governance.identity.names import MemberKind, PeerIdentity
from governance.policy.budgets import Budgets
from governance.policy.release import ReleaseTerms
from parties.config import PartyConfig
from parties.server.encrypted.desk import EnquiryDesk
from parties.server.encrypted.keys import MAX_PART_BYTES
from parties.server.encrypted.metrics import EnquiryCollector, EnquiryMetrics
from parties.server.encrypted.said import Asked, Part
from parties.server.party import CurrentDirectory, Party
from parties.server.policy import CurrentPolicy
from parties.server.workers import Template
from parties.storage.sealed import Purpose, SealedFiles, generate_storage_key
from parties.storage.state import Member
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.ckks.engine import Engine
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.lanes import plan_lanes
from protocols.ckks.latency_planning import Declared
from protocols.ckks.planning import EncryptedPlan
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from protocols.model.reference import logits
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors
from tests.support.consent import NOW, ConsentWorld
from tests.support.databases import a_database
from tests.support.encrypted import a_model, a_permission, an_enquiry
from tests.support.encrypted_models import PERCEPTRON, random_weights
from tests.support.holders import ClockedParty
from tests.support.members import Keys, new_keys
from tests.support.people import a_policy

OWNER = "hospital-a"
ORIGIN = ModelRef("prognosis", "0123456789ab")  # its weights were released
SALT = b"s" * 32
REQUEST = "5" * 32
WITHIN_S = 100.0  # evaluators yield to every other process: on a busy machine a second of theirs takes a minute
Float64 = NDArray[np.float64]


class StillPolicy:
    """A policy that only a test changes: the caps in it, and what a release must keep to."""

    def __init__(self) -> None:
        self.budgets = Budgets()
        self.release: ReleaseTerms | None = None

    def get(self) -> Any:
        return replace(a_policy(budgets=self.budgets), release=self.release)


@dataclass(frozen=True, eq=False)
class Asker:
    """A researcher's side: one key for one plan, and the messages made with it."""

    plan: EncryptedPlan
    owner: KeyOwner
    keys: bytes

    @staticmethod
    def of(plan: EncryptedPlan) -> Asker:
        engine = Engine(plan.parameters)
        owner = KeyOwner(engine, engine.make_secret_key(), os.urandom)
        return Asker(plan, owner, owner.evaluation_keys(plan))

    @property
    def key(self) -> str:
        return sha256_hex(self.keys)

    def query(self, rows: Float64) -> bytes:
        return self.owner.encrypt_query(self.plan, rows)

    def opened(self, answer: bytes, num_rows: int) -> Float64:
        return self.owner.open_answer(self.plan, answer, num_rows)


class EnquiryWorld:
    """Hospital A with one published model, a grant for alice and bob, and a desk with real evaluators."""

    def __init__(
        self,
        folder: Path,
        template: Template,
        *,
        spec: ModelSpec = PERCEPTRON,
        origin: ModelRef | None = ORIGIN,
        **config: Any,
    ) -> None:
        self.consent = ConsentWorld()
        self.bob = new_keys()
        founder = self.consent.founder
        self.directory = founder.directory(
            version=4,
            parties=tuple(founder.party(keys, party) for party, keys in self.consent.keys.items()),
            researchers=(
                founder.researcher(self.consent.alice, "alice", institution="hospital-b"),
                founder.researcher(self.bob, "bob", institution="hospital-b"),
            ),
        )
        self.clock = [NOW]
        self.spec, self.weights = spec, random_weights(spec)
        self.policy = StillPolicy()
        self.party = self._party(folder, config)
        self.model = self._publish(origin)
        self.halted: ConfideError | None = None
        self.metrics = CollectorRegistry()
        self._observe = EnquiryMetrics(self.metrics)
        self.begin(template)
        self.metrics.register(EnquiryCollector(lambda: self.desk.figures))
        with self.party.database.transaction() as tables:
            tables.agreements.add(self.consent.agreement, now=NOW)

    def begin(self, template: Template) -> None:
        """Has the party's process begin, with nothing in its memory."""
        self.desk = EnquiryDesk(self.party, template, observe=self._observe, halted=lambda: self.halted)

    def strike_off(self, researcher: str) -> None:
        """Has a directory in force without a researcher."""
        left = tuple(each for each in self.directory.researchers if each.id != researcher)
        self.directory = replace(self.directory, version=self.directory.version + 1, researchers=left)

    def get(self) -> Any:
        """The directory; this world stands for `CurrentDirectory`."""
        return self.directory

    def permit(self, **changes: Any) -> str:
        """Gives a grant for the model, which counts as known unless something else is said; returns its id."""
        wide = {
            "recipients": ("alice", "bob"),
            "max_answers": 1_000_000,
            "max_answers_per_key": 1_000_000,
            "counts_as_known": True,
        }
        grant = a_permission(self.model, **{**wide, **changes})
        signed = sign_encrypted_grant(grant, self.consent.keys[OWNER].signing)
        with self.party.database.transaction() as tables:
            tables.encrypted.add_grant(signed, now=NOW)
        return grant.grant_id

    def asker(self, lane: str = "latency") -> Asker:
        return Asker.of(EncryptedPlan.from_document(self.model.plans[lane]))

    def enquiry(self, asker: Asker, **changes: Any) -> Enquiry:
        return an_enquiry(self.model, **{"key": asker.key, "nonce": os.urandom(16).hex(), **changes})

    def sign(self, enquiry: Enquiry, keys: Keys | None = None) -> SignedDocument:
        return sign_enquiry(enquiry, (keys or self.consent.alice).signing)

    def open(self, asker: Asker, *, upload: bool = True, **changes: Any) -> str:
        """Opens an enquiry of alice's, uploads its keys, and returns its id."""
        enquiry = self.enquiry(asker, **changes)
        enquiry_id = self.desk.open(self.sign(enquiry), "alice").enquiry_id
        if upload:
            self.upload(enquiry_id, asker.keys)
        return enquiry_id

    def upload(self, enquiry_id: str, message: bytes, querier: str = "alice") -> str:
        digest = sha256_hex(message)
        for offset in range(0, len(message), MAX_PART_BYTES):
            self.put(enquiry_id, message, offset, MAX_PART_BYTES, querier=querier)
        return digest

    def put(self, enquiry_id: str, message: bytes, offset: int, size: int, *, querier: str = "alice", **changes: Any) -> int:
        part = Part(sha256_hex(message), len(message), offset, message[offset : offset + size])
        return self.desk.put(enquiry_id, replace(part, **changes), querier)

    def ask(self, enquiry_id: str, query: bytes, *, request: str | None = None, querier: str = "alice") -> bytes:
        return self.desk.ask(self.asked(enquiry_id, query, request=request), querier)

    def asked(self, enquiry_id: str, query: bytes, *, request: str | None = None) -> Asked:
        request = request or os.urandom(16).hex()
        if len(query) > MAX_PART_BYTES:
            return Asked(enquiry_id, request, b"", self.upload(enquiry_id, query))
        return Asked(enquiry_id, request, query, "")

    def rows(self, count: int = 1) -> Float64:
        return np.random.default_rng(4).uniform(-1, 1, (count, self.spec.input_features))

    def expected(self, rows: Float64) -> Float64:
        """The outputs before the activation that is left to whoever asks."""
        return np.asarray(logits(self.spec, self.weights, rows), np.float64)

    def ledger(self) -> tuple[LedgerEntry, ...]:
        with self.party.database.transaction() as tables:
            return tables.ledger.of_account(model_account(self.model.ref))

    def told(self, querier: str = "alice") -> tuple[LedgerEntry, ...]:
        """What one researcher was told by the model."""
        with self.party.database.transaction() as tables:
            return tables.ledger.of_account(consumer_account(querier, self.model.ref))

    def close(self) -> None:
        self.desk.stop()
        self.party.database.close()

    def _publish(self, origin: ModelRef | None) -> PublishedModel:
        keys = self.consent.keys[OWNER].signing
        lanes = plan_lanes(self.spec, self.weights, Declared(-1.0, 1.0, 16.0), lanes=())
        manifest, weights = canonical_bytes(self.spec.to_document()), weights_to_safetensors(self.weights, self.spec)
        model = a_model(
            plans={lane: plan.to_document() for lane, plan in lanes.plans.items()},
            commitment=commit_model(manifest, weights, salt=SALT),
            features=(),
            outputs=tuple(f"output-{number}" for number in range(self.spec.output_features)),
            known_after=lanes.known_after,
            origin=origin,
        )
        name = self.party.sealed.write(Purpose.PUBLISHED_MODEL, model.ref.label, weights)
        with self.party.database.transaction() as tables:
            tables.encrypted.publish(sign_published(model, keys), manifest=manifest, salt=SALT, sealed_name=name, now=NOW)
        return model

    def _party(self, folder: Path, config: dict[str, Any]) -> Party:
        (folder / "sealed").mkdir(parents=True)
        chosen = {"evaluator_workers": 2, "evaluator_memory_mib": 1024, **config}
        configured = PartyConfig(api_version="confide.party/1", party=OWNER, listen="localhost:1", state=folder, **chosen)
        keys = self.consent.keys[OWNER]
        return ClockedParty(
            configured,
            Member(PeerIdentity(MemberKind.PARTY, "cardio", OWNER), keys.signing, keys.tls, "", self.directory),
            a_database(configured.folder.database_file),
            SealedFiles(folder / "sealed", generate_storage_key()),
            cast(CurrentDirectory, self),
            cast(CurrentPolicy, self.policy),
            self.clock,
        )

    def at(self, time: datetime) -> None:
        self.clock[0] = time


@contextmanager
def running_template(folder: Path) -> Iterator[Template]:
    """The process that evaluators are forked from."""
    template = Template(folder / "worker.log")
    try:
        _await_birth(template)
        yield template
    finally:
        template.stop()


def _await_birth(template: Template) -> None:
    # It loads its libraries first, and a party does not wait for that as long as a busy machine may take.
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            template.fork().stop()
        except ConfideError:
            assert time.monotonic() < deadline, "no worker can be started"
        else:
            return


def entries(world: EnquiryWorld, kind: EntryKind) -> list[dict[str, Any]]:
    """The facts of all entries of a kind in the audit log, the oldest first."""
    with world.party.database.transaction() as tables:
        found = [read_entry(each.body) for each in tables.audit.entries(0, tables.audit.size())]
    return [dict(entry.facts) for entry in found if entry.kind is kind]


def at_once(count: int, ask: Callable[[int], object]) -> list[object]:
    """Calls in threads that begin together; returns results and failures."""
    ready = threading.Barrier(count)

    def call(number: int) -> object:
        ready.wait(WITHIN_S)
        try:
            return ask(number)
        except ConfideError as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(call, range(count)))


def codes(outcomes: list[object]) -> list[str]:
    """How calls ended, in order of the alphabet."""
    return sorted(each.code.name if isinstance(each, ConfideError) else "answered" for each in outcomes)


def evaluators(world: EnquiryWorld) -> list[int]:
    """The evaluators of a world: the workers that were forked for it, by their channel's other end."""
    pool = world.desk._pool
    assert pool is not None
    return [each._worker.pid for each in pool._idle]


def hold_evaluators(world: EnquiryWorld) -> list[int]:
    """Stops them, as a machine does that swaps."""
    found = evaluators(world)
    assert found
    for evaluator in found:
        os.kill(evaluator, signal.SIGSTOP)
    return found


def await_evaluation(world: EnquiryWorld) -> None:
    """Waits until a request has an evaluator: it was let in, and what it asks is what the evaluator does next."""
    pool, deadline = world.desk._pool, time.monotonic() + WITHIN_S
    assert pool is not None
    while not any(list(pool._under_way.values())):
        assert time.monotonic() < deadline, "nothing is evaluated"
        time.sleep(0.01)


def fetched(world: EnquiryWorld, enquiry_id: str) -> bytes:
    """Waits for the answer to `REQUEST` and fetches it."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            return world.desk.fetch(enquiry_id, REQUEST, "alice")
        except ConfideError as error:
            if error.code is not ErrorCode.NOT_READY or "computed" not in error.what:
                raise
        time.sleep(0.01)
    raise AssertionError("the answer is not computed")
