"""Noisy sums through the whole session, noise and its test included, and what the parties keep afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from protocols.job import Job, JobType, OutputKind, Task
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.query import combine_output
from protocols.training import Loss, Optimiser, OptimiserKind
from tests.support.mpc_world import World, a_job, a_model, run_world
from tests.support.noisy_sums import a_noisy_sums_job, initial_weights, rows_for
from tests.support.plain_training import accuracy, breast_cancer

FEATURES, LABELS = breast_cancer()
OWNERS = {"alpha": 200, "gamma": 269, "omega": 100}
STEPS = 30
ZEROS = {"linear.weight": np.zeros((1, 30), np.float32), "linear.bias": np.zeros(1, np.float32)}


def parts_of(job: Job) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """The table, cut among the owners."""
    ends = np.cumsum([dataset.num_rows for dataset in job.datasets])
    cuts = zip(np.split(FEATURES, ends[:-1]), np.split(LABELS, ends[:-1]), strict=True)
    return {dataset.party: {index: cut} for index, (dataset, cut) in enumerate(zip(job.datasets, cuts, strict=True))}


@dataclass
class Session:
    job: Job
    world: World


@pytest.fixture(scope="module")
def session() -> Session:
    """A logistic regression of three owners, two of whom do not compute; one of these deals for other jobs."""
    job = a_noisy_sums_job(
        OWNERS,
        steps=STEPS,
        batch_size=142,
        canaries=30,
        optimiser=Optimiser(OptimiserKind.SGD, "2", momentum="0.5"),
        spec=a_model(30),
        task=Task.BINARY,
        loss=Loss.BINARY_CROSS_ENTROPY,
    )
    rows = parts_of(job)
    parties = ("alpha", "beta", "gamma", "omega")
    inputs = {party: LocalInputs(rows=rows.get(party, {}), initial_weights=ZEROS) for party in parties}
    return Session(job, run_world(job, derive_plan(job), inputs))


def opened(session: Session, name: str) -> np.ndarray:
    shares = [session.world.outputs[party].model_share for party in session.job.computing_parties]
    return np.asarray(sum(share[name] for share in shares if share is not None)) / 2.0**24


def test_session_sends_what_its_plan_says(session: Session) -> None:
    plan, outputs = session.world.plan, session.world.outputs
    for party in plan.participants:
        assert sum(outputs[party].sent_bytes.values()) == plan.sent_bytes(party)
    assert {outputs[party].rounds for party in session.job.computing_parties} == {plan.rounds}
    assert plan.correction_bytes == plan.revealed_bits == 0
    assert session.world.progress["gamma"][-1].step == plan.num_runs == STEPS + 1


def test_model_of_a_training_with_little_noise_is_accurate(session: Session) -> None:
    # Noise multiplier 1 of 142 rows, 30 steps: far less than what one row in 142 changes. Most of 569 rows are right.
    assert accuracy(FEATURES, LABELS, opened(session, "linear.weight"), opened(session, "linear.bias")) > 0.9


def test_kept_shares_alone_are_uniform(session: Session) -> None:
    for party in session.job.computing_parties:
        share = session.world.outputs[party].model_share
        assert share is not None
        values = np.concatenate([array.reshape(-1) for array in share.values()])
        assert np.abs(values).min() > 2**40  # 31 uniform numbers are all beyond with a probability above 1 - 2^-17


def test_joint_evaluation_of_what_was_kept_counts_its_right_rows(session: Session) -> None:
    job = a_job(JobType.EVALUATE, features=30, rows=OWNERS, computing=session.job.computing_parties)
    shares = {party: session.world.outputs[party].model_share for party in job.computing_parties}
    rows = parts_of(job)
    parties = dict.fromkeys((*job.computing_parties, *OWNERS))
    inputs = {party: LocalInputs(rows=rows.get(party, {}), model_share=shares.get(party)) for party in parties}
    world = run_world(job, derive_plan(job), inputs)
    mine = [world.outputs[party].output_shares for party in job.computing_parties]
    parts = [share["answer"] for share in mine if share is not None]
    count = combine_output(parts, output=job.outputs[0], scale_bits=world.plan.outputs[0].scale_bits)
    encoded = np.rint(FEATURES * 2**16) / 2**16
    right = accuracy(encoded, LABELS, opened(session, "linear.weight"), opened(session, "linear.bias"))
    assert int(count[0]) == round(right * len(LABELS))
    assert job.outputs[0].kind is OutputKind.CORRECT_COUNT


def test_every_owner_has_its_canaries_and_the_test_of_the_noise(session: Session) -> None:
    outputs = session.world.outputs
    for owner in OWNERS:
        found, tested = outputs[owner].canaries, outputs[owner].noise_test
        assert found is not None
        assert found.scores.shape == (10,)
        assert tested is not None
    assert outputs["beta"].canaries is None


def test_two_sessions_of_one_job_draw_other_rows_and_other_noise() -> None:
    job = a_noisy_sums_job({"alpha": 60, "gamma": 50}, steps=2)
    weights = initial_weights(job.model)
    inputs = {
        party: LocalInputs(rows=rows_for(job).get(party, {}), initial_weights=weights) for party in ("alpha", "beta", "gamma")
    }
    models = []
    for seed in ("one", "two"):
        world = run_world(job, derive_plan(job), inputs, seed=seed)
        shares = [world.outputs[party].model_share for party in job.computing_parties]
        models.append(sum(share["hidden.weight"] for share in shares if share is not None) / 2.0**24)
    assert np.abs(models[0] - models[1]).min() > 0
