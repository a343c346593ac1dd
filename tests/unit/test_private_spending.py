"""When the budget of a private training is spent: with the links of its workers, before anything can be opened, and for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from governance.budget.ledger import Step, spent
from governance.policy.budgets import Caps
from parties.server.budgets import budget_findings
from protocols.errors import ErrorCode
from protocols.job import Assessment, Job, JobType, Output, OutputKind
from protocols.session.messages import Countersignature, FailureReport, PrepareReply, Verdict, Vote
from protocols.session.states import State
from tests.support.jobs import CLAIMED, an_evaluation, sgd
from tests.support.session_loop import CHECKED, LoopWorld, a_loop

OTHERS = ("hospital-b", "hospital-c")
ACCOUNT = "dataset/patients"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LoopWorld]:
    with a_loop(tmp_path) as world:
        yield world


def a_private_job(world: LoopWorld, **changes: str) -> Job:
    return world.a_job(training=replace(sgd(60, 300, "0.1"), privacy=CLAIMED), **changes)


def await_true(met: Callable[[], bool], *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0)


def prepare(world: LoopWorld, job: Job) -> None:
    world.propose(job)
    for party in OTHERS:
        world.deliver(job, party, Countersignature(CHECKED.plan_digest, ""))
    await_true(lambda: world.sessions.status(job.job_id).state is State.PREPARING)


def start(world: LoopWorld, job: Job) -> None:
    """Everybody has a slot: the lead, which this party is, has the links opened."""
    prepare(world, job)
    for party in OTHERS:
        world.deliver(job, party, PrepareReply(1, granted=True))


def fail(world: LoopWorld, job: Job) -> None:
    for party in OTHERS:
        report = FailureReport(ErrorCode.WORKER_LOST, State.PREPARING, party, "gone")
        world.deliver(job, party, Vote(Verdict.FAILED, report, {}))
    await_true(lambda: world.sessions.status(job.job_id).state is State.ABORTED)


def steps(world: LoopWorld, job: Job) -> list[Step]:
    with world.database.transaction() as tables:
        return [entry.step for entry in tables.ledger.of_job(job.job_id)]


def epsilon_spent(world: LoopWorld) -> Decimal | None:
    with world.database.transaction() as tables:
        return spent(tables.ledger.of_account(ACCOUNT)).epsilon


def test_budget_is_spent_when_the_links_are_opened_and_stays_spent_when_the_job_fails(world: LoopWorld) -> None:
    job = a_private_job(world)
    prepare(world, job)
    assert steps(world, job) == [Step.RESERVE]
    for party in OTHERS:
        world.deliver(job, party, PrepareReply(1, granted=True))
    assert steps(world, job) == [Step.RESERVE, Step.COMMIT]
    fail(world, job)
    assert steps(world, job) == [Step.RESERVE, Step.COMMIT]
    assert epsilon_spent(world) == 1


def test_budget_comes_back_from_a_job_that_fails_before_its_links_are_opened(world: LoopWorld) -> None:
    job = a_private_job(world)
    prepare(world, job)
    fail(world, job)
    assert steps(world, job) == [Step.RESERVE, Step.REFUND]
    assert epsilon_spent(world) == 0


def test_spent_budget_survives_a_restart_that_ends_the_job(world: LoopWorld) -> None:
    job = a_private_job(world)
    start(world, job)
    world.restart()
    fail(world, job)
    assert steps(world, job) == [Step.RESERVE, Step.COMMIT]


def test_links_that_cannot_be_noted_as_spent_are_not_opened(world: LoopWorld) -> None:
    """What is not stored is not performed: no noise leaves before its epsilon is debited."""
    job = a_private_job(world)
    prepare(world, job)
    world.deliver(job, OTHERS[0], PrepareReply(1, granted=True))
    world.disk.full = True
    with pytest.raises(Exception, match="DISK_FULL"):
        world.deliver(job, OTHERS[1], PrepareReply(1, granted=True))
    world.disk.full = False
    assert steps(world, job) == [Step.RESERVE]


def test_each_attempt_of_a_training_spends_anew(world: LoopWorld) -> None:
    """The second one draws other noise: what was opened of the first is not taken back."""
    for number in ("01", "02"):
        job = a_private_job(world, nonce=number * 16)
        start(world, job)
        fail(world, job)
    assert epsilon_spent(world) == 2


def test_cap_on_epsilon_refuses_a_plain_training_and_lets_a_private_one_through(world: LoopWorld) -> None:
    with world.database.transaction() as tables:
        tables.ledger.set_caps(ACCOUNT, Caps(epsilon=Decimal(1)), authorisation="a" * 64, now=datetime.now(UTC))
        plain, private = (budget_findings(world.party, tables, job) for job in (world.a_job(), a_private_job(world)))
    assert private == ()
    assert [(found.code, found.problem.where) for found in plain] == [(ErrorCode.BUDGET_EXHAUSTED, f"budget.{ACCOUNT}")]
    assert "no formal guarantee" in plain[0].problem.what


def test_cap_on_epsilon_refuses_an_assessment_and_says_the_way_out(world: LoopWorld) -> None:
    output = Output("counts", OutputKind.ATTACK_COUNTS, "alice", 5)
    assessment = Assessment((0,), ("-1", "0", "1"), "lira", 64)
    job = an_evaluation(job_type=JobType.ASSESS, outputs=(output,), assessment=assessment)
    with world.database.transaction() as tables:
        assert budget_findings(world.party, tables, job) == ()
        tables.ledger.set_caps(ACCOUNT, Caps(epsilon=Decimal(1)), authorisation="a" * 64, now=datetime.now(UTC))
        counted, way_out = (found.problem for found in budget_findings(world.party, tables, job))
        assert "something is opened without noise" in counted.what
        assert (way_out.where, "permits none" in way_out.what) == (f"budget.{ACCOUNT}", True)
        assert f"confide budget set {ACCOUNT}" in way_out.remedy
        tables.ledger.set_caps(ACCOUNT, Caps(), authorisation="a" * 64, now=datetime.now(UTC))  # what it says to do
        assert budget_findings(world.party, tables, job) == ()


def test_plain_training_has_nothing_to_spend(world: LoopWorld) -> None:
    job = world.a_job()
    start(world, job)
    fail(world, job)
    assert steps(world, job) == []
