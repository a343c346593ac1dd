"""Three hospitals in one process: real databases, logs, witnesses and acceptance; calls between them pass through no network.

A call is made in the caller's thread, as the caller that its certificate would name. Links can be cut one way.
"""

from __future__ import annotations

import contextvars
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc

from governance.audit.entries import EntryKind, read_entry
from governance.consent.agreement import Agreement, SignedAgreement, sign_agreement
from governance.consent.grant import DatasetSubject, sign_grant
from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.identity.names import MemberKind, PeerIdentity
from governance.people.person import Person
from governance.policy.rules import Kind
from parties.config import PartyConfig
from parties.policy_file import write_policy
from parties.server import access
from parties.server.acceptance import Acceptance, record_arrival
from parties.server.audit_service import AuditService
from parties.server.party import CurrentDirectory, Party
from parties.server.policy import CurrentPolicy
from parties.server.witnessing import Witnessing
from parties.storage.database import Tables
from parties.storage.datasets import DatasetRecord
from parties.storage.files import write_public
from parties.storage.jobs import JobRecord, PlanRecord
from parties.storage.sealed import SealedFiles, generate_storage_key
from parties.storage.state import Member
from parties.transport.peers import Peers
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.plan.plan import Plan
from protocols.session import events as ev
from tests.support.consent import HOSPITALS, a_grant, an_agreement
from tests.support.databases import a_database
from tests.support.jobs import SCHEMA, a_training
from tests.support.members import Founder, Keys, a_founder, new_keys

WITHIN_S = 30.0


@dataclass
class Clock:
    """The time at all hospitals: that of the machine, and what a test adds."""

    ahead: timedelta = timedelta()


@dataclass(frozen=True)
class _TimedParty(Party):
    clock: Clock

    def now(self) -> datetime:
        return super().now() + self.clock.ahead


@dataclass
class Hospital:
    """One party's objects; `answers` are what its acceptance told."""

    party: Party
    service: AuditService
    witnessing: Witnessing
    acceptance: Acceptance
    peers: Peers
    waiting: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[ev.Event]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.party.id

    @contextmanager
    def tables(self) -> Iterator[Tables]:
        with self.party.database.transaction() as tables:
            yield tables

    def kinds(self) -> list[EntryKind]:
        with self.tables() as tables:
            return [read_entry(entry.body).kind for entry in tables.audit.entries(0, tables.audit.size())]

    def append(self, count: int = 1, *, tag: int = 0) -> None:
        with self.tables() as tables:
            tables.audit.append_many([(EntryKind.ALIAS, {"tag": tag, "number": n}) for n in range(count)], now=self.party.now())

    def start(self) -> None:
        self.witnessing.start()
        self.acceptance.start()

    def stop(self) -> None:
        self.acceptance.stop()
        self.witnessing.stop()

    def pursue(self, job: Job) -> None:
        self.acceptance.pursue(job, self.answers.setdefault(job.job_id, []).append)

    def answer(self, job: Job) -> ev.Event:
        """Waits for what the acceptance says of a job."""
        told = self.answers.setdefault(job.job_id, [])
        await_true(lambda: bool(told))
        return told[0]


