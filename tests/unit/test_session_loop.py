"""The session loop at one party: what it stores, what it does when it cannot, what it remembers after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from governance.budget.ledger import spent
from governance.policy.budgets import Caps
from parties.server.board import Measured
from parties.server.results import seal_checkpoint
from parties.storage.sealed import Purpose
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session.messages import (
    AskEnding,
    Countersignature,
    Ending,
    FailureReport,
    Prepare,
    Verdict,
    Vote,
)
from protocols.session.states import State
from tests.support.session_loop import CHECKED, LoopWorld, a_loop

OTHERS = ("hospital-b", "hospital-c")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LoopWorld]:
    with a_loop(tmp_path) as world:
        yield world


def agree(world: LoopWorld, job: Job) -> None:
    for party in OTHERS:
        world.deliver(job, party, Countersignature(CHECKED.plan_digest, ""))


def await_true(met: Callable[[], bool], *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0)


def an_ending_of(job: Job, state: State, code: str = "WORKER_LOST") -> Ending:
    return Ending.from_document(
        {
            "format": "confide.ending/2", "session": job.job_id, "attempt": job.attempt, "state": state.value, "code": code,
            "phase": "running", "at_fault": "", "cause": "hospital-b: gone", "remedy": "look", "decided_by": "hospital-b",
            "time": "2027-01-15T08:00:09Z", "by_majority": True, "commitments": {},
        }
    )  # fmt: skip


def test_step_that_cannot_be_stored_is_not_made_and_made_when_there_is_room(world: LoopWorld) -> None:
    job = world.a_job()
    world.propose(job)
    world.deliver(job, "hospital-b", Countersignature(CHECKED.plan_digest, ""))
    world.disk.full = True
    with pytest.raises(ConfideError) as caught:
        world.deliver(job, "hospital-c", Countersignature(CHECKED.plan_digest, ""))
    assert caught.value.code is ErrorCode.DISK_FULL
    world.await_health(stores=False)
    assert world.sessions.status(job.job_id).state is State.PROPOSED
    with world.database.transaction() as tables:
        assert [record.party for record in tables.jobs.countersignatures(job.job_id)] == ["hospital-a", "hospital-b"]
        assert tables.jobs.get(job.job_id).state == "proposed"
    world.disk.full = False
    world.await_health(stores=True)
    world.deliver(job, "hospital-c", Countersignature(CHECKED.plan_digest, ""))
    await_true(lambda: world.sessions.status(job.job_id).state is State.PREPARING)


def test_session_whose_step_could_not_be_stored_gives_no_sign_of_life(world: LoopWorld) -> None:
    """The others must find it silent, as they find a party that is gone, and not wait for it."""
    job = world.a_job()
    world.propose(job)
    world.disk.full = True
    with pytest.raises(ConfideError):
        world.deliver(job, "hospital-b", Countersignature(CHECKED.plan_digest, ""))
    with pytest.raises(ConfideError) as caught:
        world.deliver(job, "hospital-b", AskEnding(0))
    assert caught.value.code is ErrorCode.DISK_FULL


def test_full_disk_at_one_session_leaves_one_that_stores_nothing_alone(world: LoopWorld) -> None:
    first, second = world.a_job(), world.a_job(nonce="01" * 16)
    world.propose(first)
    world.propose(second)
    world.disk.full = True
    with pytest.raises(ConfideError):
        world.deliver(first, "hospital-b", Countersignature(CHECKED.plan_digest, ""))
    world.deliver(second, "hospital-b", AskEnding(0))


def test_proposal_that_cannot_be_stored_leaves_nothing_and_may_come_again(world: LoopWorld) -> None:
    job = world.a_job()
    world.disk.full = True
    with pytest.raises(ConfideError) as caught:
        world.propose(job)
    assert caught.value.code is ErrorCode.DISK_FULL
    assert not world.sessions.knows(job.job_id)
    world.await_health(stores=False)
    world.disk.full = False
    world.await_health(stores=True)
    world.propose(job)
    assert world.sessions.knows(job.job_id)


def test_acceptance_that_cannot_be_stored_is_checked_again_when_there_is_room(world: LoopWorld) -> None:
    job = world.a_job()
    world.disk.full_after = 1  # the job itself still fits
    world.propose(job)
    assert world.sessions.knows(job.job_id)
    assert world.checks == []
    world.disk.full = False
    await_true(lambda: world.sessions.status(job.job_id).countersigned_by == ("hospital-a",))
    assert world.checks == [job.job_id]


def test_work_that_lost_a_step_is_confessed_as_a_full_disk(world: LoopWorld) -> None:
    job = world.a_job()
    world.propose(job)
    agree(world, job)
    await_true(lambda: world.sessions.status(job.job_id).state is State.PREPARING)
    world.disk.full = True
    report = FailureReport(ErrorCode.WORKER_LOST, State.PREPARING, "hospital-b", "gone")
    with pytest.raises(ConfideError):
        world.deliver(job, "hospital-b", Vote(Verdict.FAILED, report, {}))
    world.disk.full = False
    world.await_health(stores=False)
    world.await_health(stores=True)
    await_true(lambda: world.sessions.status(job.job_id).state is State.STOPPING)
    with world.database.transaction() as tables:
        assert '"DISK_FULL"' in tables.jobs.get(job.job_id).snapshot
        assert tables.leases.live(world.party.now()) == ()


def test_ending_and_what_was_measured_survive_a_restart(world: LoopWorld) -> None:
    job = world.a_job()
    world.propose(job)
    measured = Measured("train", 3, 7, 40, 1_000, 1_200)
    world.sessions._measure(job.job_id, measured)
    world.deliver(job, "hospital-b", an_ending_of(job, State.ABORTED))
    before = world.sessions.status(job.job_id)
    assert before.ending is not None
    world.restart()
    after = world.sessions.status(job.job_id)
    assert (after.state, after.ending, after.measured) == (State.ABORTED, before.ending, measured)


def test_session_that_is_over_and_unused_is_closed_and_opened_again_by_a_question(
    world: LoopWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, waits = world.a_job(), world.a_job(nonce="01" * 16)
    for job in (over, waits):
        world.propose(job)
    world.deliver(over, "hospital-b", an_ending_of(over, State.ABORTED))
    before = world.sessions.status(over.job_id)
    monkeypatch.setattr("parties.server.opened.KEEP_OPEN_S", -60.0)
    await_true(lambda: world.sessions._open[over.job_id].is_over)
    world.sessions._close_unused()
    assert list(world.sessions._open) == [waits.job_id]
    assert [status.job for status in world.sessions.board.shown()] == [waits]
    monkeypatch.undo()
    after = world.sessions.status(over.job_id)
    assert (after.state, after.ending) == (State.ABORTED, before.ending)
    world.deliver(over, "hospital-b", AskEnding(0))  # the others may still ask


def test_owner_s_budget_holds_for_jobs_that_were_checked_at_the_same_time(tmp_path: Path) -> None:
    with a_loop(tmp_path) as world:
        account = "dataset/patients"
        with world.database.transaction() as tables:
            tables.ledger.set_caps(account, Caps(queries=2), authorisation="a" * 64, now=datetime.now(UTC))
        jobs = [world.an_evaluation(nonce=f"{n:02}" * 16) for n in range(3)]
        for job in (*jobs, jobs[0]):
            world.propose(job)
        states = [world.sessions.status(job.job_id).state for job in jobs]
        assert states == [State.PROPOSED, State.PROPOSED, State.STOPPING]
        with world.database.transaction() as tables:
            assert tables.jobs.countersignatures(jobs[2].job_id) == ()
            assert spent(tables.ledger.of_account(account)).queries == 2
            assert "BUDGET_EXHAUSTED" in tables.jobs.get(jobs[2].job_id).snapshot


def test_sessions_run_at_once_as_cores_permit_and_the_next_waits(tmp_path: Path) -> None:
    with a_loop(tmp_path, cores=2) as world:
        jobs = [world.a_job(nonce=f"{n:02}" * 16) for n in range(3)]
        for job in jobs:
            world.propose(job)
            agree(world, job)
        await_true(lambda: world.sessions.num_running == 2 and world.sessions.num_waiting == 1)
        with world.database.transaction() as tables:
            leases = tables.leases.live(world.party.now())
        assert [lease.cores for lease in leases] == [1, 1]
        assert {lease.memory_bytes for lease in leases} == {CHECKED.memory_bytes}
        waiting = next(job for job in jobs if world.sessions.status(job.job_id).state is State.AGREED)
        running = next(job for job in jobs if job is not waiting)
        world.deliver(running, "hospital-b", an_ending_of(running, State.ABORTED))
        await_true(lambda: world.sessions.status(waiting.job_id).state is State.PREPARING)
        world.restart()
        with world.database.transaction() as tables:
            assert tables.leases.live(world.party.now()) == (), "leases of a process that is gone"


def test_session_that_waits_for_its_turn_is_cancelled(tmp_path: Path) -> None:
    with a_loop(tmp_path, cores=1) as world:
        first, second = world.a_job(), world.a_job(nonce="01" * 16)
        for job in (first, second):
            world.propose(job)
            agree(world, job)
        await_true(lambda: world.sessions.num_waiting == 1)
        world.sessions.cancel(second.job_id)
        world.deliver(second, "hospital-b", an_ending_of(second, State.CANCELLED, "CANCELLED"))
        await_true(lambda: world.sessions.num_waiting == 0)
        assert world.sessions.status(first.job_id).state is State.PREPARING


def test_follower_without_room_says_busy_and_later_takes_part(tmp_path: Path) -> None:
    with a_loop(tmp_path, cores=1) as world:
        first = world.a_job()
        second = world.a_job(nonce="01" * 16, computing_parties=("hospital-b", "hospital-a"))
        for job in (first, second):
            world.propose(job)
            agree(world, job)
        await_true(lambda: world.sessions.status(first.job_id).state is State.PREPARING)
        world.deliver(second, "hospital-b", Prepare(1))
        assert world.sessions.status(second.job_id).state is State.AGREED
        world.deliver(first, "hospital-b", an_ending_of(first, State.ABORTED))
        world.deliver(second, "hospital-b", Prepare(2))
        await_true(lambda: world.sessions.status(second.job_id).state is State.PREPARING)


def test_sealed_files_that_no_table_names_are_swept_at_the_start(world: LoopWorld) -> None:
    folder = world.party.config.state / "sealed"
    stray = world.party.sealed.write(Purpose.CHECKPOINT, "job/1/head", b"half a step")
    (folder / f".{'0' * 32}.sealed.{'1' * 16}").write_bytes(b"half a file")
    job = world.a_job()
    world.propose(job)
    seal_checkpoint(world.party, job, run=3, head="a" * 64, state=b"state")
    world.restart()
    with world.database.transaction() as tables:
        (kept,) = tables.checkpoints.of_job(job.job_id)
    assert {path.name for path in folder.iterdir()} == {kept.sealed_name}
    assert stray != kept.sealed_name


@pytest.mark.parametrize(("state", "left"), [(State.ABORTED, 2), (State.CANCELLED, 0)])
def test_checkpoints_stay_after_an_abort_and_go_with_a_cancellation(world: LoopWorld, state: State, left: int) -> None:
    job = world.a_job()
    world.propose(job)
    for run in (1, 2, 3):
        seal_checkpoint(world.party, job, run=run, head=f"{run}" * 64, state=b"state")
    world.deliver(job, "hospital-b", an_ending_of(job, state, state.name if state is State.CANCELLED else "WORKER_LOST"))
    sealed = world.party.config.state / "sealed"
    await_true(lambda: len(list(sealed.iterdir())) == left)
    with world.database.transaction() as tables:
        assert len(tables.checkpoints.of_job(job.job_id)) == left
