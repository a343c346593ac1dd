"""Whole sessions of a private training on shares: rows or columns, noise by its owners, and the model serves as any other."""

from __future__ import annotations

import numpy as np

from protocols.job import Job, JobType, Output, OutputKind, Task
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.query import combine_output
from protocols.mpc.shared_gradients_design import design
from protocols.training import Loss
from tests.support.mpc_world import World, a_job, run_world
from tests.support.parts import in_columns
from tests.support.plain_training import accuracy, breast_cancer
from tests.support.private_training import OWNERS, ZEROS, a_private_job, private_sgd, terms
from tests.support.programs import Table, assert_measured_as_planned

FEATURES, LABELS = breast_cancer()
TABLE = Table(FEATURES, LABELS)


def opened(world: World, name: str) -> np.ndarray:
    shares = [world.outputs[party].model_share for party in world.plan.computing_parties]
    return np.asarray(sum(share[name] for share in shares if share is not None)) / 2.0**24


def by_rows(job: Job) -> dict[str, LocalInputs]:
    parties = dict.fromkeys((*job.computing_parties, *(dataset.party for dataset in job.datasets)))
    return {party: LocalInputs(rows=TABLE.rows_of(job, party), initial_weights=ZEROS) for party in parties}


def test_private_model_of_rows_is_accurate_and_evaluates() -> None:
    job = a_private_job(private_sgd(30, "8", privacy=terms()))
    world = run_world(job, derive_plan(job), by_rows(job))
    weight, bias = opened(world, "linear.weight"), opened(world, "linear.bias")
    right = accuracy(FEATURES, LABELS, weight, bias)
    # Noise of deviation 2 sqrt(2) sqrt(4 / 3) / 569 in each of 31 coordinates of a mean gradient, 30 times.
    assert right > 0.9
    evaluation = a_job(JobType.EVALUATE, features=30, rows=OWNERS, model=job.model)
    shares = {party: world.outputs[party].model_share for party in job.computing_parties}
    inputs = {
        party: LocalInputs(rows=TABLE.rows_of(evaluation, party), model_share=shares.get(party))
        for party in dict.fromkeys((*job.computing_parties, *OWNERS))
    }
    found = run_world(evaluation, derive_plan(evaluation), inputs)
    parts = [share["answer"] for party in job.computing_parties if (share := found.outputs[party].output_shares) is not None]
    output = Output("answer", OutputKind.CORRECT_COUNT, "researcher", 1)
    count = combine_output(parts, output=output, scale_bits=found.plan.outputs[0].scale_bits)
    assert abs(int(count[0]) - round(right * 569)) <= int((np.abs(FEATURES @ weight[0] + bias) < 1e-3).sum())


def test_rounds_and_bytes_are_those_of_the_plan() -> None:
    job = a_private_job(private_sgd(3, "8", privacy=terms()))
    world = run_world(job, derive_plan(job), by_rows(job))
    assert_measured_as_planned(world)
    assert all(not found for found in world.checkpoints.values())


def test_noise_of_a_session_moves_the_model_as_far_as_its_design_says() -> None:
    # The same job under two streams: what differs is the noise, but for roundings and the sigmoid's error below 1e-2.
    job = a_private_job(private_sgd(1, "8", privacy=terms(noise_multiplier="40")))
    models = [opened(run_world(job, derive_plan(job), by_rows(job), seed=seed), "linear.weight") for seed in ("one", "two")]
    wanted = design(job, 0)
    deviation = 8 / 569 * wanted.deviation * np.sqrt(len(wanted.owners)) / 2.0**32
    apart = (models[0] - models[1]).reshape(-1) / (np.sqrt(2) * deviation)
    # The mean square of 30 such numbers has deviation sqrt(2 / 30) = 0.26.
    assert 0.1 < (apart**2).mean() < 2.3
    assert deviation > 0.5


def test_private_model_of_columns_is_accurate() -> None:
    owners = ("alpha", "beta", "gamma")
    table = in_columns(TABLE, (10, 12, 8), owners, labelled="beta")
    job = table.parted(a_private_job(private_sgd(30, "8", privacy=terms())))
    inputs = {party: LocalInputs(rows=table.rows_of(job, party), initial_weights=ZEROS) for party in owners}
    world = run_world(job, derive_plan(job), inputs)
    assert accuracy(FEATURES, LABELS, opened(world, "linear.weight"), opened(world, "linear.bias")) > 0.88


def test_private_linear_model_fits_its_rows() -> None:
    generator = np.random.default_rng(4)
    features = generator.uniform(-1, 1, (600, 5)) / np.sqrt(5)
    truth = np.array([0.8, -0.5, 0.3, 0.0, -0.7])
    labels = np.clip(features @ truth + generator.normal(0, 0.05, 600), -1, 1)
    table = Table(features, labels)
    training = private_sgd(60, "0.4", privacy=terms(600, noise_multiplier="1"), loss=Loss.MEAN_SQUARED_ERROR)
    job = a_private_job(training, features=5, owners={"alpha": 300, "gamma": 300}, task=Task.REAL)
    start = {"linear.weight": np.zeros((1, 5)), "linear.bias": np.zeros(1)}
    inputs = {party: LocalInputs(rows=table.rows_of(job, party), initial_weights=start) for party in ("alpha", "beta", "gamma")}
    world = run_world(job, derive_plan(job), inputs)
    error = features @ opened(world, "linear.weight")[0] + opened(world, "linear.bias") - labels
    assert np.mean(error**2) < 0.3 * np.var(labels)
