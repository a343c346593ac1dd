"""The budget ledger: amounts that add exactly, three steps that are idempotent, on disk as in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.audit.entries import EntryKind, read_entry
from governance.budget.amounts import NOTHING, PLACES, Amount, charges, policy_caps, rounded_up
from governance.budget.ledger import Step, spent, spent_with_noise
from governance.policy.budgets import Budgets, Caps
from parties.storage.jobs import JobRecord
from protocols.errors import ConfideError, ErrorCode
from protocols.job import JobType, Output, OutputKind
from protocols.job_parts import Task
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from tests.support.databases import a_database
from tests.support.jobs import a_dataset, a_training, an_evaluation, an_inference
from tests.support.ledgers import Ledger, MemoryLedger

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACCOUNT, OTHER = "dataset/patients", "dataset/scans"
ONE, TWO = "ab" * 16, "cd" * 16
EXACT = Amount(None, Decimal(0), 1, 3)
CAPS = {ACCOUNT: Caps(queries=2, answers=6), OTHER: Caps(queries=2, answers=6)}

Open = Callable[[], AbstractContextManager[Ledger]]


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    if request.param == "memory":
        kept = MemoryLedger()

        @contextmanager
        def in_memory() -> Iterator[Ledger]:
            yield kept

        yield in_memory
        return
    database = a_database(tmp_path / "confide.db")
    with database.transaction() as tables:
        for job_id in (ONE, TWO, "ef" * 16):
            tables.jobs.add(JobRecord(job_id, "alice", b"{}", bytes(64), None, "{}", "proposed", NOW, NOW))

    @contextmanager
    def on_disk() -> Iterator[Ledger]:
        with database.transaction() as tables:
            yield tables.ledger

    yield on_disk
    database.close()


def refused(code: ErrorCode) -> pytest.RaisesExc[ConfideError]:
    return pytest.RaisesExc(ConfideError, check=lambda error: error.code is code)


def test_ledger_reserve_commit_opens_and_stays_spent(ledger: Open) -> None:
    charged = {ACCOUNT: EXACT, OTHER: EXACT}
    with ledger() as kept:
        kept.reserve(ONE, charged, CAPS, NOW)
        assert not kept.is_committed(ONE, charged)
    with ledger() as kept:
        kept.commit(ONE, NOW)
    with ledger() as kept:
        assert kept.is_committed(ONE, charged)
        kept.refund(ONE, NOW)  # too late: gives nothing back
        assert kept.is_committed(ONE, charged)
        assert [entry.step for entry in kept.of_account(ACCOUNT)] == [Step.RESERVE, Step.COMMIT]
        assert spent(kept.of_account(ACCOUNT)) == EXACT


def test_ledger_refund_makes_available_what_was_not_committed(ledger: Open) -> None:
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW)
        kept.refund(ONE, NOW)
        assert spent(kept.of_account(ACCOUNT)) == NOTHING
        with refused(ErrorCode.JOB_CONFLICT):
            kept.commit(ONE, NOW)
        with refused(ErrorCode.JOB_CONFLICT):
            kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW)
        assert not kept.is_committed(ONE, {ACCOUNT: EXACT})


def test_ledger_every_step_twice_is_once(ledger: Open) -> None:
    with ledger() as kept:
        for _ in range(2):
            kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW)
        for _ in range(2):
            kept.commit(ONE, NOW)
        kept.reserve(TWO, {ACCOUNT: EXACT}, CAPS, NOW)
        for _ in range(2):
            kept.refund(TWO, NOW)
        assert [(entry.job_id, entry.step) for entry in kept.of_account(ACCOUNT)] == [
            (ONE, Step.RESERVE), (ONE, Step.COMMIT), (TWO, Step.RESERVE), (TWO, Step.REFUND),
        ]  # fmt: skip


def test_ledger_job_with_other_charges_than_before_is_refused(ledger: Open) -> None:
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW)
        for changed in ({OTHER: EXACT}, {ACCOUNT: EXACT, OTHER: EXACT}, {ACCOUNT: NOTHING}):
            with refused(ErrorCode.JOB_CONFLICT):
                kept.reserve(ONE, changed, CAPS, NOW)


def test_ledger_charge_beyond_a_cap_is_refused_with_all_reasons_and_nothing_is_kept(ledger: Open) -> None:
    caps = {ACCOUNT: Caps(queries=0, answers=2, epsilon=Decimal(1), delta=Decimal(0)), OTHER: Caps()}
    with ledger() as kept:
        with pytest.raises(ConfideError) as caught:
            kept.reserve(ONE, {ACCOUNT: EXACT, OTHER: EXACT}, caps, NOW)
        assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED
        said = [problem.what for problem in caught.value.problems]
        assert {problem.where for problem in caught.value.problems} == {f"budget.{ACCOUNT}"}
        assert [word for what in said for word in ("epsilon", "queries", "answers") if word in what] == [
            "epsilon", "queries", "answers",
        ]  # fmt: skip
        assert kept.of_job(ONE) == ()
        assert kept.problems(ONE, {ACCOUNT: EXACT}, caps) == caught.value.problems


def test_account_without_bound_refuses_a_noisy_job_and_says_that_it_was_spent_before(ledger: Open) -> None:
    caps = {ACCOUNT: Caps(epsilon=Decimal(3))}
    noisy = {ACCOUNT: Amount(Decimal(1), Decimal(0), 1, 0)}
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: EXACT}, {ACCOUNT: Caps()}, NOW)  # before the cap
        (earlier,) = kept.problems(TWO, noisy, caps)
        assert "epsilon without bound (spent before this job, which opens nothing without noise" in earlier.what
        (own,) = kept.problems(TWO, {ACCOUNT: EXACT}, caps)
        assert "epsilon without bound (something is opened without noise), 3 permitted" in own.what
        kept.refund(ONE, NOW)
        assert kept.problems(TWO, noisy, caps) == ()


def test_refusal_names_the_types_of_the_jobs_that_left_an_account_without_bound(tmp_path: Path) -> None:
    database = a_database(tmp_path / "confide.db")
    made = {ONE: an_evaluation(), TWO: an_inference()}
    with database.transaction() as tables:
        for job_id, job in made.items():
            tables.jobs.add(JobRecord(job_id, "alice", job.to_bytes(), bytes(64), None, "{}", "completed", NOW, NOW))
        for job_id in (*made, "12" * 16):  # the last is no job of this party
            tables.ledger.reserve(job_id, {ACCOUNT: EXACT}, {ACCOUNT: Caps()}, NOW)
        noisy = {ACCOUNT: Amount(Decimal(1), Decimal(0), 1, 0)}
        (problem,) = tables.ledger.problems("ef" * 16, noisy, {ACCOUNT: Caps(epsilon=Decimal(3))})
        total = spent_with_noise(tables.ledger.of_account(ACCOUNT))
    database.close()
    assert problem.what.endswith("without noise; by encrypted enquiry, evaluate, infer), 3 permitted")
    assert total == NOTHING


def test_ledger_reservations_of_others_count_and_its_own_do_not(ledger: Open) -> None:
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW)
        kept.reserve(TWO, {ACCOUNT: EXACT}, CAPS, NOW)
        assert kept.problems(ONE, {ACCOUNT: EXACT}, CAPS) == ()
        with refused(ErrorCode.BUDGET_EXHAUSTED):
            kept.reserve("ef" * 16, {ACCOUNT: EXACT}, CAPS, NOW)
        kept.refund(ONE, NOW)
        kept.reserve("ef" * 16, {ACCOUNT: EXACT}, CAPS, NOW)


def test_ledger_job_that_charges_nothing_is_committed_without_an_entry(ledger: Open) -> None:
    with ledger() as kept:
        kept.reserve(ONE, {}, {}, NOW)
        kept.commit(ONE, NOW)
        assert kept.is_committed(ONE, {})
        assert not kept.is_committed(ONE, {ACCOUNT: EXACT})
        assert kept.of_job(ONE) == ()


def test_ledger_account_without_caps_is_a_defect(ledger: Open) -> None:
    with ledger() as kept, refused(ErrorCode.INTERNAL):
        kept.reserve(ONE, {ACCOUNT: EXACT}, {}, NOW)


def test_ledger_epsilon_adds_exactly_up_to_its_cap(ledger: Open) -> None:
    tenth = Amount(Decimal("0.1"), Decimal("1E-7"), 1, 1)
    caps = {ACCOUNT: Caps(epsilon=Decimal("0.2"), delta=Decimal("0.0000002"))}
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: tenth}, caps, NOW)
        kept.reserve(TWO, {ACCOUNT: tenth}, caps, NOW)  # 0.1 + 0.1 is 0.2, which floats would not promise
        assert spent(kept.of_account(ACCOUNT)).epsilon == Decimal("0.2")
        with refused(ErrorCode.BUDGET_EXHAUSTED):
            kept.reserve("ef" * 16, {ACCOUNT: Amount(Decimal("1E-12"), Decimal(0), 1, 1)}, caps, NOW)


def test_ledger_on_disk_logs_every_change_and_undoes_it_with_its_transaction(tmp_path: Path) -> None:
    database = a_database(tmp_path / "confide.db")
    with database.transaction() as tables:
        tables.jobs.add(JobRecord(ONE, "alice", b"{}", bytes(64), None, "{}", "proposed", NOW, NOW))
        tables.ledger.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW)
        tables.ledger.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW)

    def commit_and_die() -> None:
        with database.transaction() as tables:
            tables.ledger.commit(ONE, NOW)
            raise KeyError

    with pytest.raises(KeyError):
        commit_and_die()
    with database.transaction() as tables:
        tables.ledger.refund(ONE, NOW)
        entries = [read_entry(entry.body) for entry in tables.audit.entries(0, 99)]
    database.close()
    assert [entry.kind for entry in entries] == [EntryKind.RESERVED, EntryKind.REFUNDED]
    assert entries[0].facts == {"job": ONE, "account": ACCOUNT, "epsilon": None, "delta": "0", "queries": 1, "answers": 3}


def test_caps_that_a_person_set_last_stand(tmp_path: Path) -> None:
    database = a_database(tmp_path / "confide.db")
    with database.transaction() as tables:
        assert tables.ledger.find_caps(ACCOUNT) is None
        for queries in (1, 7):
            caps = Caps(queries=queries, epsilon=Decimal("0.5"), delta=Decimal("1E-7"))
            tables.ledger.set_caps(ACCOUNT, caps, authorisation="a" * 64, now=NOW)
        found = tables.ledger.find_caps(ACCOUNT)
        assert tables.ledger.accounts() == (ACCOUNT,)
    database.close()
    assert found is not None
    assert found.caps == Caps(queries=7, epsilon=Decimal("0.5"), delta=Decimal("0.0000001"))


amounts = st.builds(
    Amount,
    epsilon=st.none() | st.decimals(0, 1000, places=PLACES),
    delta=st.decimals(0, 1, places=PLACES),
    queries=st.integers(0, 9),
    answers=st.integers(0, 10**9),
)


@given(amounts, amounts, amounts)
def test_amounts_add_in_any_order_and_never_shrink(one: Amount, two: Amount, three: Amount) -> None:
    assert (one + two) + three == three + (two + one)
    assert one + NOTHING == one
    assert (one + two).queries >= one.queries
    assert one.epsilon is None or (one + two).epsilon is None or (one + two).epsilon >= one.epsilon


@given(st.decimals(0, 1000, places=20))
def test_amount_is_rounded_up_once_and_never_down(value: Decimal) -> None:
    assert value <= rounded_up(value) < value + Decimal(1).scaleb(-PLACES)
    assert rounded_up(rounded_up(value)) == rounded_up(value)


@pytest.mark.parametrize(
    ("epsilon", "queries"),
    [(Decimal("1E-13"), 1), (Decimal(-1), 1), (Decimal("NaN"), 1), (Decimal("Infinity"), 1), (Decimal(1), -1)],
)
def test_amount_that_is_none_is_refused(epsilon: Decimal, queries: int) -> None:
    with refused(ErrorCode.INTERNAL):
        Amount(epsilon, Decimal(0), queries, 0)


def test_charges_of_an_evaluation_are_on_every_own_data_set() -> None:
    outputs = (Output("a", OutputKind.CORRECT_COUNT, "alice", 5), Output("b", OutputKind.CONFUSION, "alice", 5))
    job = an_evaluation(outputs=outputs, datasets=(a_dataset("hospital-a"), a_dataset("hospital-b", "scans")))
    assert charges(job, "hospital-a") == {"dataset/patients": Amount(None, Decimal(0), 1, 5)}
    assert charges(job, "hospital-b") == {"dataset/scans": Amount(None, Decimal(0), 1, 5)}
    assert charges(job, "hospital-c") == {}


def test_charges_of_an_inference_are_on_the_model_and_its_consumer_at_the_holders() -> None:
    job = an_inference()
    accounts = ("consumer/alice/diagnosis@0123456789ab", "model/diagnosis@0123456789ab")
    assert charges(job, "hospital-a") == dict.fromkeys(accounts, Amount(None, Decimal(0), 1, 5))
    assert charges(job, job.dealer) == {}


@pytest.mark.parametrize(("top_k", "numbers"), [(0, 4), (2, 2)])
def test_charges_of_probabilities_count_every_class_that_is_opened(top_k: int, numbers: int) -> None:
    output = Output("answer", OutputKind.PROBABILITY, "alice", top_k=top_k)
    job = an_inference(task=Task.CLASSES, model=ModelSpec.chain(3, linear=Linear(4)), outputs=(output,))
    assert charges(job, "hospital-a")["model/diagnosis@0123456789ab"].answers == 5 * numbers


def test_charges_of_a_training_are_none() -> None:
    assert charges(a_training(), "hospital-a") == {}
    assert a_training().job_type is JobType.TRAIN


def test_policy_caps_of_an_account_are_those_of_its_name_then_the_default() -> None:
    named, model = Caps(queries=1), Caps(queries=3)
    budgets = Budgets(datasets={"patients": named}, models={"diagnosis": model})
    assert policy_caps(budgets, "dataset/patients") == named
    assert policy_caps(budgets, "model/diagnosis@0123456789ab") == model
    assert policy_caps(budgets, "dataset/others") == Caps(queries=50, answers=100_000)
    assert policy_caps(budgets, "model/others@0123456789ab") == Caps(queries=1_000, answers=100_000)


@pytest.mark.parametrize("account", ["", "dataset/", "dataset/x/1", "dataset/X", "model/x", "model/X@1", "other/x/1"])
def test_policy_caps_of_no_account_are_refused(account: str) -> None:
    with refused(ErrorCode.INVALID_ARGUMENT):
        policy_caps(Budgets(), account)
