"""Owners' own contributions audited by their canaries: a sound training keeps its claim, faulty ones are found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from privacy.accounting.statement import statement_of
from privacy.audit.one_run import epsilon_lower_bound
from protocols.job import Job, Task
from protocols.mpc import noisy_sums_contribution
from protocols.mpc.noisy_sums_contribution import CanaryScores, Contributions
from protocols.mpc.noisy_sums_design import design
from protocols.training import Loss
from tests.support.mpc_world import a_model
from tests.support.noisy_sums import a_noisy_sums_job, bytes_of, initial_weights, rows_for

STEPS, CANARIES = 60, 4_000


@pytest.fixture(scope="module")
def job() -> Job:
    """A training whose claim is near 1: few canaries can refute that."""
    return a_noisy_sums_job(
        {"alpha": 200, "beta": 200},
        steps=STEPS,
        batch_size=100,
        canaries=CANARIES,
        noise_multiplier="7",
        delta="0.00001",
        epsilon="2",
        spec=a_model(4),
        task=Task.BINARY,
        loss=Loss.BINARY_CROSS_ENTROPY,
    )


def audited(job: Job, *, share_of_noise: float = 1.0) -> CanaryScores:
    """One owner's canaries after a training at fixed weights, as a coalition sees them that takes its own noise off again."""
    owner = Contributions(job=job, party="alpha", rows=rows_for(job)["alpha"], random=bytes_of("audited"))
    weights, noise = initial_weights(job.model), np.random.default_rng(12)
    deviation = share_of_noise * design(job, 0).deviation
    for _ in range(STEPS):
        total = owner.next_sum(weights)
        owner.see(total + np.rint(noise.normal(0, deviation, total.shape)).astype(np.int64))
    found = owner.canary_scores()
    assert found is not None
    return found


def bound(job: Job, found: CanaryScores) -> float:
    return epsilon_lower_bound(found.scores, found.included, delta=1e-5).epsilon


def claimed(job: Job) -> float:
    statement = statement_of(job)
    assert statement is not None
    return float(statement.accounted_epsilon)


def test_sound_training_is_not_refuted(job: Job) -> None:
    assert bound(job, audited(job)) < claimed(job) < 2


def test_noise_that_is_ten_times_too_small_is_found(job: Job) -> None:
    assert bound(job, audited(job, share_of_noise=0.1)) > claimed(job)


def every_row(num_rows: int, *, batch_size: int, nominal_rows: int, random: Callable[[int], bytes]) -> np.ndarray:
    return np.ones(num_rows, np.bool_)


def test_sampling_that_is_left_out_is_found(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noisy_sums_contribution, "draw_sample", every_row)
    monkeypatch.setattr(noisy_sums_contribution, "batch_of", lambda job, party: 200 + CANARIES // 2)
    assert bound(job, audited(job)) > claimed(job)


def test_contributions_four_times_the_bound_are_found(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noisy_sums_contribution, "fine_bound", lambda _: 4 << 36)
    assert bound(job, audited(job)) > claimed(job)
