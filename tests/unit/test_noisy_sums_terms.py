"""What a job of noisy sums may not say, and what its preview says of who learns what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from governance.consent.limits import ParameterLimits
from governance.preview_learns import who_learns_what
from protocols.job import Job, check
from protocols.model.layers import BatchNorm, Dropout, Linear, Relu
from protocols.model.spec import ModelSpec
from protocols.mpc.noisy_sums_plan import noisy_sums_plan
from protocols.mpc.planning import checkpoint_times, derive_plan
from protocols.plan.estimate import LOOPBACK, estimate
from protocols.private_training import Unit
from protocols.training import Optimiser, OptimiserKind
from tests.support.noisy_sums import CLASSES, FEATURES, a_noisy_sums_job

ROWS = {"alpha": 60, "gamma": 50, "omega": 40}


def with_terms(job: Job, **changes: Any) -> Job:
    assert job.training is not None
    assert job.training.privacy is not None
    return replace(job, training=replace(job.training, privacy=replace(job.training.privacy, **changes)))


def wrong(job: Job) -> set[str]:
    return {problem.where for problem in check(job)}


def test_colluders_that_are_all_computing_parties_are_refused() -> None:
    job = a_noisy_sums_job(ROWS)
    assert wrong(with_terms(job, colluders=2)) == {"training.privacy.colluders"}
    three = a_noisy_sums_job(ROWS, computing=("alpha", "gamma", "omega"), dealer="delta", colluders=2)
    assert wrong(three) == set()


def test_people_with_several_rows_and_large_samples_are_refused() -> None:
    job = a_noisy_sums_job(ROWS)
    assert wrong(with_terms(job, unit=Unit.PERSON_EVERYWHERE)) == {"training.privacy.unit"}
    assert wrong(with_terms(job, unit=Unit.PERSON, rows_per_person=2)) == {"training.privacy.unit"}
    assert wrong(with_terms(job, nominal_rows=39, nominal_people=39)) == {"training.batch_size"}


@pytest.mark.parametrize("decay", ["none", "", "1e400", "-0.1"])
def test_decay_that_is_no_decimal_is_a_problem_and_no_crash(decay: str) -> None:
    job = a_noisy_sums_job(ROWS)
    assert job.training is not None
    optimiser = Optimiser(OptimiserKind.ADAM, "0.05", weight_decay=decay, beta1="0.9", beta2="0.99", epsilon="0.0001")
    assert wrong(replace(job, training=replace(job.training, optimiser=optimiser))) == {"training.optimiser.weight_decay"}


@pytest.mark.parametrize("layer", [BatchNorm(), Dropout("0.5")])
def test_layers_that_mix_rows_or_draw_are_refused(layer: BatchNorm | Dropout) -> None:
    spec = ModelSpec.chain(FEATURES, hidden=Linear(4), between=layer, relu=Relu(), out=Linear(CLASSES))
    assert wrong(replace(a_noisy_sums_job(ROWS), model=spec)) == {"model"}


def test_preview_says_that_every_participant_learns_the_noisy_sums() -> None:
    job = a_noisy_sums_job(ROWS, dealer="delta")
    learned = dict(who_learns_what(job, noisy_sums_plan(job)))
    assert "noisy sum of the gradients in every step" in learned["alpha, beta, gamma, omega"]
    assert "every owner's sum of every step, without noise" in learned["alpha, beta"]
    assert learned["delta"] == "that the job ran, and its shapes"
    planted = a_noisy_sums_job(ROWS, canaries=9)
    told = "which epsilon the canaries of each owner show at least"
    assert [dict(who_learns_what(each, noisy_sums_plan(each))).get("everybody") for each in (job, planted)] == [None, told]
    inside = a_noisy_sums_job(ROWS, dealer="gamma")
    assert "gamma" not in dict(who_learns_what(inside, noisy_sums_plan(inside)))


def test_derived_plan_has_the_steps_the_noise_and_no_checkpoint() -> None:
    job = a_noisy_sums_job(ROWS, canaries=9)
    plan = derive_plan(job)
    assert plan == replace(noisy_sums_plan(job), noise=plan.noise)
    assert plan.noise is not None
    assert plan.noise.used == sum(part.num_elements for part in plan.inputs[:1]) // 4
    assert checkpoint_times(job) is None
    assert plan.signals == 0


def test_estimate_holds_the_sums_of_one_step_and_not_of_all() -> None:
    few, many = (noisy_sums_plan(a_noisy_sums_job(ROWS, steps=steps)) for steps in (10, 1_000))
    assert estimate(many, LOOPBACK).memory_bytes == estimate(few, LOOPBACK).memory_bytes
    assert estimate(many, LOOPBACK).seconds > estimate(few, LOOPBACK).seconds


def test_limit_on_steps_counts_the_epochs_of_a_private_training() -> None:
    job = a_noisy_sums_job(ROWS, steps=40)
    assert list(ParameterLimits(max_steps=40).problems(job)) == []
    assert [problem.where for problem in ParameterLimits(max_steps=39).problems(job)] == ["max_steps"]
