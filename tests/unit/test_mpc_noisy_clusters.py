"""Clusters that are found by noisy sums: near Lloyd's with next to no noise, harmless with much, charged for every move."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from governance.budget.amounts import charges
from governance.preview import constraint_in_words
from privacy.accounting.noisy_answers import DELTA, least_epsilon, spent_together
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Summary, Task, check
from protocols.model.layers import Flatten
from protocols.model.spec import ModelSpec
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.noise_test import spares_for
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs import summarise
from protocols.mpc.programs.noisy_clusters import first_means
from protocols.mpc.query import combine_output
from protocols.row_noise import squared_row_sensitivity
from tests.support.mpc_world import a_job, run_world
from tests.support.programs import PARTIES, Table, assert_measured_as_planned, opened_outputs

UNIT = 1 << 16
FEATURES, CLUSTERS = 3, 3
SEED = "5a" * 16
START = first_means(SEED, CLUSTERS, FEATURES) / UNIT


def a_table(sizes: tuple[int, ...], *, spread: float = 0.03, seed: int = 3) -> Table:
    """Rows close to the points with which the clusters begin, so that it is never in doubt where a row belongs."""
    generator = np.random.default_rng(seed)
    features = np.concatenate([START[i] + generator.normal(0, spread, (size, FEATURES)) for i, size in enumerate(sizes)])
    features = np.rint(np.clip(features, -1, 1) * UNIT) / UNIT
    order = generator.permutation(len(features))
    return Table(features[order], np.zeros(len(features)))


def a_job_of(table: Table, *, noise: str, moves: int = 3, min_cell: int = 5, parties: int = 2) -> Job:
    job = a_job(JobType.EVALUATE, rows=table.owners(), computing=PARTIES[:parties], features=FEATURES)
    output = Output("clusters", OutputKind.CENTROIDS, job.querier, min_cell, noise=noise, noise_colluders=1)
    model, summary = ModelSpec.chain(FEATURES, rows=Flatten()), Summary(CLUSTERS, 1, moves, SEED)
    job = replace(job, job_type=JobType.SUMMARISE, task=Task.BINARY, model=model, model_ref=None, outputs=(output,))
    job = replace(job, summary=summary)
    assert list(check(job)) == []
    return job


def found(job: Job, table: Table) -> np.ndarray:
    parties = dict.fromkeys((*job.computing_parties, "alpha", "gamma"))
    inputs = {party: LocalInputs(rows=table.rows_of(job, party), model_share={}) for party in parties}
    world = run_world(job, derive_plan(job), inputs)
    assert_measured_as_planned(world)
    return np.asarray(opened_outputs(job, world.plan, world)["centroids"])


def lloyd(features: np.ndarray, means: np.ndarray, *, moves: int, least: int) -> tuple[np.ndarray, np.ndarray]:
    """The same in the clear, without noise: a cluster of fewer rows than the minimum keeps its mean."""
    means = means.copy()
    for _ in range(moves):
        nearest = ((features[:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
        sizes = np.bincount(nearest, minlength=len(means))
        for group in range(len(means)):
            if sizes[group] >= least:
                means[group] = features[nearest == group].mean(axis=0)
    return means, sizes


@pytest.mark.parametrize("parties", [2, 3])
def test_next_to_no_noise_leaves_the_clusters_of_the_rows(parties: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summarise, "_MAX_BLOCK_ROWS", 64)  # several blocks and a last one
    table = a_table((60, 50, 40))
    told = found(a_job_of(table, noise="0.001", parties=parties), table)
    means, sizes = lloyd(table.features, START, moves=3, least=5)
    error = 7 * 0.001 * sqrt(2)  # seven deviations of the noise of two owners
    # A sum and a size are off by that, over 40 rows or more; the inverse is within 2^-20, and cutting is off by a unit of 2^-16.
    np.testing.assert_allclose(told[:, :-1], means, atol=2 * error / 40 + 2.0**-20 + 2 * 2.0**-16, rtol=0)
    np.testing.assert_allclose(told[:, -1], sizes, atol=error, rtol=0)


def test_cluster_of_few_rows_keeps_its_public_mean_and_is_withheld() -> None:
    table = a_table((60, 50, 0))
    told = found(a_job_of(table, noise="0.1", min_cell=5), table)
    means, _ = lloyd(table.features, START, moves=3, least=5)
    assert np.isnan(told[2]).all()
    np.testing.assert_allclose(told[:2, :-1], means[:2], atol=2 * 7 * 0.1 * sqrt(2) / 50 + 1e-4, rtol=0)


def test_useful_noise_leaves_means_that_describe_the_rows_nearly_as_well() -> None:
    table = a_table((500, 500, 500), spread=0.2)
    told = found(a_job_of(table, noise="5", moves=4), table)
    means, _ = lloyd(table.features, START, moves=4, least=5)

    def scatter(points: np.ndarray) -> float:
        return float(((table.features[:, None] - points[None]) ** 2).sum(axis=2).min(axis=1).mean())

    # Each mean is off by about 5 sqrt(2) / 400 = 0.02 in each of three features: 0.001 squared, beside a scatter of 0.1.
    assert scatter(told[:, :-1]) <= scatter(means) + 10 * FEATURES * (5 * sqrt(2) / 400) ** 2


def test_noise_beyond_all_sizes_spoils_means_and_nothing_else() -> None:
    table = a_table((20, 20, 20))
    for seed in ("5a" * 16, "6b" * 16, "7c" * 16):
        job = a_job_of(table, noise="1000", moves=2, min_cell=2)
        assert job.summary is not None
        told = found(replace(job, summary=replace(job.summary, start_seed=seed)), table)
        held = np.isnan(told[:, -1])
        assert np.isnan(told[held]).all()
        assert (np.abs(told[~held, :-1]) <= 1).all()
        assert (told[~held, -1] >= 2).all()


def test_row_is_in_one_cluster_and_adds_one_to_its_size() -> None:
    """The same draws in two worlds, one of which lacks a row: after one move only one size differs, by one."""
    table = a_table((30, 30, 30))
    without = Table(table.features[:-1], table.labels[:-1])
    sizes = [found(a_job_of(each, noise="1", moves=1, min_cell=2), each)[:, -1] for each in (table, without)]
    assert sorted(np.abs(sizes[0] - sizes[1])) == [0, 0, 1]


def test_every_move_is_planned_tested_and_charged() -> None:
    table = a_table((60, 50, 40))
    job = a_job_of(table, noise="20", moves=7)
    plan = derive_plan(job)
    assert plan.noise is not None
    assert (plan.noise.steps, plan.noise.used) == (7, CLUSTERS * (FEATURES + 1))
    assert plan.noise.spares == spares_for(7, 2)
    assert plan.noise.sensitivity == 2 * UNIT  # the root of three features and a size
    assert squared_row_sensitivity(job) == FEATURES + 1
    spent, ideal = spent_together(job), least_epsilon(sqrt(7 * (FEATURES + 1)) / 20, float(DELTA) / 2)
    assert spent is not None
    assert ideal is not None
    assert 0 <= float(spent.epsilon) - ideal < 1e-3
    (amount,) = charges(job, "alpha").values()
    assert (amount.epsilon, amount.answers) == (spent.epsilon.normalize(), CLUSTERS * (FEATURES + 1))
    words = constraint_in_words(job.outputs[0])
    assert words.startswith("means and sizes of clusters; none with a noisy size below 5; noise of the rows' owners")


def test_first_means_are_public_and_in_the_middle_of_the_ranges() -> None:
    points = first_means(SEED, 64, 50)
    assert np.array_equal(points, first_means(SEED, 64, 50))
    assert points.min() >= -UNIT // 2
    assert points.max() < UNIT // 2
    assert abs(points.mean()) < 6 * UNIT / sqrt(12 * points.size)


def test_means_beyond_their_range_are_refused() -> None:
    output = a_job_of(a_table((9, 9, 9)), noise="1").outputs[0]
    share = np.array([[UNIT + 1, 0, 0, 9 * UNIT]], np.int64)
    with pytest.raises(ConfideError) as caught:
        combine_output([share - 77, np.full_like(share, 77)], output=output, scale_bits=16)
    assert caught.value.code is ErrorCode.BAD_FRAME