class WitnessWorld:
    """See the module."""

    def __init__(self, folder: Path, *, people: tuple[Person, ...] = ()) -> None:
        self.folder = folder
        self.founder: Founder = a_founder()
        self.keys: dict[str, Keys] = {party: new_keys() for party in HOSPITALS}
        self.alice = new_keys()
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.directory = self.founder.directory(
            version=3,
            parties=tuple(self.founder.party(keys, party) for party, keys in self.keys.items()),
            researchers=(self.founder.researcher(self.alice, "alice", institution="hospital-b"),),
        )
        self.clock = Clock()
        self.cut: set[tuple[str, str]] = set()
        self.people = people
        self.hospitals: dict[str, Hospital] = {}
        for party in HOSPITALS:
            self.hospitals[party] = self.open(party, folder / party)

    def __getitem__(self, party: str) -> Hospital:
        return self.hospitals[party]

    def open(self, party: str, state: Path) -> Hospital:
        """Makes a party's objects over a folder, with what is in it already."""
        if not state.exists():
            (state / "sealed").mkdir(parents=True)
            write_public(state / "directory.json", self.founder.signed(self.directory).to_bytes())
            write_public(state / "founder.txt", self.founder.fingerprint.encode())
            decision = Kind.AUTOMATIC
            write_policy(state / "policy.yaml", people=self.people, decision=decision, training_without_guarantee="as_rules_say")
        config = PartyConfig(
            api_version="confide.party/1", party=party, listen="localhost:1", state=state, policy=state / "policy.yaml"
        )
        keys = self.keys[party]
        member = Member(PeerIdentity(MemberKind.PARTY, "cardio", party), keys.signing, keys.tls, "", self.directory)
        current = CurrentDirectory(config.folder.member, self.directory)
        database = a_database(config.folder.database_file)
        sealed = SealedFiles(state / "sealed", generate_storage_key())
        running = _TimedParty(config, member, database, sealed, current, CurrentPolicy(config.policy), self.clock)
        peers = cast(Peers, _Peers(self, party))
        witnessing = Witnessing(running, peers, rolled_back=lambda: None)
        waiting: dict[str, str] = {}
        acceptance = Acceptance(running, witnessing, show=waiting.__setitem__, storage_failed=lambda _: None)
        return Hospital(running, AuditService(running), witnessing, acceptance, peers, waiting)

    def copy(self, party: str, name: str) -> Path:
        """Copies a party's state, as a backup would; nothing is being written meanwhile."""
        return Path(shutil.copytree(self[party].party.config.state, self.folder / name))

    def a_job(self, **changes: Any) -> Job:
        """A training on everybody's rows, which everybody permits."""
        times = {"created": self.now, "agree_by": self.now + timedelta(minutes=2), "expires": self.now + timedelta(minutes=30)}
        return a_training(**times | {"agreement": self.agreement.digest, "computing_parties": HOSPITALS[:2]} | changes)

    @property
    def agreement(self) -> Agreement:
        return an_agreement(valid_from=self.now - timedelta(days=1), expires=self.now + timedelta(days=30))

    def consent(self) -> None:
        """Everybody registers rows, signs the agreement, and issues a grant for a few jobs."""
        signed = SignedAgreement.unsigned(self.agreement.to_bytes())
        for party in HOSPITALS:
            signed = signed.with_signature(sign_agreement(signed.body, party=party, key=self.keys[party].signing))
        for party, hospital in self.hospitals.items():
            with hospital.tables() as tables:
                tables.datasets.add(
                    DatasetRecord(
                        "patients",
                        1,
                        canonical_bytes(SCHEMA),
                        100,
                        {},
                        "c" * 64,
                        "",
                        f"{party}-rows",
                        self.now,
                        None,
                        False,
                        "patients",
                    )
                )
                tables.agreements.add(signed, now=self.now)
                tables.grants.add(self.grant(party), now=self.now)

    def grant(self, party: str) -> SignedDocument:
        grant = a_grant(
            issuer=party,
            agreement=self.agreement.digest,
            subject=DatasetSubject("patients", 1, "c" * 64),
            valid_from=self.now - timedelta(hours=1),
            expires=self.now + timedelta(days=1),
            derived_until=self.now + timedelta(days=10),
        )
        return sign_grant(grant, key=self.keys[party].signing)

    def arrive(self, **changes: Any) -> Job:
        """Makes a job and keeps it with its plan at all parties, as their sessions do before they pursue it."""
        job = self.a_job(**changes)
        plan = plan_of(job)
        signed = sign_bytes(job.to_bytes(), kind=DocumentKind.JOB, signer="alice", key=self.alice.signing)
        for hospital in self.hospitals.values():
            with hospital.tables() as tables:
                tables.jobs.add(
                    JobRecord(job.job_id, "alice", signed.body, signed.signature, None, "{}", "proposed", self.now, self.now)
                )
                record_arrival(hospital.party, tables, job)
                tables.jobs.add_plan(PlanRecord(job.job_id, plan, sha256_hex(plan), 1 << 20))
        return job

    def close(self) -> None:
        for hospital in self.hospitals.values():
            hospital.stop()
            hospital.party.database.close()


@contextmanager
def a_witness_world(folder: Path, **settings: Any) -> Iterator[WitnessWorld]:
    world = WitnessWorld(folder, **settings)
    try:
        yield world
    finally:
        world.close()


def plan_of(job: Job) -> bytes:
    """A plan of the job that computes nothing; what it costs is no matter here."""
    return canonical_bytes(Plan(job.digest, job.computing_parties, job.dealer, (), (), (), ()).to_document())


def await_true(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not met():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0)


class _Peers:
    def __init__(self, world: WitnessWorld, party: str) -> None:
        self._world = world
        self._party = party

    def channel(self, party: str) -> grpc.Channel:
        if (self._party, party) in self._world.cut:
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE, party=party)
        return cast(grpc.Channel, _Channel(self._world[party].service, self._party))


class _Channel:
    def __init__(self, service: AuditService, caller: str) -> None:
        self._handlers = service.handlers()
        self._caller = PeerIdentity(MemberKind.PARTY, "cardio", caller)

    def unary_unary(self, path: str, write: Callable[[Any], bytes], read: Callable[[bytes], Any]) -> Callable[..., Any]:
        handler = self._handlers[path.rsplit("/", 1)[1]]

        def behave(request: Any) -> Any:
            access._caller.set(self._caller)
            return handler.unary_unary(request, None)

        def call(request: Any, *, timeout: float) -> Any:
            assert timeout > 0
            sent = handler.request_deserializer(write(request))
            return read(handler.response_serializer(contextvars.copy_context().run(behave, sent)))

        return call
