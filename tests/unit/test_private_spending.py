"""When the budget of a private training is spent: with the links of its workers, before anything can be opened, and for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from governance.audit.entries import EntryKind, read_entry
from governance.budget.ledger import Step, spent
from governance.policy.budgets import Caps
from parties.server.acceptance import record_refusal
from parties.server.budgets import budget_findings, budgets_in_words
from parties.server.reasons import JobRefusal
from parties.storage.datasets import DatasetRecord
from parties.storage.jobs import JobRecord
from protocols.errors import ErrorCode
from protocols.job import Assessment, Job, JobType, ModelRef, Output, OutputKind
from protocols.session.messages import Countersignature, FailureReport, PrepareReply, Verdict, Vote
from protocols.session.states import State
from tests.support.jobs import CLAIMED, an_evaluation, sgd
from tests.support.session_loop import CHECKED, LoopWorld, a_loop

OTHERS = ("hospital-b", "hospital-c")
ACCOUNT = "dataset/patients"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


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


@pytest.mark.parametrize("account", ["model/diagnosis@0123456789ab", "consumer/alice/diagnosis@0123456789ab"])
def test_cap_on_epsilon_of_a_model_refuses_a_training_that_would_leave_a_copy_without_it(world: LoopWorld, account: str) -> None:
    job = world.a_job(model_ref=ModelRef("diagnosis", "0123456789ab"), initial_weights_sha256=None, model_name="copied")
    with world.database.transaction() as tables:
        assert budget_findings(world.party, tables, job) == ()
        tables.ledger.set_caps(account, Caps(epsilon=Decimal(1)), authorisation="a" * 64, now=datetime.now(UTC))
        (found,) = budget_findings(world.party, tables, job)
        assert (found.code, found.problem.where) == (ErrorCode.BUDGET_EXHAUSTED, f"budget.{account}")
        assert budget_findings(world.party, tables, world.a_job()) == ()  # another model
        beside = Caps(epsilon=Decimal(1), permits=("train",))
        tables.ledger.set_caps(account, beside, authorisation="a" * 64, now=datetime.now(UTC))
        assert budget_findings(world.party, tables, job) == ()


def test_cap_on_epsilon_refuses_an_assessment_and_says_the_way_out(world: LoopWorld) -> None:
    output = Output("counts", OutputKind.ATTACK_COUNTS, "alice", 5)
    assessment = Assessment((0,), ("-1", "0", "1"), "lira", 64)
    job = an_evaluation(job_type=JobType.ASSESS, outputs=(output,), assessment=assessment)
    with world.database.transaction() as tables:
        assert budget_findings(world.party, tables, job) == ()
        tables.ledger.set_caps(ACCOUNT, Caps(epsilon=Decimal(1)), authorisation="a" * 64, now=datetime.now(UTC))
        (way_out,) = (found.problem for found in budget_findings(world.party, tables, job))
        assert way_out.where == f"budget.{ACCOUNT}"
        assert "permits no assess without it" in way_out.what
        assert "permit it beside the cap" in way_out.remedy
        beside = Caps(epsilon=Decimal(1), permits=("assess",))
        tables.ledger.set_caps(ACCOUNT, beside, authorisation="a" * 64, now=datetime.now(UTC))  # what it says to do
        assert budget_findings(world.party, tables, job) == ()
        plain, private = (budget_findings(world.party, tables, each) for each in (world.a_job(), a_private_job(world)))
        assert (len(plain), private) == (1, ())
        (said,) = (words for words in budgets_in_words(world.party, tables, job) if words.startswith(ACCOUNT))
        assert "no formal guarantee for what it opens" in said
        (private_words,) = budgets_in_words(world.party, tables, a_private_job(world))
        assert "no formal guarantee" not in private_words
        assert private_words.endswith("epsilon is for zero-out row")


def test_querier_is_told_of_the_data_sets_that_she_named_and_not_whose_people_they_are(world: LoopWorld) -> None:
    """How a population is called, and what else is of it, is for its owner's people."""
    with world.database.transaction() as tables:
        for name in ("patients", "scans"):
            record = DatasetRecord(name, 1, b"{}", 9, {}, "c" * 64, "", f"{name}.sealed", NOW, None, False, "relapsed")
            tables.datasets.add(record)
        tables.ledger.set_caps("dataset/relapsed", Caps(epsilon=Decimal("0.75")), authorisation="a" * 64, now=NOW)
        jobs = (a_private_job(world), world.a_job())
        told = [found.problem for job in jobs for found in budget_findings(world.party, tables, job)]
    assert [problem.where for problem in told] == ["budget.dataset/patients"] * 2
    assert "confide budget show dataset/patients" in told[0].remedy
    assert not any(word in str(told) for word in ("relapsed", "scans"))


def test_refusal_for_a_budget_leaves_its_figures_in_the_log_and_none_with_the_querier(world: LoopWorld) -> None:
    job, now = a_private_job(world), datetime.now(UTC)
    with world.database.transaction() as tables:
        tables.ledger.set_caps(ACCOUNT, Caps(epsilon=Decimal("0.75")), authorisation="a" * 64, now=now)
        tables.jobs.add(JobRecord(job.job_id, "alice", job.to_bytes(), bytes(64), None, "{}", "proposed", now, now))
        refusal = JobRefusal(budget_findings(world.party, tables, job), party=world.party.id)
        for _ in range(2):  # once
            record_refusal(world.party, tables, job, refusal)
        written = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
    (facts,) = [entry.facts for entry in written if entry.kind is EntryKind.BUDGET_REFUSED]
    assert (facts["job"], facts["account"], facts["kind"], facts["over"]) == (job.job_id, ACCOUNT, "train", ["epsilon"])
    assert (facts["epsilon"], facts["cap_epsilon"], facts["stands_epsilon"]) == ("1", "0.75", "0")
    assert facts["squared"] is not None
    assert "0.75" not in str(refusal)


def test_plain_training_has_nothing_to_spend(world: LoopWorld) -> None:
    job = world.a_job()
    start(world, job)
    fail(world, job)
    assert steps(world, job) == []
