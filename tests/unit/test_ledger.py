"""The budget ledger: amounts that add exactly, three steps that are idempotent, on disk as in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.audit.entries import EntryKind, read_entry
from governance.budget.amounts import NOTHING, PLACES, Amount, charges, of_populations, policy_caps, rounded_up
from governance.budget.ledger import Step, shortfalls, spent, spent_under, spent_with_noise
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
        kept.reserve(ONE, charged, CAPS, NOW, kind="evaluate")
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
        kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")
        kept.refund(ONE, NOW)
        assert spent(kept.of_account(ACCOUNT)) == NOTHING
        with refused(ErrorCode.JOB_CONFLICT):
            kept.commit(ONE, NOW)
        with refused(ErrorCode.JOB_CONFLICT):
            kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")
        assert not kept.is_committed(ONE, {ACCOUNT: EXACT})


def test_ledger_every_step_twice_is_once(ledger: Open) -> None:
    with ledger() as kept:
        for _ in range(2):
            kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")
        for _ in range(2):
            kept.commit(ONE, NOW)
        kept.reserve(TWO, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")
        for _ in range(2):
            kept.refund(TWO, NOW)
        assert [(entry.job_id, entry.step) for entry in kept.of_account(ACCOUNT)] == [
            (ONE, Step.RESERVE), (ONE, Step.COMMIT), (TWO, Step.RESERVE), (TWO, Step.REFUND),
        ]  # fmt: skip


def test_ledger_job_with_other_charges_than_before_is_refused(ledger: Open) -> None:
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")
        for changed in ({OTHER: EXACT}, {ACCOUNT: EXACT, OTHER: EXACT}, {ACCOUNT: NOTHING}):
            with refused(ErrorCode.JOB_CONFLICT):
                kept.reserve(ONE, changed, CAPS, NOW, kind="evaluate")


def test_ledger_charge_beyond_a_cap_is_refused_with_all_reasons_and_nothing_is_kept(ledger: Open) -> None:
    caps = {ACCOUNT: Caps(queries=0, answers=2, epsilon=Decimal(1), delta=Decimal(0)), OTHER: Caps()}
    with ledger() as kept:
        with pytest.raises(ConfideError) as caught:
            kept.reserve(ONE, {ACCOUNT: EXACT, OTHER: EXACT}, caps, NOW, kind="evaluate")
        assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED
        assert {problem.where for problem in caught.value.problems} == {f"budget.{ACCOUNT}"}
        assert kept.of_job(ONE) == ()
        (short,) = kept.shortfalls(ONE, {ACCOUNT: EXACT}, caps, kind="evaluate")
        assert list(short.over) == ["epsilon", "queries", "answers"]
        assert short.problems == caught.value.problems


def test_querier_is_told_what_she_needs_and_the_owner_s_people_where_the_account_stands(ledger: Open) -> None:
    caps = {ACCOUNT: Caps(queries=17, answers=23, epsilon=Decimal("3.25"), delta=Decimal("0.0000071"))}
    used, asked = Amount(Decimal("2.125"), Decimal("0.0000067"), 13, 19), Amount(Decimal("1.5"), Decimal("0.000001"), 5, 6)
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: used}, caps, NOW, kind="train")
        (short,) = kept.shortfalls(TWO, {ACCOUNT: asked}, caps, kind="evaluate")
    told = " ".join(f"{problem.what} {problem.remedy}" for problem in short.problems)
    for own in ("epsilon 1.5", "delta 0.000001,", "5 of its queries", "6 of its answers", "does not suffice"):
        assert own in told
    for others in ("2.125", "3.625", "3.25", "0.0000067", "0.0000077", "0.0000071", "13", "18", "17", "19", "25", "23"):
        assert others not in told
    for figure in ("3.625, 3.25 permitted", "delta 0.0000077, 0.0000071 permitted", "18 queries, 17", "25 answers, 23"):
        assert figure in short.in_words


def test_what_is_permitted_beside_a_cap_opens_without_noise_and_spends_no_epsilon(ledger: Open) -> None:
    cap = Caps(queries=3, epsilon=Decimal(2))
    permitted = replace(cap, permits=("assess",))
    noisy = {ACCOUNT: Amount(Decimal(2), Decimal(0), 1, 0)}
    with ledger() as kept:
        (refused_one,) = kept.shortfalls(ONE, {ACCOUNT: EXACT}, {ACCOUNT: cap}, kind="assess")
        assert "permits no assess without it" in refused_one.problems[0].what
        kept.reserve(ONE, {ACCOUNT: EXACT}, {ACCOUNT: permitted}, NOW, kind="assess")
        assert kept.shortfalls(TWO, {ACCOUNT: EXACT}, {ACCOUNT: permitted}, kind="evaluate") != ()  # only what is named
        kept.reserve(TWO, noisy, {ACCOUNT: permitted}, NOW, kind="train")  # the whole cap is still there
        entries = kept.of_account(ACCOUNT)
        assert spent(entries).epsilon is None
        assert spent_under(entries, permitted) == Amount(Decimal(2), Decimal(0), 2, 3)
        over = kept.shortfalls("ef" * 16, {ACCOUNT: Amount(Decimal("0.1"), Decimal(0), 1, 0)}, {ACCOUNT: permitted}, kind="train")
        assert [list(short.over) for short in over] == [["epsilon"]]
        # Queries and answers are counted of it all the same, and taken back the permit counts no more.
        kept.reserve("ef" * 16, {ACCOUNT: EXACT}, {ACCOUNT: permitted}, NOW, kind="assess")
        (full,) = kept.shortfalls("12" * 16, {ACCOUNT: EXACT}, {ACCOUNT: permitted}, kind="assess")
        assert list(full.over) == ["queries"]
        assert "epsilon" in kept.shortfalls("12" * 16, noisy, {ACCOUNT: cap}, kind="train")[0].over


def test_account_without_bound_refuses_a_noisy_job_and_says_that_it_was_spent_before(ledger: Open) -> None:
    caps = {ACCOUNT: Caps(epsilon=Decimal(3))}
    noisy = {ACCOUNT: Amount(Decimal(1), Decimal(0), 1, 0)}
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: EXACT}, {ACCOUNT: Caps()}, NOW, kind="evaluate")  # before the cap
        (earlier,) = kept.shortfalls(TWO, noisy, caps, kind="infer")
        assert "epsilon without bound (spent before this job, which opens nothing without noise" in earlier.in_words
        assert "without noise" not in earlier.problems[0].what  # what others have opened is not hers to know
        (own,) = kept.shortfalls(TWO, {ACCOUNT: EXACT}, caps, kind="infer")
        assert "epsilon without bound (something is opened without noise), 3 permitted" in own.in_words
        kept.refund(ONE, NOW)
        assert kept.shortfalls(TWO, noisy, caps, kind="infer") == ()


def test_refusal_names_the_kinds_of_what_left_an_account_without_bound(ledger: Open) -> None:
    with ledger() as kept:
        for job_id, kind in ((ONE, "evaluate"), (TWO, "infer"), ("12" * 16, "enquiry")):
            kept.reserve(job_id, {ACCOUNT: EXACT}, {ACCOUNT: Caps()}, NOW, kind=kind)
        noisy = {ACCOUNT: Amount(Decimal(1), Decimal(0), 1, 0)}
        (short,) = kept.shortfalls("ef" * 16, noisy, {ACCOUNT: Caps(epsilon=Decimal(3))}, kind="train")
        assert spent_with_noise(kept.of_account(ACCOUNT)) == NOTHING
    assert short.in_words.endswith("without noise; by enquiry, evaluate, infer), 3 permitted")


def test_ledger_reservations_of_others_count_and_its_own_do_not(ledger: Open) -> None:
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")
        kept.reserve(TWO, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")
        assert kept.shortfalls(ONE, {ACCOUNT: EXACT}, CAPS, kind="evaluate") == ()
        with refused(ErrorCode.BUDGET_EXHAUSTED):
            kept.reserve("ef" * 16, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")
        kept.refund(ONE, NOW)
        kept.reserve("ef" * 16, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")


def test_ledger_job_that_charges_nothing_is_committed_without_an_entry(ledger: Open) -> None:
    with ledger() as kept:
        kept.reserve(ONE, {}, {}, NOW, kind="evaluate")
        kept.commit(ONE, NOW)
        assert kept.is_committed(ONE, {})
        assert not kept.is_committed(ONE, {ACCOUNT: EXACT})
        assert kept.of_job(ONE) == ()


def test_ledger_account_without_caps_is_a_defect(ledger: Open) -> None:
    with ledger() as kept, refused(ErrorCode.INTERNAL):
        kept.reserve(ONE, {ACCOUNT: EXACT}, {}, NOW, kind="evaluate")


def test_ledger_epsilon_adds_exactly_up_to_its_cap(ledger: Open) -> None:
    tenth = Amount(Decimal("0.1"), Decimal("1E-7"), 1, 1)
    caps = {ACCOUNT: Caps(epsilon=Decimal("0.2"), delta=Decimal("0.0000002"))}
    with ledger() as kept:
        kept.reserve(ONE, {ACCOUNT: tenth}, caps, NOW, kind="evaluate")
        kept.reserve(TWO, {ACCOUNT: tenth}, caps, NOW, kind="evaluate")  # 0.1 + 0.1 is 0.2, which floats would not promise
        assert spent(kept.of_account(ACCOUNT)).epsilon == Decimal("0.2")
        with refused(ErrorCode.BUDGET_EXHAUSTED):
            kept.reserve("ef" * 16, {ACCOUNT: Amount(Decimal("1E-12"), Decimal(0), 1, 1)}, caps, NOW, kind="evaluate")


def test_ledger_on_disk_logs_every_change_and_undoes_it_with_its_transaction(tmp_path: Path) -> None:
    database = a_database(tmp_path / "confide.db")
    with database.transaction() as tables:
        tables.jobs.add(JobRecord(ONE, "alice", b"{}", bytes(64), None, "{}", "proposed", NOW, NOW))
        tables.ledger.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")
        tables.ledger.reserve(ONE, {ACCOUNT: EXACT}, CAPS, NOW, kind="evaluate")

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
    charge = {"job": ONE, "account": ACCOUNT, "kind": "evaluate", "epsilon": None, "delta": "0", "queries": 1, "answers": 3}
    charge |= dict.fromkeys(("unit", "squared", "excess", "distance"))
    assert entries[1].facts == charge
    caps = {"cap_epsilon": None, "cap_delta": None, "cap_queries": 2, "cap_answers": 6, "permits": []}
    stands = {"stands_epsilon": "0", "stands_added": "0", "stands_delta": "0", "stands_queries": 1, "stands_answers": 3}
    assert entries[0].facts == charge | caps | stands | {"stands_unbounded": ["evaluate"]}


def test_caps_that_a_person_set_last_stand(tmp_path: Path) -> None:
    database = a_database(tmp_path / "confide.db")
    with database.transaction() as tables:
        assert tables.ledger.find_caps(ACCOUNT) is None
        for queries in (1, 7):
            caps = Caps(queries=queries, epsilon=Decimal("0.5"), delta=Decimal("1E-7"), permits=("assess", "release"))
            tables.ledger.set_caps(ACCOUNT, caps, authorisation="a" * 64, now=NOW)
        found = tables.ledger.find_caps(ACCOUNT)
        assert tables.ledger.accounts() == (ACCOUNT,)
    database.close()
    assert found is not None
    assert found.caps == Caps(queries=7, epsilon=Decimal("0.5"), delta=Decimal("0.0000001"), permits=("assess", "release"))


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
    one = Amount(None, Decimal(0), 1, 5)
    of_model = dict.fromkeys(("consumer/alice/diagnosis@0123456789ab", "model/diagnosis@0123456789ab"), one)
    assert charges(job, "hospital-a") == {"dataset/patients": one} | of_model
    assert charges(job, "hospital-b") == {"dataset/scans": one} | of_model
    assert charges(job, "hospital-c") == {}


@pytest.mark.parametrize("noise", ["0", "50"])
def test_model_that_is_asked_by_rows_of_others_spends_what_one_asked_directly_does(noise: str) -> None:
    """Whoever may be told no more of a model could have another owner bring the rows that she asks about."""
    output = Output("error", OutputKind.CORRECT_COUNT, "alice", 2, noise=noise, noise_colluders=int(noise != "0"))
    job = an_evaluation(outputs=(output,), datasets=(a_dataset("hospital-c"), a_dataset("hospital-d")))
    account, capped = "consumer/alice/diagnosis@0123456789ab", Caps(epsilon=Decimal(50))
    charged = charges(job, "hospital-a")
    assert set(charged) == {account, "model/diagnosis@0123456789ab"}
    caps = dict.fromkeys(charged, Caps()) | {account: capped}
    (short,) = shortfalls((), job_id="one", kind="evaluate", charges=charged, caps=caps)
    assert (short.account, list(short.over)) == (account, ["epsilon"])
    assert "permits no evaluate under a cap" in short.problems[0].what
    permitted = dict.fromkeys(charged, replace(capped, permits=("evaluate",)))
    assert shortfalls((), job_id="one", kind="evaluate", charges=charged, caps=permitted) == ()


def test_data_sets_of_one_population_are_charged_to_one_account_and_once() -> None:
    outputs = (Output("a", OutputKind.CORRECT_COUNT, "alice", 5),)
    job = an_evaluation(outputs=outputs, datasets=(a_dataset("hospital-a"), a_dataset("hospital-a", "scans")))
    charged = {account: amount for account, amount in charges(job, "hospital-a").items() if account.startswith("dataset/")}
    assert set(charged) == {"dataset/patients", "dataset/scans"}
    one = Amount(None, Decimal(0), 1, 1)
    assert of_populations(charged, {"patients": "cohort", "scans": "cohort", "labs": "x"}) == {"dataset/cohort": one}
    assert of_populations(charged, {"scans": "patients"}) == {"dataset/patients": one}
    model = charges(an_inference(), "hospital-a")
    assert of_populations(model, {"diagnosis@0123456789ab": "x", "patients": "x"}) == model


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
