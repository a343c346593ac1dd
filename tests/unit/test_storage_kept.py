"""Checkpoints and leases in the database, and sealed files that a table names or does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy.exc
from sqlalchemy import event

from parties.storage.checkpoints import CheckpointRecord
from parties.storage.database import Database, open_database
from parties.storage.jobs import JobRecord
from parties.storage.leases import LeaseRecord
from parties.storage.sealed import Purpose, SealedFiles, generate_storage_key
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
JOB = JobRecord("ab" * 16, "alice", b"{}", bytes(64), None, "{}", "running", NOW, NOW)
OTHER = replace(JOB, job_id="cd" * 16)
MODEL = ModelRef("tumours", "abababababab")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "confide.db")
    with opened.transaction() as tables:
        tables.jobs.add(JOB)
        tables.jobs.add(OTHER)
    yield opened
    opened.close()


def a_checkpoint(run: int, *, job: JobRecord = JOB, made: datetime = NOW) -> CheckpointRecord:
    return CheckpointRecord(job.job_id, run, f"{run:064x}", f"{run:032x}.sealed", made)


def test_checkpoints_the_latest_of_a_job_are_kept_and_the_others_named_for_deletion(database: Database) -> None:
    with database.transaction() as tables:
        dropped = [tables.checkpoints.add(a_checkpoint(run), keep=2) for run in (3, 6, 9)]
        assert dropped == [(), (), (a_checkpoint(3).sealed_name,)]
        assert tables.checkpoints.of_job(JOB.job_id) == (a_checkpoint(9), a_checkpoint(6))
        assert tables.checkpoints.of_job(OTHER.job_id) == ()


def test_checkpoint_is_found_by_run_and_head_together(database: Database) -> None:
    with database.transaction() as tables:
        tables.checkpoints.add(a_checkpoint(3), keep=2)
        assert tables.checkpoints.find(JOB.job_id, run=3, head=a_checkpoint(3).head) == a_checkpoint(3)
        assert tables.checkpoints.find(JOB.job_id, run=3, head="f" * 64) is None
        assert tables.checkpoints.find(JOB.job_id, run=4, head=a_checkpoint(3).head) is None


def test_checkpoint_of_a_run_is_made_once(database: Database) -> None:
    with database.transaction() as tables:
        tables.checkpoints.add(a_checkpoint(3), keep=2)
        with pytest.raises(ConfideError) as caught:
            tables.checkpoints.add(replace(a_checkpoint(3), head="f" * 64), keep=2)
        assert caught.value.code is ErrorCode.JOB_CONFLICT


def test_checkpoints_older_than_their_retention_go(database: Database) -> None:
    old = a_checkpoint(1, made=NOW - timedelta(days=8))
    with database.transaction() as tables:
        tables.checkpoints.add(old, keep=2)
        tables.checkpoints.add(a_checkpoint(2), keep=2)
        assert tables.checkpoints.discard_older(NOW - timedelta(days=7)) == (old.sealed_name,)
        assert tables.checkpoints.of_job(JOB.job_id) == (a_checkpoint(2),)
        assert tables.checkpoints.discard(JOB.job_id) == (a_checkpoint(2).sealed_name,)


def a_lease(holder: str, *, ticket: int = 1, expires: datetime = NOW + timedelta(seconds=30)) -> LeaseRecord:
    return LeaseRecord(JOB.job_id, ticket, holder, 1, 300 << 20, expires)


def test_lease_another_process_holds_is_not_taken_before_it_expires(database: Database) -> None:
    with database.transaction() as tables:
        tables.leases.take(a_lease("first"), now=NOW)
    with pytest.raises(ConfideError) as caught, database.transaction() as tables:
        tables.leases.take(a_lease("second"), now=NOW + timedelta(seconds=29))
    assert caught.value.code is ErrorCode.PARTY_BUSY
    later = NOW + timedelta(seconds=31)
    second = a_lease("second", expires=later + timedelta(seconds=30))
    with database.transaction() as tables:
        tables.leases.take(second, now=later)
        assert tables.leases.live(later) == (second,)


def test_lease_is_renewed_by_its_holder_alone(database: Database) -> None:
    later = NOW + timedelta(seconds=50)
    with database.transaction() as tables:
        tables.leases.take(a_lease("first"), now=NOW)
        tables.leases.renew("second", expires=later)
        assert tables.leases.live(NOW + timedelta(seconds=40)) == ()
        tables.leases.renew("first", expires=later)
        assert tables.leases.live(NOW + timedelta(seconds=40)) == (a_lease("first", expires=later),)


def test_lease_release_removes_the_claim_s_own(database: Database) -> None:
    with database.transaction() as tables:
        for ticket in (1, 2):
            tables.leases.take(a_lease("first", ticket=ticket), now=NOW)
        tables.leases.release(JOB.job_id, 1)
        assert [lease.ticket for lease in tables.leases.live(NOW)] == [2]
        tables.leases.release_session(JOB.job_id)
        assert tables.leases.live(NOW) == ()


def test_transaction_on_a_full_disk_changes_nothing_and_says_so(database: Database) -> None:
    def fails(_connection: object) -> None:
        raise sqlalchemy.exc.OperationalError("COMMIT", {}, Exception("database or disk is full"))

    event.listen(database._engine, "commit", fails)
    for change in (lambda: _save(database), database.probe):
        with pytest.raises(ConfideError) as caught:
            change()
        assert caught.value.code is ErrorCode.DISK_FULL
    event.remove(database._engine, "commit", fails)
    database.probe()
    with database.transaction() as tables:
        assert tables.jobs.get(JOB.job_id) == JOB


def _save(database: Database) -> None:
    with database.transaction() as tables:
        tables.jobs.save_snapshot(JOB.job_id, snapshot="{1}", state="aborted", now=NOW)


def test_sweep_removes_what_no_table_names_and_nothing_else(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    sealed = SealedFiles(folder, generate_storage_key())
    kept = sealed.write(Purpose.CHECKPOINT, "a", b"state")
    sealed.write(Purpose.MODEL_SHARE, "b", b"share")
    (folder / f".{'0' * 32}.sealed.{'1' * 16}").write_bytes(b"half")
    (folder / "notes.txt").write_text("an operator's own")
    with database.transaction() as tables:
        tables.checkpoints.add(replace(a_checkpoint(1), sealed_name=kept), keep=2)
        assert sealed.sweep(tables.sealed_names()) == 2
    assert {path.name for path in folder.iterdir()} == {kept, "notes.txt"}


def test_probe_leaves_nothing(tmp_path: Path) -> None:
    SealedFiles(tmp_path, generate_storage_key()).probe()
    assert list(tmp_path.iterdir()) == []
