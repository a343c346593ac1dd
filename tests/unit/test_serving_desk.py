"""The desk of a serving: what it lets in, what it refuses and with which words, and what becomes of a query under way."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from parties.server.desk import MAX_SHARE_BYTES, MAX_WAITING, Answer, Desk, Desks, Query
from parties.server.serving_log import ServingLog
from parties.storage.database import Database
from parties.storage.jobs import JobRecord
from parties.storage.serving import QueryRecord, Served
from parties.worker.channel import Channel, Parcel
from parties.worker.serving import _listen
from parties.worker.serving_desk import ServingDesk
from protocols.commitments import bound_query
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Serving
from protocols.plan.plan import Plan
from tests.support.databases import a_database
from tests.support.jobs import a_serving

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FEATURES = 3
JOB = a_serving(serving=Serving(block_rows=4, max_queries=3, max_rows=10, idle_s=60, lifetime_s=600, rekey_s=300))
COMMITMENTS = {"hospital-a": "aa" * 32, "hospital-b": "bb" * 32}
PLAN = cast(Plan, SimpleNamespace(outputs=(SimpleNamespace(name="prediction", scale_bits=0),)))


class Log:
    """A log that keeps at once, or when it is told to."""

    def __init__(self) -> None:
        self.kept: list[QueryRecord] = []
        self.taken_back: list[str] = []
        self.outcome: ConfideError | None = None

    def keep(self, _job: Job, _plan: Plan, record: QueryRecord) -> Future[None]:
        self.kept.append(record)
        found: Future[None] = Future()
        if self.outcome is None:
            found.set_result(None)
        else:
            found.set_exception(self.outcome)
        return found

    def take_back(self, _job_id: str, query: str) -> None:
        self.taken_back.append(query)


class World:
    """A desk with a worker that says what the test has it say."""

    def __init__(self, database: Database, job: Job = JOB) -> None:
        with database.transaction() as tables:
            tables.jobs.add(JobRecord(job.job_id, "alice", job.to_bytes(), bytes(64), None, "{}", "running", NOW, NOW))
        self.clock = [NOW]
        party = SimpleNamespace(id="hospital-a", database=database, now=lambda: self.clock[0])
        self.database, self.job, self.log = database, job, Log()
        self.desk = Desk(cast(Any, party), job, PLAN, cast(ServingLog, self.log))
        self.said: list[tuple[Mapping[str, object], Mapping[str, bytes]]] = []
        self.answers: Callable[[str], None] = self.answer
        self.desk.connect(self._hear)

    def warm(self) -> Desk:
        self.desk.heard(Parcel({"event": "serving"}))
        return self.desk

    def answer(self, query: str) -> None:
        """What the worker says of a query, by the name that it was given."""
        header = {"event": "answer", "query": query, "rows": 2, "shape": [2], "commitments": COMMITMENTS}
        self.desk.heard(Parcel(header, {"output": b"share", "nonce": bytes(32)}))

    def refuse(self, query: str) -> None:
        self.desk.heard(Parcel({"event": "refused", "query": query, "code": "DEADLINE_PASSED", "what": "not held by all"}))

    def left(self) -> tuple[int, int]:
        standing = self.desk.standing()
        return standing.queries_left, standing.rows_left

    def _hear(self, header: Mapping[str, object], blobs: Mapping[str, bytes]) -> None:
        self.said.append((header, blobs))
        if header["type"] == "query":
            self.answers(str(header["query"]))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = a_database(tmp_path / "confide.db")
    yield World(database)
    database.close()


def a_query(num_rows: int = 2, **changes: Any) -> Query:
    made = Query(secrets.token_hex(16), num_rows, "cd" * 32, bytes(8 * FEATURES * num_rows))
    return replace(made, **changes)


def refused(code: ErrorCode, what: str = "") -> pytest.RaisesExc[ConfideError]:
    return pytest.RaisesExc(ConfideError, check=lambda error: error.code is code and what in error.what)


def test_ask_hands_the_share_to_the_worker_and_the_answer_back_once_the_query_is_kept(world: World) -> None:
    query = a_query(share=bytes(range(48)))
    assert world.warm().ask(query) == Answer(b"share", bytes(32), (2,), 0, COMMITMENTS)
    name = bound_query(query.query, query.commitment)
    assert world.said == [({"type": "query", "query": name, "rows": 2}, {"share": bytes(range(48))})]
    assert world.log.kept == [QueryRecord(world.job.job_id, query.query, 2, "cd" * 32, NOW)]
    assert world.left() == (2, 8)


def test_ask_before_the_model_is_open_is_not_ready(world: World) -> None:
    with refused(ErrorCode.NOT_READY, "not warm yet"):
        world.desk.ask(a_query())
    assert world.log.kept == []
    assert not world.desk.standing().warm


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (a_query(query="ab"), ErrorCode.INVALID_ARGUMENT),
        (a_query(query="AB" * 16), ErrorCode.INVALID_ARGUMENT),
        (a_query(commitment="cd"), ErrorCode.INVALID_ARGUMENT),
        (a_query(num_rows=0), ErrorCode.INVALID_ARGUMENT),
        (a_query(share=bytes(8)), ErrorCode.INVALID_ARGUMENT),
        (a_query(num_rows=MAX_SHARE_BYTES // (8 * FEATURES) + 1), ErrorCode.TOO_LARGE),
    ],
)
def test_ask_what_is_no_query_is_refused_and_costs_nothing(world: World, query: Query, code: ErrorCode) -> None:
    with refused(code):
        world.warm().ask(query)
    assert (world.left(), world.said, world.log.kept) == ((3, 10), [], [])


def test_ask_beyond_the_quota_says_what_is_left(world: World) -> None:
    desk = world.warm()
    desk.ask(a_query(7))
    with refused(ErrorCode.QUOTA_EXHAUSTED, "a query of 4 row(s); 2 queries and 3 rows are left"):
        desk.ask(a_query(4))
    desk.ask(a_query(1))
    desk.ask(a_query(1))
    with refused(ErrorCode.QUOTA_EXHAUSTED, "0 queries and 1 rows"):
        desk.ask(a_query(1))


def test_ask_again_under_the_same_id_is_refused(world: World) -> None:
    query = a_query()
    world.warm().ask(query)
    with refused(ErrorCode.JOB_CONFLICT, query.query):
        world.desk.ask(query)
    assert len(world.said) == 1


def test_query_that_the_worker_refuses_is_given_back_to_the_quota(world: World) -> None:
    world.answers = world.refuse
    with refused(ErrorCode.DEADLINE_PASSED, "not held by all"):
        world.warm().ask(a_query())
    assert world.left() == (3, 10)
    assert world.log.taken_back == [record.query for record in world.log.kept]


def test_queries_that_the_worker_refuses_are_bounded_so_that_no_log_is_filled_for_nothing(world: World) -> None:
    desk, world.answers = world.warm(), world.refuse
    for _ in range(64):
        with refused(ErrorCode.DEADLINE_PASSED):
            desk.ask(a_query())
    with refused(ErrorCode.QUOTA_EXHAUSTED, "64 queries"):
        desk.ask(a_query())
    assert len(world.log.kept) == 64


def test_query_after_the_lifetime_is_refused_whatever_the_lead_does(world: World) -> None:
    desk = world.warm()
    world.clock[0] = NOW + timedelta(seconds=599)
    desk.ask(a_query())
    world.clock[0] = NOW + timedelta(seconds=600)
    with refused(ErrorCode.NOT_READY, "lifetime"):
        desk.ask(a_query())
    assert len(world.said) == 1


def test_one_query_with_another_commitment_is_another_query_to_the_worker(tmp_path: Path) -> None:
    told = []
    for party, commitment in (("a", "cd" * 32), ("b", "ce" * 32)):
        database = a_database(tmp_path / f"{party}.db")
        world = World(database)
        world.warm().ask(a_query(query="ab" * 16, commitment=commitment))
        told.append(world.said[0][0]["query"])
        database.close()
    assert told[0] != told[1]


def test_answer_of_a_query_that_could_not_be_kept_does_not_leave(world: World) -> None:
    world.log.outcome = ConfideError(ErrorCode.RELEASE_WITHHELD, "rule consent-in-force: the grant was revoked")
    with refused(ErrorCode.RELEASE_WITHHELD, "revoked"):
        world.warm().ask(a_query())


def test_answer_without_a_commitment_of_each_computing_party_is_a_defect(world: World) -> None:
    header = {"event": "answer", "query": "ab" * 16, "shape": [2], "commitments": {"hospital-a": "aa" * 32}}
    with refused(ErrorCode.INTERNAL):
        world.warm().heard(Parcel(header, {"output": b"", "nonce": bytes(32)}))


def test_queries_under_way_fail_when_the_desk_is_closed_and_no_more_than_its_limit_wait(tmp_path: Path) -> None:
    database = a_database(tmp_path / "other.db")
    roomy = a_serving(serving=Serving(4, 100, 1_000, 60, 600, 300))
    world = World(database, roomy)
    asked: list[str] = []
    world.answers = asked.append  # the worker owes them all
    desk = world.warm()
    with ThreadPoolExecutor(MAX_WAITING) as pool:
        waiting = [pool.submit(desk.ask, a_query()) for _ in range(MAX_WAITING)]
        while len(asked) < MAX_WAITING:
            pass  # every thread is on its way to wait
        assert not desk.is_idle
        with refused(ErrorCode.PARTY_BUSY, str(MAX_WAITING)):
            desk.ask(a_query())
        desk.close("the session has failed: a peer is gone")
        for each in waiting:
            with refused(ErrorCode.NOT_READY, "a peer is gone"):
                each.result()
    with refused(ErrorCode.NOT_READY, "a peer is gone"):
        desk.ask(a_query())
    database.close()


def test_drained_worker_closes_the_desk_and_what_was_answered_is_kept(world: World) -> None:
    desk = world.warm()
    desk.ask(a_query())
    desk.heard(Parcel({"event": "drained", "reason": "stopped", "queries": 1, "rows": 2}))
    with world.database.transaction() as tables:
        assert tables.serving.end_of(world.job.job_id) == ("stopped", Served(1, 2))
        assert tables.serving.used(world.job.job_id) == Served(1, 2)
    with refused(ErrorCode.NOT_READY, "the serving has ended: stopped"):
        desk.ask(a_query())


@pytest.mark.parametrize(("queries", "rows"), [(0, 0), (1, 1), (2, 2), (1, 3)])
def test_drained_worker_that_counts_otherwise_than_passed_here_gives_nothing_back(world: World, queries: int, rows: int) -> None:
    desk = world.warm()
    desk.ask(a_query())
    with refused(ErrorCode.INTERNAL):
        desk.heard(Parcel({"event": "drained", "reason": "stopped", "queries": queries, "rows": rows}))
    with world.database.transaction() as tables:
        assert tables.serving.end_of(world.job.job_id) is None


class Meddled(Future[Answer]):
    """A future at whose first look somebody else acts, if nothing keeps him from it."""

    acts: ClassVar[list[Callable[[], None]]] = []

    def done(self) -> bool:
        found = super().done()
        if self.acts:
            acting = Thread(target=self.acts.pop())
            acting.start()
            acting.join(0.2)
        return found


def test_answer_while_the_desk_is_being_closed_is_no_defect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = world.warm()
    monkeypatch.setattr("parties.server.desk.Future", Meddled)
    Meddled.acts.append(lambda: desk.close("a peer is gone"))
    assert desk.ask(a_query()).share == b"share"


def test_desk_that_closes_for_a_party_s_failure_names_it_and_what_to_do(world: World) -> None:
    desk = world.warm()
    lost = ConfideError(ErrorCode.PEER_LOST, "the link to hospital-b ended", party="hospital-b")
    desk.close(f"the session has failed: {lost.what}", accused=lost.party, remedy=lost.remedy)
    with pytest.raises(ConfideError) as caught:
        desk.ask(a_query())
    assert (caught.value.code, caught.value.party) == (ErrorCode.NOT_READY, "hospital-b")
    assert "hospital-b" in caught.value.what
    assert caught.value.remedy == lost.remedy


def test_stop_is_said_to_the_worker_and_has_no_effect_without_one(world: World) -> None:
    world.warm().stop()
    assert world.said == [({"type": "stop"}, {})]
    party = SimpleNamespace(id="hospital-a", now=lambda: NOW)
    Desk(cast(Any, party), JOB, PLAN, cast(ServingLog, Log())).stop()


def test_used_without_an_agreed_end_is_everything_that_was_let_in(world: World) -> None:
    with world.database.transaction() as tables:
        for number, rows in enumerate((2, 3)):
            tables.serving.let_in(QueryRecord(world.job.job_id, f"{number:032x}", rows, "cd" * 32, NOW))
        assert tables.serving.used(world.job.job_id) == Served(2, 5)
        with refused(ErrorCode.JOB_CONFLICT):
            tables.serving.let_in(QueryRecord(world.job.job_id, f"{1:032x}", 1, "cd" * 32, NOW))
        tables.serving.close(world.job.job_id, reason="idle", served=Served(1, 2))
        tables.serving.close(world.job.job_id, reason="later", served=Served(0, 0))
        assert tables.serving.used(world.job.job_id) == Served(1, 2)


def test_operator_s_stop_that_a_worker_does_not_take_holds_up_nobody_else(world: World) -> None:
    said, goes_on = Event(), Event()

    def say(*_: object) -> None:
        said.set()
        goes_on.wait()

    desks = Desks(cast(Any, SimpleNamespace(id="hospital-a", database=world.database, now=lambda: NOW)))
    desks.open(world.job, PLAN).connect(say)
    with world.database.transaction() as tables:
        tables.serving.ask_to_stop(world.job.job_id, NOW)
    looking = Thread(target=desks.obey, daemon=True)
    try:
        looking.start()
        looking.join(10)
        assert not looking.is_alive()
        assert said.wait(10)
    finally:
        goes_on.set()


@pytest.mark.parametrize("defect", [RuntimeError("a defect"), ConfideError(ErrorCode.INTERNAL, "a parcel that is no query")])
def test_worker_that_can_hear_nothing_any_more_ends(monkeypatch: pytest.MonkeyPatch, defect: Exception) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)

    class Broken(ServingDesk):
        def put(self, parcel: Parcel) -> None:
            raise defect

    channel = SimpleNamespace(receive=lambda: Parcel({"type": "query"}))
    with pytest.raises(type(defect)):
        _listen(cast(Channel, channel), Broken(job=JOB, plan=PLAN, party="hospital-a", channel=cast(Channel, channel)))
    assert ended == [1]
