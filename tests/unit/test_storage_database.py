"""The database: schema check, transactions, and what each store keeps and refuses."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy.exc import StatementError

from parties.storage.database import Database, open_database
from parties.storage.datasets import DatasetRecord
from parties.storage.jobs import CountersignatureRecord, JobRecord, PlanRecord
from parties.storage.models import ModelRecord
from parties.storage.outputs import OpeningRecord, OutputRecord
from parties.storage.tables import SCHEMA_VERSION
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
JOB = JobRecord(
    job_id="ab" * 16,
    querier="alice",
    document=b'{"job":1}',
    signature=bytes(64),
    initial_weights=b"weights",
    snapshot="{}",
    state="PROPOSED",
    created=NOW,
    updated=NOW,
)
SEALED = "0" * 32 + ".sealed"
DATASET = DatasetRecord("tumours", 1, b"{}", 100, {"missing": 2}, "c0" * 32, "", SEALED, NOW, None, False, "tumours")
MODEL = ModelRecord(
    ref=ModelRef("tumours", "abababababab"),
    job_id=JOB.job_id,
    plan_digest="d0" * 32,
    model_document=b"{}",
    schema_document=b"{}",
    sealed_name="1" * 32 + ".sealed",
    commitments={"hospital-a/tumours/1": "c0" * 32},
    created=NOW,
    usable=False,
    steps=40,
)
OUTPUT = OutputRecord(JOB.job_id, "labels", "alice", "2" * 32 + ".sealed", 0, (5, 1), "c" * 64)
GRANT = OpeningRecord("e0" * 16, JOB.job_id, "labels", "alice", NOW)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "confide.db")
    yield opened
    opened.close()


@pytest.fixture
def with_job(database: Database) -> Database:
    with database.transaction() as tables:
        tables.jobs.add(JOB)
    return database


def _refused(code: ErrorCode) -> pytest.RaisesExc[ConfideError]:
    return pytest.RaisesExc(ConfideError, check=lambda error: error.code is code)


# --- the file


def test_database_new_is_closed_to_others_and_opens_again(tmp_path: Path) -> None:
    open_database(tmp_path / "confide.db").close()
    assert stat.S_IMODE((tmp_path / "confide.db").stat().st_mode) == 0o600
    open_database(tmp_path / "confide.db").close()


def test_database_uses_write_ahead_log_foreign_keys_and_full_sync(database: Database) -> None:
    with database._engine.connect() as connection:
        names = ("journal_mode", "foreign_keys", "synchronous", "secure_delete", "busy_timeout")
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "secure_delete": 1, "busy_timeout": 10_000}


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE schema_info SET version = version + 1", f"schema version {SCHEMA_VERSION + 1}"),
        ("UPDATE schema_info SET version = version - 1", f"schema version {SCHEMA_VERSION - 1}"),
        ("DELETE FROM schema_info", "schema version none"),
        ("DROP TABLE schema_info", "not a database of Confide"),
        ("DROP TABLE grants", "grants"),
        ("CREATE TABLE surprise (x)", "surprise"),
    ],
)
def test_database_of_other_schema_is_refused(tmp_path: Path, statement: str, told: str) -> None:
    path = tmp_path / "confide.db"
    open_database(path).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(ConfideError, match=told) as caught:
        open_database(path)
    assert caught.value.code is ErrorCode.STATE_SCHEMA


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "confide.db").write_bytes(b"this is a text and no database " * 100)
    with _refused(ErrorCode.STATE_SCHEMA):
        open_database(tmp_path / "confide.db")


def test_database_in_missing_folder_is_refused(tmp_path: Path) -> None:
    with _refused(ErrorCode.INVALID_ARGUMENT):
        open_database(tmp_path / "missing" / "confide.db")


def test_transaction_that_raises_keeps_nothing(database: Database) -> None:
    def add_and_fail() -> None:
        with database.transaction() as tables:
            tables.jobs.add(JOB)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    with database.transaction() as tables:
        assert tables.jobs.find(JOB.job_id) is None


def test_two_processes_write_one_after_the_other(database: Database, tmp_path: Path) -> None:
    # Each opens the file for itself, as `dataset register` does beside `party serve`; none may fail as busy.
    def register(number: int) -> None:
        other = open_database(tmp_path / "confide.db")
        for _ in range(5):
            with other.transaction() as tables:
                tables.datasets.add(replace(DATASET, name=f"set-{number}", version=tables.datasets.next_version(f"set-{number}")))
        other.close()

    threads = [threading.Thread(target=register, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.transaction() as tables:
        assert [(record.name, record.version) for record in tables.datasets.latest()] == [(f"set-{n}", 5) for n in range(4)]


# --- data sets


def test_dataset_after_round_trip_is_equal(database: Database) -> None:
    with database.transaction() as tables:
        tables.datasets.add(DATASET)
    with database.transaction() as tables:
        assert tables.datasets.get("tumours") == DATASET
        assert tables.datasets.get("tumours", 1) == DATASET


def test_dataset_latest_version_is_found_by_name(database: Database) -> None:
    with database.transaction() as tables:
        for version in (1, 2):
            assert tables.datasets.next_version("tumours") == version
            tables.datasets.add(replace(DATASET, version=version))
        assert tables.datasets.get("tumours").version == 2
        assert [record.version for record in tables.datasets.latest()] == [2]


def test_dataset_version_twice_or_skipped_is_refused(database: Database) -> None:
    with database.transaction() as tables:
        tables.datasets.add(DATASET)
        for version in (1, 3):
            with _refused(ErrorCode.JOB_CONFLICT):
                tables.datasets.add(replace(DATASET, version=version))


def test_dataset_unknown_is_refused(database: Database) -> None:
    with database.transaction() as tables:
        tables.datasets.add(DATASET)
        for name, version in (("absent", None), ("tumours", 2)):
            with _refused(ErrorCode.UNKNOWN_DATASET):
                tables.datasets.get(name, version)


# --- jobs


def test_job_after_round_trip_is_equal(with_job: Database) -> None:
    with with_job.transaction() as tables:
        assert tables.jobs.get(JOB.job_id) == JOB


def test_job_twice_or_unknown_is_refused(with_job: Database) -> None:
    with with_job.transaction() as tables:
        with _refused(ErrorCode.JOB_CONFLICT):
            tables.jobs.add(JOB)
        with _refused(ErrorCode.UNKNOWN_JOB):
            tables.jobs.get("00" * 16)
        with _refused(ErrorCode.UNKNOWN_JOB):
            tables.jobs.save_snapshot("00" * 16, snapshot="{}", state="AGREED", now=NOW)


def test_job_snapshot_is_replaced(with_job: Database) -> None:
    later = NOW + timedelta(seconds=1)
    with with_job.transaction() as tables:
        tables.jobs.save_snapshot(JOB.job_id, snapshot='{"state":2}', state="AGREED", now=later)
        expected = replace(JOB, snapshot='{"state":2}', state="AGREED", updated=later)
        assert tables.jobs.get(JOB.job_id) == expected
    with with_job.transaction() as tables:
        assert tables.jobs.get(JOB.job_id) == expected


def test_jobs_are_listed_by_querier_latest_first(with_job: Database) -> None:
    later = replace(JOB, job_id="cd" * 16, created=NOW + timedelta(seconds=1))
    other = replace(JOB, job_id="ef" * 16, querier="bob", created=NOW + timedelta(seconds=2))
    with with_job.transaction() as tables:
        tables.jobs.add(later)
        tables.jobs.add(other)
        assert tables.jobs.recent(querier="alice", limit=10) == (later, JOB)
        assert tables.jobs.recent_ids(querier="alice", limit=1) == (later.job_id,)
        assert tables.jobs.recent(querier=None, limit=2) == (other, later)


def test_jobs_without_ending_are_those_to_go_on_with(with_job: Database) -> None:
    other = replace(JOB, job_id="cd" * 16)
    with with_job.transaction() as tables:
        tables.jobs.add(other)
        tables.jobs.put_ending(JOB.job_id, b"ended", measured="{}")
        assert tables.jobs.without_ending() == (other,)


def test_ending_is_kept_and_a_later_one_replaces_it(with_job: Database) -> None:
    with with_job.transaction() as tables:
        assert tables.jobs.ending(JOB.job_id) is None
        tables.jobs.put_ending(JOB.job_id, b"aborted: cut off from the others", measured='{"rounds": 7}')
        tables.jobs.put_ending(JOB.job_id, b"completed", measured="{}")
    with with_job.transaction() as tables:
        assert tables.jobs.ending(JOB.job_id) == b"completed"


def test_countersignature_is_kept_once_and_a_second_one_differing_is_refused(with_job: Database) -> None:
    record = CountersignatureRecord(JOB.job_id, "hospital-b", "d0" * 32, b"{}", bytes(64))
    first = replace(record, party="hospital-a")
    with with_job.transaction() as tables:
        tables.jobs.add_countersignature(record)
        tables.jobs.add_countersignature(first)
        tables.jobs.add_countersignature(record)
        assert tables.jobs.countersignatures(JOB.job_id) == (first, record)
        with pytest.raises(ConfideError) as caught:
            tables.jobs.add_countersignature(replace(record, plan_digest="d1" * 32))
    assert caught.value.code is ErrorCode.BAD_SIGNATURE
    assert caught.value.party == "hospital-b"


def test_plan_is_kept_once_and_another_one_is_refused(with_job: Database) -> None:
    plan = PlanRecord(JOB.job_id, b"{}", "d0" * 32, 300 << 20)
    with with_job.transaction() as tables:
        assert tables.jobs.plan(JOB.job_id) is None
        tables.jobs.add_plan(plan)
        tables.jobs.add_plan(plan)
        assert tables.jobs.plan(JOB.job_id) == plan
        with _refused(ErrorCode.PLAN_DIFFERS):
            tables.jobs.add_plan(replace(plan, digest="d1" * 32))


# --- models, outputs, grants


def test_model_is_unknown_until_its_job_completed(with_job: Database) -> None:
    with with_job.transaction() as tables:
        tables.models.add(MODEL)
        with _refused(ErrorCode.UNKNOWN_MODEL):
            tables.models.get(MODEL.ref)
        assert tables.models.usable() == ()
        tables.models.publish(JOB.job_id)
    with with_job.transaction() as tables:
        assert tables.models.get(MODEL.ref) == replace(MODEL, usable=True)
        assert tables.models.usable() == (replace(MODEL, usable=True),)
        assert tables.models.discard(JOB.job_id) == ()


def test_model_of_failed_job_is_forgotten_with_its_file_named(with_job: Database) -> None:
    with with_job.transaction() as tables:
        tables.models.add(MODEL)
        assert tables.models.discard(JOB.job_id) == (MODEL.sealed_name,)
        tables.models.publish(JOB.job_id)
        assert tables.models.usable() == ()


def test_model_twice_is_refused(with_job: Database) -> None:
    with with_job.transaction() as tables:
        tables.models.add(MODEL)
        with _refused(ErrorCode.JOB_CONFLICT):
            tables.models.add(MODEL)


def test_output_after_round_trip_is_equal(with_job: Database) -> None:
    with with_job.transaction() as tables:
        tables.outputs.add(OUTPUT)
    with with_job.transaction() as tables:
        assert tables.outputs.get(JOB.job_id, "labels") == OUTPUT
        assert tables.outputs.of_job(JOB.job_id) == (OUTPUT,)
        with _refused(ErrorCode.UNKNOWN_OUTPUT):
            tables.outputs.get(JOB.job_id, "count")
        with _refused(ErrorCode.JOB_CONFLICT):
            tables.outputs.add(OUTPUT)


@pytest.fixture
def with_grant(with_job: Database) -> Database:
    with with_job.transaction() as tables:
        tables.outputs.add(OUTPUT)
        tables.openings.make(GRANT)
    return with_job


def _use(database: Database, request_id: str, *, recipient: str = "alice", output: str = "labels") -> OpeningRecord:
    with database.transaction() as tables:
        return tables.openings.use_once(JOB.job_id, output, recipient=recipient, request_id=request_id, now=NOW)


def test_grant_is_used_once(with_grant: Database) -> None:
    assert _use(with_grant, "first") == replace(GRANT, used_at=NOW, used_for="first")
    with _refused(ErrorCode.GRANT_USED):
        _use(with_grant, "second")


def test_grant_same_request_again_is_the_same_use(with_grant: Database) -> None:
    first = _use(with_grant, "first")
    assert _use(with_grant, "first") == first


def test_grant_for_other_recipient_or_output_is_refused_and_stays_unused(with_grant: Database) -> None:
    with _refused(ErrorCode.NO_GRANT):
        _use(with_grant, "first", recipient="eve")
    with _refused(ErrorCode.NO_GRANT):
        _use(with_grant, "first", output="count")
    assert _use(with_grant, "second").used_for == "second"
    with _refused(ErrorCode.NO_GRANT):  # not GRANT_USED: she learns nothing about what others fetched
        _use(with_grant, "second", recipient="eve")


def test_grant_used_stays_used_after_reopening(with_grant: Database, tmp_path: Path) -> None:
    _use(with_grant, "first")
    again = open_database(tmp_path / "confide.db")
    with _refused(ErrorCode.GRANT_USED):
        _use(again, "second")
    again.close()


def test_grant_second_for_an_output_is_refused_even_after_use(with_grant: Database) -> None:
    _use(with_grant, "first")
    with with_grant.transaction() as tables:
        for grant in (GRANT, replace(GRANT, opening_id="f0" * 16), replace(GRANT, opening_id="f0" * 16, recipient="eve")):
            with _refused(ErrorCode.JOB_CONFLICT):
                tables.openings.make(grant)


def test_grant_without_output_is_refused(with_job: Database) -> None:
    with with_job.transaction() as tables, _refused(ErrorCode.UNKNOWN_OUTPUT):
        tables.openings.make(GRANT)


def test_grant_asked_for_by_many_at_once_is_given_to_one(with_grant: Database) -> None:
    given: list[str] = []
    refused: list[ErrorCode] = []

    def fetch(request_id: str) -> None:
        try:
            given.append(str(_use(with_grant, request_id).used_for))
        except ConfideError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=fetch, args=(f"request-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 1
    assert refused == [ErrorCode.GRANT_USED] * 7


def test_discarded_outputs_take_their_grants_along(with_grant: Database) -> None:
    with with_grant.transaction() as tables:
        assert tables.outputs.discard(JOB.job_id) == (OUTPUT.sealed_name,)
        assert tables.openings.find(JOB.job_id, "labels") is None
    with _refused(ErrorCode.NO_GRANT):
        _use(with_grant, "first")


def test_time_without_zone_is_refused_and_other_zones_are_converted(with_job: Database) -> None:
    with with_job.transaction() as tables, pytest.raises(StatementError):
        tables.jobs.add(replace(JOB, job_id="cd" * 16, created=NOW.replace(tzinfo=None)))
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    with with_job.transaction() as tables:
        tables.jobs.add(replace(JOB, job_id="cd" * 16, created=elsewhere))
    with with_job.transaction() as tables:
        assert tables.jobs.get("cd" * 16).created == NOW
