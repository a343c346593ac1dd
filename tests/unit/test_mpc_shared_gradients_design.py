"""What one unit can add to a sum of gradients: derived by hand, and for residuals of every number of the ring."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Partition, Task, check
from protocols.mpc.inputs import ROW_LIMIT
from protocols.mpc.primitives.sigmoid import COEFFICIENTS, HARMONICS, MAX_ERROR
from protocols.mpc.programs.train_private import residuals
from protocols.mpc.row_bounds import shorten_rows, squared_limit
from protocols.mpc.shared_gradients_design import (
    START_LIMIT,
    check_fits,
    design,
    gradient_bounds,
    largest_parameter,
    logit_bits,
    residual_limit,
    unit_rows,
)
from protocols.private_training import Unit
from protocols.training import Loss, Optimiser, OptimiserKind
from tests.support.mpc_world import random_ring, run_protocol, split
from tests.support.private_training import OWNERS, a_private_job, private_sgd, terms

EDGES = [sign * (2**power + off) for power in (*range(16, 63), 16) for sign in (-1, 1) for off in (-1, 0, 1)]


def a_linear_job(**changes: Any) -> Job:
    training = private_sgd(5, "0.1", privacy=terms(300, **changes), loss=Loss.MEAN_SQUARED_ERROR)
    return a_private_job(training, features=5, owners={"alpha": 150, "gamma": 150}, task=Task.REAL)


def a_logistic_job(*, bias: bool = True, **changes: Any) -> Job:
    return a_private_job(private_sgd(5, "1", privacy=terms(**changes)), bias=bias)


@pytest.mark.parametrize("job", [a_logistic_job(), a_logistic_job(norm_bound="5.4"), a_linear_job()])
def test_residual_is_bounded_for_every_number_of_the_ring(job: Job) -> None:
    # Weights that noise has driven anywhere give such predictions; magnitudes are declared as the program does.
    predicted = np.concatenate([random_ring(3, (6_000,)), np.array([*EDGES, 2**63 - 1, -(2**63)])]).reshape(-1, 1)
    low = 0 if job.task is Task.BINARY else -(2**16)
    for label in (low, 2**16):
        labels = np.full_like(predicted, label)
        shares = list(zip(split(predicted, 2, 3), split(labels, 2, 4), strict=True))
        run = run_protocol(
            lambda engine, mine: residuals(engine, mine[0], mine[1], task=job.task, logit_bits=logit_bits(job)), shares
        )
        assert np.abs(run.value).max() <= residual_limit(job)
        # The bound is met, so it is no guess.
        assert np.abs(run.value).max() >= 2**16


def test_series_of_the_sigmoid_is_bounded_over_its_whole_period() -> None:
    # Whichever number of the ring a prediction is, its phase lies in the period; the sigmoid is 0, 1 or (1 + S) / 2.
    step = 2.0**-12
    phase = np.arange(-32, 32, step)
    waves = [(b / 2**24, 2 * np.pi * k / 64) for b, k in zip(COEFFICIENTS, HARMONICS, strict=True)]
    largest = np.abs(sum(b * np.sin(frequency * phase) for b, frequency in waves)).max()
    # At its largest |S| is flat, so between two places of the grid it is higher by its curvature alone.
    largest += step**2 / 8 * sum(b * frequency**2 for b, frequency in waves)
    # test_mpc_sigmoid.py derives what truncation and roundings add: 1.8e-5.
    assert (largest - 1) / 2 + 1.8e-5 <= MAX_ERROR


def test_sensitivity_is_what_it_is_by_hand() -> None:
    # (65536 + 7) * 65536 * sqrt(1 + 1), rounded up; 1e-4 of the sigmoid is 6.6 units.
    squared = 2 * (65_543 * 65_536) ** 2
    assert residual_limit(a_logistic_job()) == 65_543
    assert design(a_logistic_job(), 0).sensitivity == isqrt(squared) + 1
    assert design(a_logistic_job(bias=False), 0).sensitivity == 65_543 * 65_536
    assert design(a_linear_job(norm_bound="0.75"), 0).sensitivity == 5 * 2**30  # 1.25 on the grid of 2^-32


@pytest.mark.parametrize(
    ("unit", "rows", "partition", "expected"),
    [
        (Unit.ROW, 1, Partition.ROWS, 1),
        (Unit.PERSON, 3, Partition.ROWS, 3),
        (Unit.PERSON_EVERYWHERE, 3, Partition.ROWS, 12),
        (Unit.PERSON_EVERYWHERE, 3, Partition.COLUMNS, 3),
    ],
)
def test_unit_has_rows_at_one_or_all_owners(unit: Unit, rows: int, partition: Partition, expected: int) -> None:
    job = replace(a_logistic_job(unit=unit, rows_per_person=rows), partition=partition)
    assert unit_rows(job) == expected
    assert design(job, 0).sensitivity == expected * design(a_logistic_job(), 0).sensitivity


@settings(max_examples=60)
@given(bound=st.integers(1, 8_000), seed=st.integers(0, 2**32), size=st.floats(0, 1), residual=st.integers(-65_543, 65_543))
def test_no_row_adds_more_than_the_sensitivity(bound: int, seed: int, size: float, residual: int) -> None:
    job = a_logistic_job(norm_bound=f"{bound / 1000:.3f}")
    squared = squared_limit(job, job.datasets[0])
    assert squared is not None
    row = size * np.random.default_rng(seed).choice([-1.0, 1.0], (1, 30))
    integers = [int(number) for number in shorten_rows(row, squared=squared, limit=ROW_LIMIT)[0]]
    added = [residual * number for number in integers] + [residual << 16]
    assert sum(number**2 for number in added) <= design(job, 0).sensitivity ** 2


def test_noise_of_those_that_do_not_collude_is_the_multiple_of_the_sensitivity() -> None:
    plain = design(a_logistic_job(), 20)
    for colluders in (1, 2, 3):
        job = a_logistic_job()
        assert job.training is not None
        job = replace(job, training=replace(job.training, privacy=terms(colluders=colluders)))
        found = design(job, 20)
        honest = len(OWNERS) - colluders
        assert found.deviation**2 * honest >= 4 * found.sensitivity**2 > (found.deviation - 1) ** 2 * honest
        assert (found.owners, found.steps, found.used, found.spares, found.scale_bits) == (tuple(OWNERS), 5, 31, 20, 32)
        assert found.sensitivity == plain.sensitivity


def test_sum_and_noise_have_room_in_the_ring_or_the_job_is_refused() -> None:
    job = a_logistic_job()
    bounds = gradient_bounds(job)
    deviation = design(job, 0).deviation
    assert bounds.sum == 569 * 65_543 * 65_536
    assert bounds.noise**2 >= 100 * 4 * deviation**2 > (bounds.noise - 2) ** 2
    check_fits(job)
    with pytest.raises(ConfideError) as caught:
        check_fits(a_logistic_job(noise_multiplier="10000", unit=Unit.PERSON, rows_per_person=1000, norm_bound="1000"))
    assert caught.value.code is ErrorCode.INVALID_JOB
    assert "beyond 2^62" in str(caught.value)


def test_reach_of_plain_descent_is_a_sum_by_hand() -> None:
    job = a_private_job(private_sgd(40, "2", privacy=terms()))
    bounds = gradient_bounds(job)
    rows, noise = bounds.sum / 569 / 2**32, bounds.noise / 569 / 2**32
    assert largest_parameter(job, bounds) == pytest.approx(START_LIMIT + 2 * (40 * rows + np.sqrt(40) * noise))


def test_reach_with_momentum_and_decay_bounds_every_run() -> None:
    training = private_sgd(30, "2", "0.9", privacy=terms())
    job = a_private_job(replace(training, optimiser=replace(training.optimiser, weight_decay="0.02")))
    bounds = gradient_bounds(job)
    reach, gradient, deviation = largest_parameter(job, bounds), bounds.sum / 569 / 2**32, bounds.noise / 10 / 569 / 2**32
    generator = np.random.default_rng(2)
    # Gradients of any sign in any step, among them always the same one and the worst by far; noise of its deviation.
    signs = generator.choice([-1.0, 1.0], (2_000, 30))
    signs[0], signs[1] = 1.0, -1.0
    weights, momenta = np.full(2_000, float(START_LIMIT)) * signs[:, 0], np.zeros(2_000)
    largest = 0.0
    for step in range(30):
        drawn = gradient * signs[:, step] + generator.normal(0, deviation, 2_000)
        momenta = 0.9 * momenta + drawn + 0.02 * weights
        weights = weights - 2 * momenta
        largest = max(largest, float(np.abs(weights).max()), float(np.abs(momenta).max()))
    assert 0.25 * reach < largest <= reach


def test_adam_is_refused_for_what_it_is() -> None:
    adam = Optimiser(OptimiserKind.ADAM, "0.1", beta1="0.9", beta2="0.999", epsilon="0.001")
    job = a_logistic_job()
    assert job.training is not None
    problems = list(check(replace(job, training=replace(job.training, optimiser=adam))))
    assert [problem.where for problem in problems] == ["training.optimiser.kind"]


def test_other_jobs_have_no_such_noise() -> None:
    job = a_logistic_job()
    assert job.training is not None
    with pytest.raises(ConfideError):
        design(replace(job, training=replace(job.training, privacy=None)), 0)
