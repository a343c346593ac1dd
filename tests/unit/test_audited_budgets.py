"""Where accounts stand, worked out from the log alone: by the stand-alone verifier, and against the ledger by its party."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from governance.audit.entries import EntryKind, Fact, read_entry
from governance.budget.amounts import charges, served
from governance.budget.facts import refusal_facts
from governance.budget.ledger import LedgerEntry, Step, shortfalls, spent_with_noise
from governance.policy.budgets import Caps
from parties.auditing.own import verify_own
from parties.auditing.standalone import Budgets, Wrong, verify
from privacy.accounting.normal_bound import NormalBound
from protocols.errors import ConfideError, ErrorCode
from protocols.job import JobType, Output, OutputKind
from protocols.job_parts import Serving
from tests.support.audit_logs import AuditedParty, Said, an_audited_party
from tests.support.budget_logs import ACCOUNT, a_charge, an_amount, an_entry, log_of, reserved
from tests.support.mpc_world import a_job, a_model

ONE, TWO, THREE = ("a" * 32, "b" * 32, "c" * 32)
NO_CAPS = Caps(queries=10**6, answers=10**6)
SET = "set-budget"


@pytest.fixture
def party(tmp_path: Path) -> AuditedParty:
    return an_audited_party(tmp_path / "party")


def accounts(party: AuditedParty, said: list[Said]) -> Mapping[str, object]:
    """What the verifier finds in a log of these entries."""
    party.append([(EntryKind.STARTED, {}), *said])
    party.witnessed()
    report = verify(party.files().get, founder_fingerprint=party.founder_fingerprint, witnesses=None)
    return report.accounts.get(ACCOUNT, {})


def wrong(party: AuditedParty, said: list[Said]) -> tuple[int | None, str]:
    with pytest.raises(Wrong) as caught:
        accounts(party, said)
    return caught.value.entry, caught.value.what


def changed(said: Said, **facts: Fact) -> Said:
    return said[0], {**said[1], **facts}


def refusal(job: str, amount_epsilon: str | None, before: list[LedgerEntry], caps: Caps) -> Said:
    charge = {ACCOUNT: an_amount(amount_epsilon)}
    (short,) = shortfalls(before, job_id=job, kind="train", charges=charge, caps={ACCOUNT: caps})
    return EntryKind.BUDGET_REFUSED, refusal_facts(job, short, before)


def test_account_of_many_charges_stands_where_its_ledger_has_it(party: AuditedParty) -> None:
    """Two units, deltas of three powers of ten, sums without a bound, refunds in whole and in part: none comes out otherwise."""
    drawn = random.Random(11)
    entries: list[LedgerEntry] = []
    for number in range(60):
        epsilon = drawn.choice(["0.5", "1", "1.25", "2", None])
        unit, delta = drawn.choice(["a row", "a person"]), drawn.choice(["0.00001", "0.0001", "0.000000001"])
        amount = an_amount(epsilon, delta=delta, squared=drawn.choice([0.01, 0.0625, 0.3]), unit=unit)
        if epsilon is not None and drawn.random() < 0.2:
            amount = replace(amount, parts=())
        entries.append(an_entry(f"{number:032x}", amount, kind=drawn.choice(["train", "evaluate"])))
        if drawn.random() < 0.3:
            back = entries[-1].amount
            if epsilon is not None and amount.parts and drawn.random() < 0.5:  # half of what a serving was for
                half = NormalBound(unit, *(value / 2 for value in _bound(back)))
                level = replace(back.parts[0].levels[0], bound=half, epsilon=Decimal(epsilon) / 2)
                part = replace(back.parts[0], levels=(level,), largest=Decimal(epsilon) / 2)
                back = replace(back, epsilon=Decimal(epsilon) / 2, delta=Decimal(0), queries=0, parts=(part,))
            entries.append(replace(entries[-1], step=Step.REFUND, amount=back))
        elif drawn.random() < 0.5:
            entries.append(replace(entries[-1], step=Step.COMMIT))
    found = accounts(party, list(log_of(entries, NO_CAPS)))
    noisy = spent_with_noise(entries)
    assert noisy.composed_epsilon is not None
    assert noisy.epsilon is not None
    assert noisy.composed_epsilon < noisy.epsilon / 2  # else what is compared is a sum
    assert abs(Decimal(str(found["epsilon"])) - noisy.composed_epsilon) < Decimal("0.001")
    assert found["without_noise"] == ["evaluate", "train"]


def _bound(amount: object) -> tuple[Decimal, Decimal, Decimal]:
    bound = amount.parts[0].bound  # type: ignore[attr-defined]
    return bound.squared, bound.excess, bound.distance


@pytest.mark.parametrize(
    "change",
    [
        {"stands_epsilon": "1.4"},
        {"stands_epsilon": "2"},  # the sum, where charges compose
        {"stands_delta": "0.00001"},
        {"stands_queries": 1},
        {"stands_answers": 9},
        {"stands_unbounded": ["train"]},
        {"squared": "0.0001"},  # a bound that would compose to less
        {"unit": "another row"},
        {"epsilon": "0.9"},
        {"epsilon": None},
        {"delta": "0.0001"},
    ],
)
def test_charge_or_standing_that_is_another_is_found(party: AuditedParty, change: dict[str, Fact]) -> None:
    first, second = reserved(ONE, TWO, epsilon="1", caps=NO_CAPS)
    entry, what = wrong(party, [first, changed(second, **change)])
    assert entry == 2
    assert f"{ACCOUNT} does not stand where it says" in what


def test_bound_that_was_made_small_in_the_first_charge_is_found_with_the_second(party: AuditedParty) -> None:
    first, second = reserved(ONE, TWO, epsilon="1", caps=NO_CAPS)
    assert wrong(party, [changed(first, squared="0.0001"), second])[0] == 2


@pytest.mark.parametrize(
    ("charges", "caps", "is_above"),
    [
        (("1", "1"), Caps(epsilon=Decimal(2)), False),
        (("1", "1"), Caps(epsilon=Decimal("1.1")), True),
        ((None,), Caps(epsilon=Decimal(2)), True),
        ((None,), Caps(epsilon=Decimal(2), permits=("train",)), False),
        (("1", "1"), Caps(queries=1), True),
        ((None, None), Caps(answers=7), True),
        (("1",), Caps(epsilon=Decimal(1), delta=Decimal("0.000001")), True),
    ],
)
def test_reservation_above_the_caps_of_its_time_is_found(
    party: AuditedParty, charges: tuple[str | None, ...], caps: Caps, is_above: bool
) -> None:
    entries = [an_entry(f"{number:032x}", an_amount(epsilon)) for number, epsilon in enumerate(charges)]
    said = list(log_of(entries, caps))
    if is_above:
        entry, what = wrong(party, said)
        assert (entry, "above its caps" in what) == (len(charges), True)
    else:
        accounts(party, said)


def test_caps_are_those_that_an_officer_set_last(party: AuditedParty) -> None:
    caps = Caps(queries=7, answers=9, epsilon=Decimal("2.5"), delta=Decimal("0.001"), permits=("assess", "release"))
    subject = f"{ACCOUNT} queries 7 answers 9 epsilon 2.5 delta 0.001 permit assess,release"
    by_her: Said = (EntryKind.AUTHORISATION, {"action": SET, "subject": subject, "person": "nora"})
    before: Said = (EntryKind.AUTHORISATION, {"action": SET, "subject": f"{ACCOUNT} queries 1 answers 1 epsilon none delta none"})
    accounts(party, [before, by_her, *reserved(ONE, epsilon="1", caps=caps)])
    entry, what = wrong(party, reserved(TWO, epsilon="1", caps=replace(caps, queries=8)))
    assert "other caps than an officer had set" in what
    assert entry == 5


def test_refusal_is_checked_against_where_the_account_stood(party: AuditedParty) -> None:
    caps = Caps(queries=3, epsilon=Decimal("1.5"))
    before = [an_entry(ONE, an_amount("1")), an_entry(TWO, an_amount("1"))]
    said = list(log_of(before, caps))
    honest = refusal(THREE, "1", before, caps)
    found = accounts(party, [*said, honest])
    assert found["queries"] == 2  # what is refused is charged nothing


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"cap_epsilon": "3"}, "would have sufficed"),
        ({"epsilon": "0.0001", "squared": "0"}, "would have sufficed"),
        ({"over": []}, "would have sufficed"),
        ({"over": ["queries"]}, "would have sufficed"),
        ({"stands_epsilon": "1.49"}, "does not stand where it says"),
        ({"permits": "train"}, "does not say what"),
    ],
)
def test_refusal_that_was_not_due_is_found(party: AuditedParty, change: dict[str, Fact], what: str) -> None:
    caps = Caps(queries=3, epsilon=Decimal("1.5"))
    before = [an_entry(ONE, an_amount("1")), an_entry(TWO, an_amount("1"))]
    said = [*log_of(before, caps), changed(refusal(THREE, "1", before, caps), **change)]
    entry, found = wrong(party, said)
    assert (entry, what in found) == (3, True)


def test_refusal_that_no_party_writes_is_found_and_stops_no_verifier() -> None:
    caps, before = Caps(epsilon=Decimal("0.5")), list[LedgerEntry]()
    kind, facts = refusal(ONE, "1", before, caps)
    Budgets().check(0, kind.value, facts)
    with pytest.raises(Wrong):
        Budgets().check(0, kind.value, {**facts, "over": [["epsilon"]]})


def _twice(said: list[Said]) -> list[Said]:
    return [*said, said[0]]


def _more_back(said: list[Said]) -> list[Said]:
    return [*said, (EntryKind.REFUNDED, {**a_charge(ONE, epsilon="1"), "queries": 2})]


def _after_refund(said: list[Said]) -> list[Said]:
    back = a_charge(ONE, epsilon="1")
    return [*said, (EntryKind.REFUNDED, back), (EntryKind.DEBITED, back)]


def _back_after_it_was_spent(said: list[Said]) -> list[Said]:
    back = a_charge(ONE, epsilon="1")
    return [*said, (EntryKind.DEBITED, back), (EntryKind.REFUNDED, back)]


def _spent_twice(said: list[Said]) -> list[Said]:
    return [*said, *[(EntryKind.DEBITED, a_charge(ONE, epsilon="1"))] * 2]


def _less_spent(said: list[Said]) -> list[Said]:
    less = {**a_charge(ONE, epsilon="1"), "epsilon": "0.01", "squared": "0.0001"}
    return [*said, (EntryKind.DEBITED, less)]


def _nothing_spent_of_what_was_given_back(said: list[Said]) -> list[Said]:
    back = a_charge(ONE, epsilon="1")
    nothing = {
        **back,
        "epsilon": "0",
        "delta": "0",
        "queries": 0,
        "unit": None,
        "squared": None,
        "excess": None,
        "distance": None,
    }
    return [*said, (EntryKind.REFUNDED, back), (EntryKind.DEBITED, nothing)]


def _no_caps(said: list[Said]) -> list[Said]:
    kind, facts = said[0]
    return [(kind, {name: value for name, value in facts.items() if name != "permits"})]


@pytest.mark.parametrize(
    ("alter", "entry", "what"),
    [
        (_twice, 2, "reserved twice"),
        (_more_back, 2, "more was refunded"),
        (_after_refund, 3, "more was debited"),
        (_back_after_it_was_spent, 3, "more was refunded"),
        (_spent_twice, 3, "more was debited"),
        (_less_spent, 2, "less was debited"),
        (_nothing_spent_of_what_was_given_back, 3, "less was debited"),
        (_no_caps, 1, "does not say what"),
    ],
)
def test_steps_that_no_ledger_takes_are_found(
    party: AuditedParty, alter: Callable[[list[Said]], list[Said]], entry: int, what: str
) -> None:
    found = wrong(party, alter(reserved(ONE, epsilon="1", caps=NO_CAPS)))
    assert (found[0], what in found[1]) == (entry, True)


@pytest.mark.parametrize("steps", [(), (EntryKind.REFUNDED,)])
def test_output_that_was_released_without_a_debit_is_found(party: AuditedParty, steps: tuple[EntryKind, ...]) -> None:
    charge, of_job = a_charge(ONE, epsilon="1"), {"job": ONE}
    said: list[Said] = [
        (EntryKind.JOB_RECEIVED, of_job),
        *reserved(ONE, epsilon="1", caps=NO_CAPS),
        (EntryKind.COUNTERSIGNED, of_job),
        *((step, charge) for step in steps),
        (EntryKind.SESSION_ENDED, {**of_job, "state": "completed"}),
        (EntryKind.OUTPUT_RELEASED, {**of_job, "output": "labels", "recipient": "alice"}),
    ]
    entry, what = wrong(party, said)
    assert (entry, "was released although a budget" in what) == (len(said), True)


def test_output_of_a_job_that_was_charged_like_a_serving_is_found(party: AuditedParty) -> None:
    """Of a serving as much is debited as it answered: under that name any other job would be paid with a part of its charge."""
    of_job, reserve = {"job": ONE}, reserved(ONE, epsilon="1", caps=NO_CAPS)[0]
    part = {**a_charge(ONE, epsilon="1"), "kind": "serve", "epsilon": "0.01", "squared": "0.0001", "delta": "0"}
    said: list[Said] = [
        (EntryKind.JOB_RECEIVED, {**of_job, "job_type": "serve"}),
        changed(reserve, kind="serve"),
        (EntryKind.COUNTERSIGNED, of_job),
        (EntryKind.DEBITED, part),
        (EntryKind.SESSION_ENDED, {**of_job, "state": "completed"}),
    ]
    accounts(party, said)
    party.append([(EntryKind.OUTPUT_RELEASED, {**of_job, "output": "labels", "recipient": "alice"})])
    with pytest.raises(Wrong, match="which was charged by what it answers") as caught:
        verify(party.files().get, founder_fingerprint=party.founder_fingerprint, witnesses=None)
    assert caught.value.entry == len(said) + 1


@pytest.mark.parametrize(
    ("facts", "entry", "what"),
    [
        ({"job_type": "train"}, 2, "was charged as 'serve', and received as 'train'"),
        ({}, 3, "countersigned of job"),
        (None, 2, "model-kept of job"),
    ],
)
def test_training_that_was_charged_like_a_serving_is_found(
    party: AuditedParty, facts: Mapping[str, Fact] | None, entry: int, what: str
) -> None:
    """Nothing of a training is released, so that its output betrays nothing; but its model is kept."""
    of_job, charged = {"job": ONE}, changed(reserved(ONE, epsilon="1", caps=NO_CAPS)[0], kind="serve")
    kept = (EntryKind.MODEL_KEPT, {**of_job, "model": "diagnosis@0123456789ab"})
    received: list[Said] = []
    if facts is not None:
        received = [(EntryKind.JOB_RECEIVED, {**of_job, **facts})]
    found = wrong(party, [*received, charged, *([(EntryKind.COUNTERSIGNED, of_job)] if received else []), kept])
    assert (found[0], what in found[1]) == (entry, True)


def test_rounding_of_many_units_does_not_make_an_honest_log_wrong(party: AuditedParty) -> None:
    """Parties round each unit up by itself, and whoever asks decides for how many rows of a person the noise is."""
    drawn, entries = random.Random(3), []
    for number in range(48):
        amount = an_amount("1", squared=drawn.uniform(0.05, 0.0625), unit=f"a person, {number // 2} row(s)")
        entries.append(an_entry(f"{number:032x}", amount))
    said = list(log_of(entries, NO_CAPS))
    accounts(party, said)
    noisy = spent_with_noise(entries)
    assert noisy.composed_epsilon is not None
    facts = said[-1][1]
    assert wrong(party, [changed(said[-1], job="f" * 32, stands_epsilon=facts["stands_added"])])[0] == 50


def test_many_units_give_no_room_to_say_too_little(party: AuditedParty) -> None:
    """Who keeps the log decides how many units there are: what it may be off by must not grow to a whole charge."""
    small = [an_entry(f"{number:032x}", an_amount("0.001", unit=f"a person, {number} row(s)")) for number in range(1, 200)]
    *said, last = log_of([*small, an_entry("f" * 32, an_amount("1"))], NO_CAPS)
    lower = Decimal(str(last[1]["stands_epsilon"])) - Decimal("0.1")
    entry, what = wrong(party, [*said, changed(last, stands_epsilon=f"{lower:f}")])
    assert (entry, "does not stand where it says" in what) == (200, True)


def test_party_finds_a_ledger_that_says_something_else_than_its_log(party: AuditedParty) -> None:
    charge, caps = {ACCOUNT: an_amount("1")}, {ACCOUNT: Caps(epsilon=Decimal(5))}
    with party.database.transaction() as tables:
        for job in (ONE, TWO):
            tables.ledger.reserve(job, charge, caps, party.now, kind="train")
        tables.ledger.commit(ONE, party.now)
        tables.ledger.refund(TWO, party.now)
        written = [read_entry(entry.body) for entry in tables.audit.entries(0, 9)]
    assert Decimal(str(written[0].facts["squared"])) == Decimal("0.0625")
    assert written[0].facts["unit"]

    def verified() -> None:
        verify_own(party.config, witnesses=0, seen=[], now=party.now)

    def change(statement: str) -> None:
        with sqlite3.connect(party.config.folder.database_file) as connection:
            connection.execute(statement)
        connection.close()

    def alter(statement: str) -> str:
        change(statement)
        with pytest.raises(ConfideError) as caught:
            verified()
        assert caught.value.code is ErrorCode.LOG_DAMAGED
        return caught.value.what

    verified()
    changed_bound = "UPDATE ledger SET squared = '0.01' WHERE number = 1"
    assert "entry 0: the ledger has another charge" in alter(changed_bound)
    change("UPDATE ledger SET squared = (SELECT squared FROM ledger WHERE number = 2) WHERE number = 1")
    verified()
    assert "the ledger has 3 lines, and the log 4" in alter("DELETE FROM ledger WHERE number = 4")


def test_serving_that_gives_a_part_back_and_one_that_gives_all_add_up(party: AuditedParty) -> None:
    serving = Serving(block_rows=4, max_queries=10, max_rows=40, idle_s=60, lifetime_s=600, rekey_s=600)
    output = Output("answer", OutputKind.PROBABILITY, "researcher", noise="5", noise_colluders=1)
    job = a_job(JobType.SERVE, model=a_model(4), serving=serving, wanted=(output,))
    charge = charges(job, "alpha")
    caps = dict.fromkeys(charge, NO_CAPS)
    with party.database.transaction() as tables:
        for number, (queries, rows) in enumerate([(2, 7), (0, 0), (10, 40), (1, 4)]):
            tables.ledger.reserve(f"{number:032x}", charge, caps, party.now, kind="serve")
            used = served(job, "alpha", queries=queries, rows=rows)
            tables.ledger.settle(f"{number:032x}", used, party.now)
        account = next(iter(charge))
        total = spent_with_noise(tables.ledger.of_account(account))
        party.now += timedelta(seconds=1)
    party.append([(EntryKind.STARTED, {})])
    party.witnessed()
    found = verify_own(party.config, witnesses=2, seen=[], now=party.now).accounts[account]
    assert total.composed_epsilon is not None
    assert abs(Decimal(str(found["epsilon"])) - total.composed_epsilon) < Decimal("0.001")
    assert (found["queries"], found["answers"], found["delta"]) == (13, 51, f"{total.delta:f}")
