"""Servings as jobs: what one must say, what belongs to others, and what it charges and gives back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.budget.amounts import Amount, charges, consumer_account, served
from governance.budget.ledger import LedgerEntry, Step, commit, refund, reserve, settle, spent
from governance.policy.budgets import Caps
from governance.release import Evidence, withheld, withheld_answers, withheld_before_vote
from parties.server.terms import spec_of
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Output, OutputKind, Serving, check
from tests.support.jobs import MODEL_REF, TRAINING, a_dataset, a_serving, an_inference

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SERVING = Serving(128, 50, 400, 60, 600, 300)
ACCOUNT = "model/diagnosis@0123456789ab"
CAPS = {ACCOUNT: Caps(queries=1_000, answers=10_000)}


def where(job: Job) -> set[str]:
    return {problem.where for problem in check(job)}


def test_serving_survives_the_round_trip_and_opens_nothing_at_its_end() -> None:
    job = a_serving()
    assert Job.from_bytes(job.to_bytes()) == job
    assert (job.closing_outputs, job.most_samples) == ((), 400)
    assert spec_of(job).committed_by("hospital-a") == frozenset()
    assert (an_inference().closing_outputs, an_inference().most_samples) == (an_inference().outputs, 5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"serving": None}, "serving"),
        ({"model_ref": None}, "model_ref"),
        ({"query_rows": 5}, "query_rows"),
        ({"query_commitment": "b2" * 32}, "query_commitment"),
        ({"training": TRAINING}, "training"),
        ({"model_name": "other"}, "model_name"),
        ({"datasets": (a_dataset(),)}, "datasets"),
        ({"outputs": ()}, "outputs"),
        ({"outputs": (Output("correct", OutputKind.CORRECT_COUNT, "alice", 5),)}, "outputs"),
        ({"serving": replace(SERVING, block_rows=0)}, "serving.block_rows"),
        ({"serving": replace(SERVING, block_rows=1_025)}, "serving.block_rows"),
        ({"serving": replace(SERVING, max_queries=0)}, "serving.max_queries"),
        ({"serving": replace(SERVING, max_queries=401)}, "serving.max_rows"),
        ({"serving": replace(SERVING, max_rows=10_000_001)}, "serving.max_rows"),
        ({"serving": replace(SERVING, idle_s=601)}, "serving.idle_s"),
        ({"serving": replace(SERVING, lifetime_s=86_401)}, "serving.lifetime_s"),
        ({"serving": replace(SERVING, rekey_s=0)}, "serving.rekey_s"),
    ],
)
def test_serving_with_one_mistake_is_refused_at_its_field(changes: dict[str, Any], expected: str) -> None:
    assert where(a_serving(**changes)) == {expected}


def test_other_jobs_carry_no_serving() -> None:
    assert where(an_inference(serving=SERVING)) == {"serving"}


def test_serving_charges_its_whole_quota_at_the_holders_alone() -> None:
    three = replace(a_serving().outputs[0], kind=OutputKind.LABEL)
    job = a_serving(outputs=(three,))
    assert job.model_ref == MODEL_REF
    accounts = (ACCOUNT, consumer_account(job.querier, MODEL_REF))
    assert charges(job, "hospital-a") == dict.fromkeys(accounts, Amount(None, Decimal(0), 50, 400))
    assert charges(job, "hospital-c") == {}
    assert served(job, "hospital-b", queries=2, rows=9) == dict.fromkeys(accounts, Amount(None, Decimal(0), 2, 9))
    assert served(job, "hospital-c", queries=2, rows=9) == {}


@given(st.integers(0, 50), st.integers(0, 400), st.sampled_from([None, Decimal("0.5")]))
def test_settle_spends_what_was_used_and_gives_back_the_rest(queries: int, rows: int, epsilon: Decimal | None) -> None:
    rows = max(rows, queries) if queries else 0
    delta = Decimal(0)
    whole = Amount(epsilon, delta, 50, 400)
    part = Amount(None if epsilon is None else Decimal("0.25"), delta, queries, rows)
    entries = reserve((), job_id="one", kind="serve", charges={ACCOUNT: whole}, caps=CAPS, now=NOW)
    assert spent(entries) == whole
    done = (*entries, *settle(entries, job_id="one", used={ACCOUNT: part}, now=NOW))
    used = spent(done)
    assert (used.queries, used.answers) == (queries, rows)
    if queries and epsilon is not None and (queries, rows) != (50, 400):
        assert used.epsilon == Decimal("0.25")
    # Again, or another end after it, changes nothing.
    assert settle(done, job_id="one", used={ACCOUNT: part}, now=NOW) == ()
    assert refund(done, job_id="one", now=NOW) == ()


def test_settle_of_more_than_was_reserved_is_a_defect() -> None:
    entries = (LedgerEntry(ACCOUNT, "one", Step.RESERVE, Amount(None, Decimal(0), 1, 5), NOW, "train"),)
    with pytest.raises(ConfideError) as caught:
        settle(entries, job_id="one", used={ACCOUNT: Amount(None, Decimal(0), 1, 6)}, now=NOW)
    assert caught.value.code is ErrorCode.INTERNAL


def test_settle_of_a_committed_charge_adds_nothing() -> None:
    entries = (LedgerEntry(ACCOUNT, "one", Step.RESERVE, Amount(None, Decimal(0), 1, 5), NOW, "train"),)
    done = (*entries, *commit(entries, job_id="one", now=NOW))
    assert settle(done, job_id="one", used={}, now=NOW) == ()
    assert spent(done) == entries[0].amount


def test_gate_asks_for_every_answer_what_it_asks_of_an_inference() -> None:
    job = a_serving()
    name = job.outputs[0].name
    evidence = Evidence(
        plan_digest="e1" * 32,
        planned={name: (128,)},
        sealed=None,
        countersignatures=dict.fromkeys(job.participants, "e1" * 32),
        missing_consent=(),
        missing_evidence=(),
        output_rules={},
    )
    assert withheld_answers(job, evidence) == ()
    assert [each.rule.value for each in withheld_answers(job, replace(evidence, countersignatures={}))] == ["plan-agreed"] * 3
    forbidden = replace(evidence, output_rules={"0f" * 16: ()})
    assert [each.rule.value for each in withheld_answers(job, forbidden)] == ["constraint-satisfied"]
    # At its end a serving opens nothing, and so withholds nothing.
    assert withheld_before_vote(job, replace(evidence, countersignatures={})) == ()
    assert withheld(job, evidence, settlement=None) == ()  # type: ignore[arg-type]  # it is not looked at
