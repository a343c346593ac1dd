"""The log of a serving's queries at work: what is kept, what counts, and what a query of one researcher is to another's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from governance.audit.entries import EntryKind
from governance.budget.amounts import charges, consumer_account, model_account
from governance.budget.ledger import Step
from governance.consent.grant import sign_grant
from governance.consent.revocation import Effect
from governance.policy.budgets import Caps
from parties.server.keeping import Keeper
from parties.server.serving_log import ServingLog
from parties.storage.serving import QueryRecord, Served
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Serving
from protocols.plan.plan import Plan, PlannedResult
from protocols.session.states import State
from tests.support.consent import NOW, ConsentWorld, a_grant, under
from tests.support.holders import PLAN, HolderWorld
from tests.support.jobs import a_serving

PARTY = "hospital-a"
SERVING = Serving(block_rows=4, max_queries=2, max_rows=10, idle_s=60, lifetime_s=600, rekey_s=300)


class Consented(HolderWorld):
    """Hospital A, in whose records servings run under its agreement."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, NOW, consent=ConsentWorld(), parties=[PARTY])
        self.log = ServingLog(self.parties[PARTY])
        with self.tables() as tables:
            tables.agreements.add(self.consent.agreement, now=NOW)
            tables.grants.add(sign_grant(a_grant(), self.consent.keys[PARTY].signing), now=NOW)

    def tables(self) -> Any:
        return self.parties[PARTY].database.transaction()

    def serve(self, **changes: Any) -> Job:
        job = under(a_serving(serving=SERVING, **changes))
        self.keep_job(PARTY, job, {}, state=State.RUNNING)
        with self.tables() as tables:
            charged = charges(job, PARTY)
            tables.ledger.reserve(job.job_id, charged, dict.fromkeys(charged, Caps()), NOW, kind="evaluate")
        return job

    def keep(self, *records: QueryRecord, jobs: Sequence[Job]) -> list[Future[None]]:
        """Keeps queries in one transaction, as those are that wait together."""
        by_id = {job.job_id: job for job in jobs}
        kept = [self.log.keep(by_id[record.job_id], a_plan(by_id[record.job_id]), record) for record in records]
        self.work()
        return kept

    def work(self) -> None:
        """Does what waits."""
        self.log.start()
        self.log.stop()
        self.log._thread = type(self.log._thread)(target=self.log._run)

    def served(self, job: Job) -> Served:
        with self.tables() as tables:
            return cast(Served, tables.serving.used(job.job_id))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Consented]:
    world = Consented(tmp_path)
    yield world
    world.close()


def a_plan(job: Job) -> Plan:
    output = job.outputs[0]
    plan = Plan(job.digest, job.computing_parties, job.dealer, (), (), (), (PlannedResult(output.name, (4,), 0, "alice"),))
    return cast(Plan, _Digested(plan))


class _Digested:
    """A plan that has the digest that everybody countersigned."""

    digest = PLAN

    def __init__(self, plan: Plan) -> None:
        self.outputs = plan.outputs


def a_record(job: Job, number: int = 0, rows: int = 2) -> QueryRecord:
    return QueryRecord(job.job_id, f"{number:032x}", rows, "cd" * 32, NOW)


def refusal(kept: Future[None]) -> ErrorCode | None:
    found = kept.exception(timeout=0)
    assert found is None or isinstance(found, ConfideError)
    return None if found is None else found.code


def test_kept_query_counts_and_stands_in_the_log(world: Consented) -> None:
    job = world.serve()
    (kept,) = world.keep(a_record(job), jobs=[job])
    assert refusal(kept) is None
    assert world.served(job) == Served(1, 2)
    assert [facts["query"] for facts in world.entries(PARTY, EntryKind.QUERY)] == [f"{0:032x}"]


