"""How the epsilons of jobs compose: against the exact composition of their privacy losses, and in the ledger of an owner."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.pld import PLDAccountant

from governance.budget.amounts import Amount, charges, dataset_account, served
from governance.budget.ledger import LedgerEntry, Step, reserve, shortfalls, spent
from governance.policy.budgets import Caps
from parties.storage.jobs import JobRecord
from privacy.accounting.accountant import Account, normal_mu
from privacy.accounting.composition import Composition, by_unit, composed_epsilon
from privacy.accounting.events import event_of
from privacy.accounting.jobs import noise_of, sampler_of
from privacy.accounting.noisy_answers import profile
from privacy.accounting.normal_bound import UNIT_OF_ROWS, normal_bound
from privacy.accounting.samplers import FullBatch
from privacy.accounting.training_bound import EXCESS_SHARE, training_bound
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.job_parts import Serving
from protocols.private_training import Unit
from tests.support.databases import a_database
from tests.support.jobs import a_dataset
from tests.support.ledgers import NOW
from tests.support.mpc_world import a_job, a_model
from tests.unit.test_noisy_answer_budgets import noisy
from tests.unit.test_private_claims import a_private_training, of_noisy_sums

ACCOUNT = "dataset/patients"
DELTA = Decimal("0.00001")


def exact_epsilon(jobs: list[Job], delta: float) -> float:
    """The composition of the privacy losses of jobs that were all fixed beforehand, from below: no distance is charged."""
    accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, value_discretization_interval=1e-4)
    for job in jobs:
        accountant.compose(event_of(sampler_of(job), float(noise_of(job).multiplier)))
    return float(accountant.get_epsilon(delta))


def together(jobs: list[Job]) -> Amount:
    entries = [
        LedgerEntry(ACCOUNT, f"{number:032x}", Step.RESERVE, charges(job, "hospital-a")[ACCOUNT], NOW, "train")
        for number, job in enumerate(jobs)
    ]
    return spent(entries)


@pytest.mark.parametrize("count", [2, 8])
def test_full_batches_compose_to_what_their_privacy_losses_give(count: int) -> None:
    """A normal mechanism is its own bound: what remains is the discretisation of the reference, of 1e-4 a loss, and 4 places."""
    jobs = [a_private_training(noise_multiplier=str(29 + number)) for number in range(count)]
    found, exact = together(jobs).composed_epsilon, exact_epsilon(jobs, 1e-5)
    assert found is not None
    assert exact - 1e-3 <= float(found) <= exact + 1e-3
    assert found < count


def test_samples_and_full_batches_compose_to_no_less_than_their_privacy_losses() -> None:
    """The bound of a sample costs something, here below 5 %; it is far below the sum."""
    jobs = [a_private_training(), of_noisy_sums(), of_noisy_sums(noise_multiplier="5"), a_private_training()]
    found, exact = together(jobs), exact_epsilon(jobs, 1e-5)
    assert found.composed_epsilon is not None
    assert exact <= float(found.composed_epsilon) <= 1.05 * exact
    assert found.composed_epsilon < Decimal("0.6") * (found.epsilon or 0)


@pytest.mark.parametrize(("noise", "interval"), [("1", 5e-4), ("4", 1e-4), ("20", 1e-4)])
def test_bound_of_a_sample_is_nowhere_below_its_privacy_profile(noise: str, interval: float) -> None:
    """At points of its own, between those that the fit looked at, by another discretisation."""
    job = of_noisy_sums(noise_multiplier=noise)
    sampler, excess = sampler_of(job), float(DELTA) / EXCESS_SHARE
    mu = normal_mu(sampler, noise_multiplier=noise_of(job).multiplier, excess=excess)
    assert mu is not None
    finer = Account(sampler, float(noise_of(job).multiplier), interval=interval)
    for epsilon in np.geomspace(1e-3, finer.ideal_epsilon(excess), 101):
        assert finer._pld.get_delta(float(epsilon)) <= excess + (1 - excess) * profile(mu, float(epsilon))


def test_bound_without_need_is_tight() -> None:
    """Of full batches the same fit finds their own deviation again, up to its grid."""
    mu = normal_mu(FullBatch(60), noise_multiplier="29", excess=1e-8)
    assert mu is not None
    assert 60**0.5 / 29 <= mu <= 1.01 * 60**0.5 / 29


def test_distances_and_excess_are_taken_from_delta() -> None:
    plain = composed_epsilon(normal_bound(UNIT_OF_ROWS, squared=0.25), DELTA)
    assert plain is not None
    for costs in ({"excess": 5e-6}, {"distance": 1e-7}):
        dearer = composed_epsilon(normal_bound(UNIT_OF_ROWS, squared=0.25, **costs), DELTA)
        assert dearer is not None
        assert dearer > plain
    assert composed_epsilon(normal_bound(UNIT_OF_ROWS, squared=0.25, excess=1e-5), DELTA) is None
    assert composed_epsilon(normal_bound(UNIT_OF_ROWS, squared=1e4), DELTA) is None


def test_charge_of_a_small_delta_does_not_make_those_of_large_ones_add_up() -> None:
    """The bound of a sample tells everything with a probability that is above the delta of a noisy count."""
    ten = together([of_noisy_sums()] * 10)
    bound = normal_bound(UNIT_OF_ROWS, squared=0.0001)
    count = Amount(
        Decimal("0.05"), Decimal("1E-9"), 1, 4, (Composition.of(bound, epsilon=Decimal("0.05"), delta=Decimal("1E-9")),)
    )
    found = ten + count
    (part,) = found.parts
    assert composed_epsilon(part.bound, Decimal("1E-9")) is None
    assert ten.composed_epsilon is not None
    assert ten.epsilon is not None
    assert ten.composed_epsilon < ten.epsilon / 2
    assert found.composed_epsilon is not None
    assert ten.composed_epsilon <= found.composed_epsilon <= ten.composed_epsilon + Decimal("0.05")
    assert part.at_delta in (DELTA + Decimal("1E-9"), DELTA)


def test_charge_that_claims_more_than_it_needs_is_lowered_by_no_other_one() -> None:
    bound = normal_bound(UNIT_OF_ROWS, squared=0.01)
    generous = Composition.of(bound, epsilon=Decimal(5), delta=DELTA)
    small = Composition.of(normal_bound(UNIT_OF_ROWS, squared=1e4), epsilon=Decimal(1), delta=Decimal("1E-9"))
    more = Composition.of(bound, epsilon=Decimal("0.5"), delta=DELTA)
    assert generous.epsilon == 5
    assert (generous + small).epsilon <= (generous + small + more).epsilon


def test_what_only_adds_up_is_at_the_sum_of_its_deltas() -> None:
    loose = Composition.of(normal_bound(UNIT_OF_ROWS, squared=1e4), epsilon=Decimal(1), delta=DELTA)
    assert (loose + loose).epsilon == 2
    assert (loose + loose).at_delta == 2 * DELTA


def test_units_compose_apart_and_add_up() -> None:
    rows, people = [a_private_training()] * 2, [a_private_training(unit=Unit.PERSON, noise_multiplier="30")] * 2
    apart = [together(rows).composed_epsilon, together(people).composed_epsilon]
    found = together([*rows, *people])
    assert [part.bound.unit for part in found.parts] == ["zero-out person, 1 row(s)", "zero-out row"]
    assert found.composed_epsilon == sum(each for each in apart if each is not None)


def test_single_charge_is_what_it_claims_and_the_rule_is_said() -> None:
    job = a_private_training(epsilon="1.5")
    assert together([job]).epsilon_in_words == "1.5"
    said = together([job, job]).epsilon_in_words
    assert "composed; added up 3.0" in said
    (problem,) = together([job] * 4).over(Caps(epsilon=Decimal("1.5"))).values()
    assert "composed" in problem


def test_composition_lets_more_jobs_under_a_cap_than_their_sum_and_stops_them_there() -> None:
    amount, caps = charges(a_private_training(), "hospital-a"), {ACCOUNT: Caps(epsilon=Decimal(3))}
    entries: list[LedgerEntry] = []
    for number in range(7):  # three by their sum
        entries += reserve(entries, job_id=f"{number:032x}", kind="train", charges=amount, caps=caps, now=NOW)
    with pytest.raises(ConfideError) as caught:
        reserve(entries, job_id="f" * 32, kind="train", charges=amount, caps=caps, now=NOW)
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED
    (short,) = shortfalls(entries, job_id="f" * 32, kind="train", charges=amount, caps=caps)
    assert [word in short.in_words for word in ("composed", "added up 8")] == [True, True]


def test_ledger_on_disk_keeps_by_what_a_charge_composes(tmp_path: Path) -> None:
    database, account = a_database(tmp_path / "confide.db"), {ACCOUNT: Caps()}
    jobs = [a_private_training(), of_noisy_sums()]
    with database.transaction() as tables:
        for number, job in enumerate(jobs):
            tables.jobs.add(JobRecord(f"{number:032x}", "alice", b"{}", bytes(64), None, "{}", "proposed", NOW, NOW))
            tables.ledger.reserve(f"{number:032x}", charges(job, "hospital-a"), account, NOW, kind="evaluate")
    with database.transaction() as tables:
        kept = spent(tables.ledger.of_account(ACCOUNT))
    database.close()
    assert kept.parts == together(jobs).parts


def test_new_version_of_a_data_set_begins_with_what_was_spent_of_the_last() -> None:
    first = a_private_training()
    later = replace(first, datasets=tuple(replace(each, version=2, commitment="d" * 64) for each in first.datasets))
    assert set(charges(first, "hospital-a")) == set(charges(later, "hospital-a")) == {dataset_account("patients")}
    assert together([first, later]).epsilon == 2


def test_data_sets_of_other_names_have_budgets_of_their_own() -> None:
    both = (a_dataset("hospital-a"), a_dataset("hospital-a", "scans"), a_dataset("hospital-b"))
    job = replace(a_private_training(), datasets=both)
    assert set(charges(job, "hospital-a")) == {"dataset/patients", "dataset/scans"}


def test_what_a_serving_did_not_answer_is_taken_from_its_bound() -> None:
    serving = Serving(block_rows=4, max_queries=10, max_rows=40, idle_s=60, lifetime_s=600, rekey_s=600)
    job = a_job(JobType.SERVE, model=a_model(4), serving=serving, wanted=(noisy(),))
    charged, used = charges(job, "alpha"), served(job, "alpha", queries=2, rows=10)
    for account, amount in charged.items():
        (whole,), (part,) = amount.parts, used[account].parts
        assert float(part.bound.squared / whole.bound.squared) == pytest.approx(0.25, rel=1e-12)
        assert amount.less(amount.less(used[account])).parts[0].bound == part.bound


def processor_s(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def test_composition_of_a_long_history_takes_milliseconds() -> None:
    """A thousand charges of one account, as a transaction adds them up: 50 ms are what an acceptance may take."""
    (part,) = charges(a_private_training(), "hospital-a")[ACCOUNT].parts
    amounts = [Amount(Decimal(1), DELTA, 1, 0, (part,))] * 1_000
    entries = [
        LedgerEntry(ACCOUNT, f"{number:032x}", Step.RESERVE, amount, NOW, "train") for number, amount in enumerate(amounts)
    ]
    spent(entries[:10])
    assert min(processor_s(lambda: spent(entries).composed_epsilon) for _ in range(3)) < 0.05


def test_training_whose_noise_cannot_be_drawn_has_no_bound() -> None:
    assert training_bound(a_private_training(noise_multiplier="10000", norm_bound="1000")) is None
    assert by_unit(()) == ()
