"""A party's session loop with a real database and sealed files, whose peers and workers are nowhere."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, cast

import grpc
import sqlalchemy.exc
from sqlalchemy import Connection, event

from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.identity.names import MemberKind, PeerIdentity
from governance.policy.rules import Kind
from parties.config import PartyConfig
from parties.policy_file import write_policy
from parties.server.budgets import reserve_budget
from parties.server.courier import JobPapers
from parties.server.desk import Desks
from parties.server.intake import CheckedJob
from parties.server.party import CurrentDirectory, Party
from parties.server.policy import CurrentPolicy
from parties.server.sessions import Sessions
from parties.server.terms import refusal
from parties.server.workers import Template, Worker
from parties.storage.database import Database
from parties.storage.sealed import SealedFiles, generate_storage_key
from parties.storage.state import Member
from parties.transport.peers import Peers
from parties.transport.streams import LinkTable
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session import events as ev
from protocols.session.messages import Body, SessionMessage
from protocols.session.states import State
from tests.support.databases import a_database
from tests.support.jobs import a_training, an_evaluation
from tests.support.members import a_world

PARTY = "hospital-a"
CHECKED = CheckedJob(b'{"plan":1}', 300 << 20)


class FullDisk:
    """Lets a database's transactions fail as SQLite does on a full disk: reading works, committing a change does not."""

    def __init__(self, database: Database) -> None:
        self.full = False
        self.full_after: int | None = None  # so many changes later it is full
        self._changes: dict[int, int] = {}
        event.listen(database._engine, "begin", self._begins)
        event.listen(database._engine, "commit", self._commits)

    def _begins(self, connection: Connection) -> None:
        self._changes[id(connection)] = _total_changes(connection)

    def _commits(self, connection: Connection) -> None:
        if _total_changes(connection) == self._changes[id(connection)]:
            return
        if self.full_after is not None:
            self.full, self.full_after = self.full_after == 0, self.full_after - 1 if self.full_after else None
        if self.full:
            raise sqlalchemy.exc.OperationalError("COMMIT", {}, Exception("database or disk is full"))


class Nowhere:
    """Peers that cannot be reached."""

    def channel(self, party: str) -> grpc.Channel:
        raise ConfideError(ErrorCode.PARTY_UNREACHABLE, party=party)


class NoWorkers:
    """A template that lets everybody wait for a worker until the test is over."""

    def __init__(self) -> None:
        self.over = Event()

    def fork(self) -> Worker:
        self.over.wait()
        raise ConfideError(ErrorCode.WORKER_LOST, "there is none")


def _policy_file(folder: Path) -> Path:
    path = folder / "policy.yaml"
    write_policy(path, decision=Kind.AUTOMATIC, training_without_guarantee="as_rules_say")
    return path


class LoopWorld:
    """One party's loop, and what a test needs to feed it."""

    def __init__(self, folder: Path, **config: Any) -> None:
        people = a_world()
        self.keys = {PARTY: people.hospital_a, "alice": people.alice}
        identity = PeerIdentity(MemberKind.PARTY, "cardio", PARTY)
        member = Member(identity, people.hospital_a.signing, people.hospital_a.tls, "", people.directory)
        self.database = a_database(folder / "confide.db")
        self.disk = FullDisk(self.database)
        (folder / "sealed").mkdir()
        self.party = Party(
            PartyConfig(api_version="confide.party/1", party=PARTY, listen="localhost:1", state=folder, **config),
            member,
            self.database,
            SealedFiles(folder / "sealed", generate_storage_key()),
            cast(CurrentDirectory, None),
            CurrentPolicy(_policy_file(folder)),
        )
        self.health: queue.Queue[bool] = queue.Queue()
        self.checks: list[str] = []
        self.workers = NoWorkers()
        self.sessions = self._loop()

    def restart(self) -> None:
        """Ends the loop and begins another one on the same folder."""
        self.sessions.stop()
        self.workers.over.set()
        self.workers = NoWorkers()
        self.sessions = self._loop()
        self.sessions.start()

    def a_job(self, **changes: Any) -> Job:
        now = datetime.now(UTC).replace(microsecond=0)
        return a_training(
            **{"created": now, "agree_by": now + timedelta(minutes=2), "expires": now + timedelta(minutes=30)} | changes
        )

    def an_evaluation(self, **changes: Any) -> Job:
        now = datetime.now(UTC).replace(microsecond=0)
        return an_evaluation(
            **{"created": now, "agree_by": now + timedelta(minutes=2), "expires": now + timedelta(minutes=30)} | changes
        )

    def propose(self, job: Job, *, checked: CheckedJob | ConfideError = CHECKED) -> None:
        signed = sign_bytes(job.to_bytes(), kind=DocumentKind.JOB, signer="alice", key=self.keys["alice"].signing)
        self.sessions.propose(job, JobPapers(signed, b""), query_share=None, checked=checked)
        while self.sessions.stores and not self._answered(job):  # its consent comes back as an event
            time.sleep(0)

    def _answered(self, job: Job) -> bool:
        shown = self.sessions.status(job.job_id)
        return bool(shown.countersigned_by) or shown.state is not State.PROPOSED

    def deliver(self, job: Job, sender: str, body: Body) -> None:
        """Feeds what another participant says; the loop takes its signature as verified."""
        message = SessionMessage(job.job_id, job.attempt, sender, body)
        signed = SignedDocument(DocumentKind.SESSION_MESSAGE, sender, canonical_bytes(message.to_document()), bytes(64))
        self.sessions.deliver(message, signed)

    def await_health(self, stores: bool) -> None:
        """Waits until the loop has said whether the party can store."""
        assert self.health.get(timeout=20) is stores

    def _accept(self, job: Job, tell: Callable[[ev.Event], None]) -> None:
        """Reserves the budget as a party's acceptance does; nobody cosigns here."""
        try:
            with self.database.transaction() as tables:
                reserve_budget(self.party, tables, job, self.party.now())
        except ConfideError as error:
            tell(refusal(error))
        else:
            tell(ev.JobAccepted(CHECKED.plan_digest, ""))

    def _loop(self) -> Sessions:
        def check(job: Job) -> CheckedJob:
            self.checks.append(job.job_id)
            return CHECKED

        return Sessions(
            self.party,
            peers=cast(Peers, Nowhere()),
            links=LinkTable(),
            template=cast(Template, self.workers),
            check=check,
            accept=self._accept,
            tell_health=self.health.put,
            desks=Desks(self.party),
        )


@contextmanager
def a_loop(folder: Path, **config: Any) -> Iterator[LoopWorld]:
    world = LoopWorld(folder, **config)
    world.sessions.start()
    try:
        yield world
    finally:
        world.disk.full = False
        world.workers.over.set()
        world.sessions.stop()
        world.database.close()


def _total_changes(connection: Connection) -> int:
    raw = cast(Any, connection.connection.dbapi_connection)
    return int(raw.total_changes)
