"""Private training on shares against its numerical twin, with the same noise; what it opens; what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from privacy.twin.shared_gradients import train_twin
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Task
from protocols.model.layers import Flatten, Linear, Sigmoid
from protocols.model.spec import ModelSpec
from protocols.mpc.inputs import LocalInputs, check_inputs
from protocols.mpc.planning import checkpoint_times, derive_plan
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from protocols.mpc.programs import train_private
from protocols.mpc.shared_gradients_design import START_LIMIT, design
from protocols.private_training import PrivateTraining
from protocols.training import CheckpointRule, Loss, Schedule, ScheduleKind, Training
from tests.support.plain_training import breast_cancer
from tests.support.private_training import (
    OWNERS,
    ZEROS,
    a_private_job,
    drawn_noise,
    private_sgd,
    run_private,
    shortened,
    terms,
)

FEATURES, LABELS = breast_cancer()
UNIT = 2.0**-24


def twin(job: Job, features: np.ndarray, labels: np.ndarray, start: Mapping[str, np.ndarray], noise: np.ndarray) -> np.ndarray:
    assert job.training is not None
    wanted = np.rint(labels * 2**16).astype(np.int64)
    found = train_twin(features, wanted, training=job.training, task=job.task, noise=noise, start=start)
    return together(found, start)


def together(model: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([model[name].reshape(-1) for name in start])


def tolerance(job: Job, noise: np.ndarray, error: float) -> float:
    """How far parameters may be apart, Euclidean, for residuals that are off by an error at most.

    Without momentum a step of gradient descent on a smooth convex loss brings no two points farther apart while the rate is at
    most 2 / L, so errors of the steps add up: each is rate times the gradient of the error, 2^-16 of the step, since the protocol
    keeps so many bits of the rate, and three units of rounding (two of the protocol, one of the twin) in every coordinate.
    """
    training = job.training
    assert training is not None
    assert training.privacy is not None
    factor = (2 if job.task is Task.REAL else 1) / training.privacy.nominal_rows
    norm = np.sqrt(float(training.privacy.norm_bound) ** 2 + 1)
    curvature = factor * job.num_rows * norm**2 * (1 if job.task is Task.REAL else 0.25)
    rate = float(training.optimiser.learning_rate)
    assert rate * curvature <= 2, "the step may bring points apart"
    coordinates = job.model.input_features + 1
    longest = factor * (job.num_rows * norm + np.linalg.norm(noise, axis=1).max() / 2.0**32)
    each = rate * (factor * job.num_rows * norm * error + 2.0**-16 * longest) + 3 * UNIT * np.sqrt(coordinates)
    return float(training.epochs * each)


@pytest.mark.parametrize("computing", [("alpha", "beta"), ("alpha", "omega", "beta")], ids=["2 parties", "3 parties"])
def test_logistic_training_is_that_of_its_twin(computing: tuple[str, ...]) -> None:
    job = a_private_job(private_sgd(15, "3", privacy=terms()), computing=computing)
    rows, noise = shortened(job, FEATURES), drawn_noise(job)
    found = together(run_private(job, rows, LABELS, ZEROS, noise).model, ZEROS)
    # The protocol's sigmoid is off by its stated error, the twin's by half a unit of 2^-16.
    allowed = tolerance(job, noise, MAX_ERROR + 2.0**-17)
    assert np.linalg.norm(found - twin(job, rows, LABELS, ZEROS, noise)) <= allowed
    # One step's noise left out, or another's taken, would show.
    silent = noise.copy()
    silent[7] = 0
    assert np.linalg.norm(found - twin(job, rows, LABELS, ZEROS, silent)) > 3 * allowed
    assert np.linalg.norm(found - twin(job, rows, LABELS, ZEROS, np.roll(noise, 1, axis=0))) > 3 * allowed


def test_linear_training_is_that_of_its_twin_and_clamps_residuals() -> None:
    job = a_private_job(
        private_sgd(8, "0.3", privacy=terms(300, norm_bound="1.5"), loss=Loss.MEAN_SQUARED_ERROR),
        features=5,
        owners={"alpha": 150, "gamma": 150},
        task=Task.REAL,
    )
    generator = np.random.default_rng(3)
    rows = shortened(job, generator.uniform(-1, 1, (300, 5)))
    labels = np.rint(generator.uniform(-1, 1, 300) * 2**16) / 2**16
    # At first predictions are far from the labels, so that most residuals are clamped.
    start = {"linear.weight": np.full((1, 5), 2.0), "linear.bias": np.full(1, -3.0)}
    noise = drawn_noise(job)
    found = together(run_private(job, rows, labels, start, noise).model, start)
    expected = twin(job, rows, labels, start, noise)
    # A prediction is off by one unit from its truncation, the twin's by half of one.
    assert np.linalg.norm(found - expected) <= tolerance(job, noise, 1.5 * 2.0**-16)
    first = rows / 2**16 @ start["linear.weight"][0] + start["linear.bias"] - labels
    assert (np.abs(first) > 1).mean() > 0.5


def test_momentum_decay_and_schedule_are_those_of_the_twin() -> None:
    training = private_sgd(6, "0.5", "0.8", privacy=terms())
    optimiser = replace(training.optimiser, weight_decay="0.01")
    job = a_private_job(replace(training, optimiser=optimiser, schedule=Schedule(ScheduleKind.LINEAR, 0, "0.1")))
    rows, noise = shortened(job, FEATURES), drawn_noise(job)
    run = run_private(job, rows, LABELS, ZEROS, noise)
    # Parameters that are apart bend the gradient by half of that at most (a quarter times squared norm 2), and the decay does.
    # The protocol keeps 16 bits of every factor, of a direction that momentum makes five times as long at most.
    longest = 5 * (np.sqrt(2) + np.linalg.norm(noise, axis=1).max() / 2.0**32 / 569)
    apart = velocity = 0.0
    for step in range(6):
        gradient = np.sqrt(2) * (MAX_ERROR + 2.0**-17) + 2.0**-16 * longest + 4 * UNIT * np.sqrt(31)
        velocity = 0.8 * velocity + (0.5 + 0.01) * apart + gradient
        apart += 0.5 * (1 - 0.9 * step / 5) * velocity + 4 * UNIT * np.sqrt(31)
    found, expected = together(run.model, ZEROS), twin(job, rows, LABELS, ZEROS, noise)
    assert np.linalg.norm(found - expected) <= apart
    assert np.linalg.norm(expected) > 20 * apart
    assert set(run.model) == {"linear.weight", "linear.bias", "linear.weight#momentum", "linear.bias#momentum"}


def test_model_without_bias_has_one_sum() -> None:
    job = a_private_job(private_sgd(4, "3", privacy=terms()), bias=False)
    start = {"linear.weight": ZEROS["linear.weight"]}
    rows, noise = shortened(job, FEATURES), drawn_noise(job)
    found = together(run_private(job, rows, LABELS, start, noise).model, start)
    assert np.linalg.norm(found - twin(job, rows, LABELS, start, noise)) <= tolerance(job, noise, MAX_ERROR + 2.0**-17)


def test_layers_without_parameters_change_nothing() -> None:
    bare = a_private_job(private_sgd(2, "3", privacy=terms()))
    wrapped = replace(bare, model=ModelSpec.chain((1, 30), flat=Flatten(), linear=Linear(1), sigmoid=Sigmoid()))
    assert derive_plan(wrapped).segments == derive_plan(bare).segments
    rows, noise = shortened(wrapped, FEATURES), drawn_noise(wrapped)
    models = [run_private(job, rows, LABELS, ZEROS, noise).model for job in (bare, wrapped)]
    assert all(np.array_equal(models[0][name], models[1][name]) for name in ZEROS)


def test_blocks_of_rows_give_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_private_job(private_sgd(3, "3", privacy=terms()))
    rows, noise = shortened(job, FEATURES), drawn_noise(job)
    monkeypatch.setattr(train_private, "BLOCK_ROWS", 200)
    run = run_private(job, rows, LABELS, ZEROS, noise)
    assert [(s.count, [(p.segment, p.count, p.batch_rows) for p in s.parts]) for s in run.plan.schedule] == [
        (1, [("open data", 1, 0)]),
        (3, [("block of rows", 2, 200), ("private step", 1, 169)]),
    ]
    difference = together(run.model, ZEROS) - twin(job, rows, LABELS, ZEROS, noise)
    assert np.linalg.norm(difference) <= tolerance(job, noise, MAX_ERROR + 2.0**-17)


def test_nothing_is_revealed_and_a_step_costs_what_its_page_says() -> None:
    job = a_private_job(private_sgd(3, "3", privacy=terms()))
    plan = derive_plan(job)
    assert plan.revealed_bits == 0
    assert {segment.name: segment.rounds for segment in plan.segments} == {"open data": 1, "private step": 5}
    # The weights, two openings and six bits a row for its sigmoid, its residual, and one number a parameter.
    step = plan.segment("private step")
    assert step.opened_bytes <= 8 * 30 + (16.75 + 8) * 569 + 8 * 31 + 8
    assert {result.name: result.scale_bits for result in plan.results} == {"linear.weight": 24, "linear.bias": 24}
    run = run_private(job, shortened(job, FEATURES), LABELS, ZEROS, drawn_noise(job))
    assert run.rounds == 1 + 3 * 5


def test_no_checkpoint_is_planned() -> None:
    training = replace(private_sgd(3, "3", privacy=terms()), checkpoints=CheckpointRule(1, 0))
    assert checkpoint_times(a_private_job(training)) is None
    assert derive_plan(a_private_job(training)).signals == 0


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (private_sgd(200, "16", "0.9", privacy=terms()), "parameters or momenta may reach"),
        (private_sgd(9, "16", privacy=terms(noise_multiplier="10000")), "parameters or momenta may reach"),
    ],
    ids=["rate", "noise"],
)
def test_settings_whose_numbers_could_leave_their_range_are_refused(training: Training, said: str) -> None:
    with pytest.raises(ConfideError) as caught:
        derive_plan(a_private_job(training))
    assert (caught.value.code, said in str(caught.value)) == (ErrorCode.INVALID_JOB, True)


def test_initial_weights_beyond_what_the_bounds_count_are_refused() -> None:
    job = a_private_job(private_sgd(2, "1", privacy=terms()))
    rows = {0: (FEATURES[: OWNERS["alpha"]], LABELS[: OWNERS["alpha"]])}
    check_inputs(job, "alpha", LocalInputs(rows=rows, initial_weights=ZEROS))
    with pytest.raises(ConfideError) as caught:
        check_inputs(job, "alpha", LocalInputs(rows=rows, initial_weights=ZEROS | {"linear.bias": np.full(1, START_LIMIT)}))
    assert caught.value.code is ErrorCode.INVALID_MODEL


def test_noise_of_another_shape_is_refused() -> None:
    job = a_private_job(private_sgd(2, "1", privacy=terms()))
    with pytest.raises(ConfideError) as caught:
        run_private(job, shortened(job, FEATURES), LABELS, ZEROS, drawn_noise(job)[:1])
    assert caught.value.code is ErrorCode.INTERNAL


@pytest.mark.parametrize("change", [{}, {"noise_multiplier": "4"}])
def test_twin_refuses_noise_of_other_steps(change: dict[str, str]) -> None:
    privacy: PrivateTraining = terms(**change)
    job = a_private_job(private_sgd(2, "1", privacy=privacy))
    with pytest.raises(ConfideError):
        twin(job, shortened(job, FEATURES), LABELS, ZEROS, drawn_noise(job)[:1])


@pytest.mark.parametrize("bias", [-30.0, 30.0])
def test_row_that_is_there_or_not_moves_a_sum_by_the_sensitivity_at_most(bias: float) -> None:
    # A logit of 30 is worst: its probability is 1, the label 0. Without any noise the sums are to be seen in the model.
    generator = np.random.default_rng(4)
    features = generator.uniform(-1, 1, (40, 4))
    features[0] = (0.6, 0.0, -0.8, 0.0)
    labels = np.concatenate([[float(bias < 0)], generator.integers(0, 2, 39)])
    start = {"linear.weight": np.zeros((1, 4)), "linear.bias": np.full(1, bias)}
    training = private_sgd(1, "8", privacy=terms(40))
    jobs = [a_private_job(training, features=4, owners={"alpha": rows, "gamma": 10}) for rows in (30, 29)]
    silent = np.zeros((1, 5), np.int64)
    models = [
        together(run_private(job, shortened(job, features[some:]), labels[some:], start, silent).model, start)
        for job, some in zip(jobs, (0, 1), strict=True)
    ]
    moved = np.linalg.norm(models[0] - models[1]) * 40 / 8
    limit = design(jobs[0], 0).sensitivity / 2.0**32
    # Each model is rounded by two units in each of five numbers, and holds 16 bits of the rate.
    rounding = 2 * np.sqrt(5) * 2 * UNIT * 40 / 8 + 2.0**-16 * np.sqrt(2) * 40
    assert 0.995 * np.sqrt(2) < moved <= limit + rounding
