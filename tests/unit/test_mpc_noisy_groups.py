"""Noisy sums and sizes of groups by label, and what they spend."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Summary, Task, check
from protocols.model.layers import Flatten
from protocols.model.spec import ModelSpec
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.query import combine_output
from protocols.row_noise import num_noisy, squared_row_sensitivity
from tests.support.mpc_world import World, a_job, run_world
from tests.support.programs import PARTIES, Table, assert_measured_as_planned, opened_outputs

UNIT = 1 << 16
FEATURES = 20


def a_table_of(sizes: tuple[int, ...]) -> Table:
    generator = np.random.default_rng(4)
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.float64)
    order = generator.permutation(len(labels))
    features = np.rint(generator.uniform(-1, 1, (len(labels), FEATURES)) * UNIT) / UNIT
    return Table(features[order], labels[order])


def a_summary(table: Table, *, noise: str, min_cell: int = 5, parties: int = 2) -> Job:
    classes = int(table.labels.max()) + 1
    job = a_job(JobType.EVALUATE, rows=table.owners(), computing=PARTIES[:parties], features=FEATURES)
    output = Output("groups", OutputKind.GROUP_MEANS, job.querier, min_cell, noise=noise, noise_colluders=1)
    job = replace(
        job,
        job_type=JobType.SUMMARISE,
        task=Task.CLASSES,
        model=ModelSpec.chain(FEATURES, rows=Flatten()),
        model_ref=None,
        outputs=(output,),
        summary=Summary(classes, classes, 0, ""),
    )
    assert list(check(job)) == []
    return job


def run(job: Job, table: Table, *, seed: str = "") -> tuple[World, np.ndarray]:
    """The session, and what is opened as it is in the shares."""
    parties = dict.fromkeys((*job.computing_parties, "alpha", "gamma"))
    inputs = {party: LocalInputs(rows=table.rows_of(job, party), model_share={}) for party in parties}
    world = run_world(job, derive_plan(job), inputs, seed=seed)
    sent = [world.outputs[party].output_shares for party in job.computing_parties]
    return world, np.asarray(sum(share["groups"] for share in sent if share is not None)) / UNIT


def exact(table: Table) -> np.ndarray:
    groups = [table.features[table.labels == label] for label in range(int(table.labels.max()) + 1)]
    return np.array([[*rows.sum(axis=0), len(rows)] for rows in groups])


@pytest.mark.parametrize("parties", [2, 3])
def test_sums_and_sizes_have_the_noise_that_the_output_says(parties: int) -> None:
    table = a_table_of((60, 50, 40))
    job = a_summary(table, noise="2", parties=parties)
    world, opened = run(job, table)
    assert_measured_as_planned(world)
    noise = opened - exact(table)
    # 63 numbers: their deviation has a relative one of 1 / sqrt(2 * 63) = 0.09.
    # Two owners draw, whoever computes, and one of them may collude.
    assert noise.std() == pytest.approx(2 * sqrt(2), rel=0.45)
    means = opened_outputs(job, world.plan, world)["group_means"]
    np.testing.assert_allclose(means[:, :-1], np.clip(opened[:, :-1] / opened[:, -1:], -1, 1))
    np.testing.assert_array_equal(means[:, -1], opened[:, -1])


def test_without_colluders_beyond_one_small_noise_leaves_the_means() -> None:
    table = a_table_of((300, 200))
    job = replace(a_summary(table, noise="0.01"), task=Task.CLASSES)
    world, _ = run(job, table)
    means = opened_outputs(job, world.plan, world)["group_means"]
    sums = exact(table)
    # Six deviations of the noise of two owners, over the size of a group, twice for sums and sizes.
    error = 2 * 6 * 0.01 * sqrt(2) / 200
    np.testing.assert_allclose(means[:, :-1], sums[:, :-1] / sums[:, -1:], atol=error, rtol=0)


def test_group_whose_noisy_size_is_below_the_minimum_is_withheld() -> None:
    table = a_table_of((80, 3))
    job = a_summary(table, noise="0.5", min_cell=20)
    world, opened = run(job, table)
    assert opened[1].tolist() == [0.0] * FEATURES + [-1.0]
    means = opened_outputs(job, world.plan, world)["group_means"]
    assert np.isnan(means[1]).all()
    assert abs(means[0, -1] - 80) < 10
    # Which one it is, another draw of the noise decides: near the minimum a group is told now and then.
    near = a_summary(a_table_of((80, 20)), noise="10", min_cell=20)
    told = [run(near, a_table_of((80, 20)), seed=str(number))[1][1, -1] != -1 for number in range(12)]
    assert 0 < sum(told) < 12


def test_one_row_moves_sums_and_size_by_at_most_one_each() -> None:
    job = a_summary(a_table_of((60, 50, 40)), noise="2")
    assert squared_row_sensitivity(job) == FEATURES + 1
    assert num_noisy(job) == 3 * (FEATURES + 1)


@pytest.mark.parametrize(
    "opened",
    [
        [[UNIT, 0]],  # a size of nothing would have been withheld
        [[UNIT, -UNIT]],  # nor are there sums beside a size that is withheld
        [[UNIT, -3 * UNIT]],
        [UNIT, UNIT],
    ],
)
def test_groups_that_no_party_opens_are_refused(opened: list[object]) -> None:
    share = np.array(opened, np.int64)
    output = Output("groups", OutputKind.GROUP_MEANS, "researcher", 2, noise="1", noise_colluders=1)
    with pytest.raises(ConfideError) as caught:
        combine_output([share - 77, np.full_like(share, 77)], output=output, scale_bits=16)
    assert caught.value.code is ErrorCode.BAD_FRAME