@pytest.mark.parametrize("over", ["ended", "drained"])
def test_query_of_a_serving_that_is_counted_already_is_not_kept_so_that_no_answer_leaves_uncounted(
    world: Consented, over: str
) -> None:
    job = world.serve()
    with world.tables() as tables:
        if over == "ended":
            tables.jobs.put_ending(job.job_id, b"an ending", measured="{}")
        else:
            tables.serving.close(job.job_id, reason="idle", served=Served(0, 0))
    (kept,) = world.keep(a_record(job), jobs=[job])
    assert refusal(kept) is ErrorCode.NOT_READY
    assert world.served(job) == Served(0, 0)
    assert world.entries(PARTY, EntryKind.QUERY) == []


def test_query_that_is_not_kept_is_nothing_to_those_that_wait_with_it(world: Consented) -> None:
    job, other = world.serve(), world.serve(nonce="77" * 16)
    with world.tables() as tables:
        tables.jobs.put_ending(other.job_id, b"an ending", measured="{}")
    kept = world.keep(a_record(other), a_record(job, 1), a_record(job, 1), a_record(job, 2), jobs=[job, other])
    assert [refusal(each) for each in kept] == [ErrorCode.NOT_READY, None, ErrorCode.JOB_CONFLICT, None]
    assert world.served(job) == Served(2, 4)


def test_query_under_a_revoked_agreement_is_withheld_though_the_verdict_before_is_of_the_same_second(world: Consented) -> None:
    job = world.serve()
    first = world.keep(a_record(job, 1), jobs=[job])
    with world.tables() as tables:
        tables.revocations.add(world.revocation(PARTY, job.agreement, Effect.STOP), now=NOW)
    second = world.keep(a_record(job, 2), jobs=[job])
    assert [refusal(each) for each in (*first, *second)] == [None, ErrorCode.RELEASE_WITHHELD]
    assert world.served(job) == Served(1, 2)


def test_query_that_the_worker_refused_counts_no_more_and_its_entry_stays(world: Consented) -> None:
    job = world.serve()
    world.keep(a_record(job, 1), a_record(job, 2), jobs=[job])
    world.log.take_back(job.job_id, f"{1:032x}")
    world.work()
    assert world.served(job) == Served(1, 2)
    assert len(world.entries(PARTY, EntryKind.QUERY)) == 2


def test_abnormal_end_after_more_refused_queries_than_the_quota_has_spends_the_quota_and_is_no_defect(world: Consented) -> None:
    job = world.serve()
    world.keep(*(a_record(job, number, 5) for number in range(5)), jobs=[job])
    keeper = Keeper(world.parties[PARTY], cast(Any, None), cast(Any, None), cast(Any, None), holder="ab" * 16)
    with world.tables() as tables:
        keeper._settle_serving(tables, job, NOW)
        entries = tables.ledger.of_job(job.job_id)
    assert job.model_ref is not None
    assert job.job_type is JobType.SERVE
    spent = [(entry.account, entry.step, entry.amount.queries, entry.amount.answers) for entry in entries]
    accounts = (model_account(job.model_ref), consumer_account(job.querier, job.model_ref))
    assert sorted(spent, key=str) == sorted(
        ((account, step, 2, 10) for account in accounts for step in (Step.RESERVE, Step.COMMIT)), key=str
    )


def test_served_model_of_another_job_is_not_asked_for(world: Consented) -> None:
    job = world.serve()
    assert world.served(replace(job, nonce="78" * 16)) == Served(0, 0)


def test_query_at_the_moment_when_the_agreement_expires_is_withheld_though_nothing_was_added(world: Consented) -> None:
    job, expires = world.serve(), world.consent.agreement.agreement.expires
    world.clock[0] = expires - timedelta(seconds=1)
    first = world.keep(a_record(job, 1), jobs=[job])
    world.clock[0] = expires
    second = world.keep(a_record(job, 2), jobs=[job])
    assert [refusal(each) for each in (*first, *second)] == [None, ErrorCode.RELEASE_WITHHELD]
