"""Joint summaries in shares against pooled rows in float64: clusters, groups by label, the minimum size, blocks, more parties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2
from sklearn.datasets import load_breast_cancer, load_digits, load_iris

from protocols.job import Job, JobType, Output, OutputKind, Summary, Task, check
from protocols.model.layers import Flatten
from protocols.model.spec import ModelSpec
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs import summarise
from protocols.mpc.row_order import row_order
from tests.support.mpc_world import World, a_job, run_world
from tests.support.parts import in_columns
from tests.support.programs import PARTIES, Table, assert_measured_as_planned, opened_outputs

UNIT = 2.0**-16
# The inverse of a size n is within 2^-20 of itself and 2^-40; a sum of n rows of at most 1 carries that to 2^-20 + n 2^-40. Rows
# are exact at 16 bits, and cutting is off by one unit.
MEAN_ERROR = UNIT + 2.0**-20 + 2.0**-25
SEED = "5a" * 16


def a_summary(
    table: Table, kind: OutputKind, *, clusters: int = 0, iterations: int = 0, min_cell: int = 2, parties: int = 2
) -> Job:
    classes = int(table.labels.max()) + 1
    task = Task.BINARY if classes == 2 else Task.CLASSES
    width = 1 if classes == 2 else classes
    features = table.features.shape[1]
    job = a_job(JobType.EVALUATE, rows=table.owners(), computing=PARTIES[:parties], features=features)
    by_label = kind is OutputKind.GROUP_MEANS
    job = replace(
        job,
        job_type=JobType.SUMMARISE,
        task=task,
        model=ModelSpec.chain(features, rows=Flatten()),
        model_ref=None,
        outputs=(Output("groups", kind, job.querier, min_cell),),
        summary=Summary(classes, width, 0, "") if by_label else Summary(clusters, width, iterations, SEED),
    )
    assert list(check(job)) == []
    assert Job.from_bytes(job.to_bytes()) == job
    return job


def run(job: Job, table: Table) -> tuple[np.ndarray, World]:
    parties = dict.fromkeys((*job.computing_parties, "alpha", "gamma"))
    inputs = {party: LocalInputs(rows=table.rows_of(job, party), model_share={}) for party in parties}
    world = run_world(job, derive_plan(job), inputs)
    return opened_outputs(job, world.plan, world)[job.outputs[0].kind.value], world


def shares_of_groups(world: World) -> list[np.ndarray]:
    """What the computing parties send to the querier."""
    sent = [world.outputs[party].output_shares for party in world.plan.computing_parties]
    return [share["groups"] for share in sent if share is not None]


def a_real_table(load: object) -> Table:
    found = load()  # type: ignore[operator]
    low, high = found.data.min(axis=0), found.data.max(axis=0)
    scaled = 2 * (found.data - low) / np.where(high > low, high - low, 1) - 1
    return Table(np.rint(scaled / UNIT) * UNIT, found.target.astype(np.float64))


def lloyd(features: np.ndarray, start: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's algorithm in float64; ties go to the first, and a cluster without rows keeps its mean."""
    means = start.copy()
    for _ in range(iterations):
        nearest = ((features[:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
        sizes = np.bincount(nearest, minlength=len(means))
        for group in np.flatnonzero(sizes):
            means[group] = features[nearest == group].mean(axis=0)
    return means, sizes


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_groups_by_label_are_those_of_the_pooled_rows(parties: int) -> None:
    table = a_real_table(load_iris)
    job = a_summary(table, OutputKind.GROUP_MEANS, parties=parties)
    found, world = run(job, table)
    for group, (*means, size) in enumerate(found):
        rows = table.features[table.labels == group]
        assert size == len(rows)
        np.testing.assert_allclose(means, rows.mean(axis=0), atol=MEAN_ERROR, rtol=0)
    assert_measured_as_planned(world)


def test_groups_of_a_binary_label_have_their_two_means() -> None:
    table = a_real_table(load_breast_cancer)
    found, world = run(a_summary(table, OutputKind.GROUP_MEANS), table)
    assert found[:, -1].tolist() == [212, 357]
    np.testing.assert_allclose(found[1, :-1], table.features[table.labels == 1].mean(axis=0), atol=MEAN_ERROR, rtol=0)
    assert_measured_as_planned(world)


@pytest.mark.parametrize(("parties", "clusters"), [(2, 3), (3, 5), (5, 2)])
def test_clusters_are_those_of_the_pooled_rows(parties: int, clusters: int) -> None:
    table = a_real_table(load_iris)
    job = a_summary(table, OutputKind.CENTROIDS, clusters=clusters, iterations=4, parties=parties)
    found, world = run(job, table)
    start = table.features[row_order(SEED, len(table.labels))[:clusters]]
    means, sizes = lloyd(table.features, start, 4)
    # No row of this table is so near the middle between two means that their errors could send it elsewhere.
    assert found[:, -1].tolist() == sizes.tolist()
    np.testing.assert_allclose(found[:, :-1], means, atol=MEAN_ERROR, rtol=0)
    assert_measured_as_planned(world)


def test_clusters_of_images_are_as_good_as_those_of_pooled_k_means() -> None:
    table = a_real_table(load_digits)
    rows = Table(table.features[:600], table.labels[:600])
    found, world = run(a_summary(rows, OutputKind.CENTROIDS, clusters=10, iterations=12), rows)
    start = rows.features[row_order(SEED, 600)[:10]]
    pooled, _ = kmeans2(rows.features, start, iter=12, minit="matrix")
    joint, expected = (((rows.features[:, None] - m[None]) ** 2).sum(axis=2).min(axis=1).sum() for m in (found[:, :-1], pooled))
    assert abs(joint / expected - 1) < 0.01
    assert found[:, -1].sum() == 600
    assert_measured_as_planned(world)


def test_cluster_without_rows_shows_no_row_that_it_began_with() -> None:
    # Two equal rows are first means: the second never is nearer than the first, so that it has no rows.
    order = row_order(SEED, 40)
    features = np.rint(np.random.default_rng(3).uniform(-1, 1, (40, 3)) / UNIT) * UNIT
    features[order[1]] = features[order[0]]
    table = Table(features, np.arange(40) % 2.0)
    found, world = run(a_summary(table, OutputKind.CENTROIDS, clusters=3, iterations=1), table)
    _, sizes = lloyd(features, features[order[:3]], 1)
    assert sizes[1] == 0
    assert sizes[[0, 2]].min() >= 2
    assert found[:, -1].tolist() == sizes.tolist()
    assert np.isnan(found[1, :-1]).all()
    opened = sum(shares_of_groups(world))
    assert opened[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("sizes", "least", "told"),
    [
        ((20, 20, 20), 5, (True, True, True)),
        ((50, 7, 3), 5, (False, False, False)),  # the third follows from the others
        ((40, 4, 3, 13), 5, (True, False, False, True)),  # two that are withheld hide each other
        ((44, 4, 4, 4, 4), 5, (False,) * 5),  # four times four is the only way to have sixteen rows in groups below five
    ],
)
def test_groups_that_are_too_small_are_not_in_the_shares(sizes: tuple[int, ...], least: int, told: tuple[bool, ...]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.float64)
    features = np.rint(np.random.default_rng(1).uniform(-1, 1, (len(labels), 2)) / UNIT) * UNIT
    order = np.random.default_rng(2).permutation(len(labels))
    table = Table(features[order], labels[order])
    job = a_summary(table, OutputKind.GROUP_MEANS, min_cell=least)
    found, world = run(job, table)
    assert tuple(~np.isnan(found[:, -1])) == told
    opened = sum(shares_of_groups(world))
    for group, is_told in enumerate(told):
        if not is_told:
            assert opened[group].tolist() == [0, 0, -(1 << 16)]


@pytest.mark.parametrize(("rows", "clusters", "told"), [(5, 1, True), (4, 1, False), (4, 4, False)])
def test_everybody_is_told_of_only_if_they_are_enough(rows: int, clusters: int, told: bool) -> None:
    features = np.rint(np.random.default_rng(4).uniform(-1, 1, (rows, 3)) / UNIT) * UNIT
    table = Table(features, np.arange(rows) % 2.0)
    found, world = run(a_summary(table, OutputKind.CENTROIDS, clusters=clusters, iterations=1, min_cell=5), table)
    assert found[:, -1].tolist() == [rows] if told else np.isnan(found).all()
    if not told:
        assert sum(shares_of_groups(world)).tolist() == [[0, 0, 0, -(1 << 16)]] * clusters


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_sums_at_the_limits_of_rows_and_values_do_not_wrap(end: float) -> None:
    # 2^20 rows at the end of their range: sums of 2^52 by label, 2^36 by cluster, and both products with inverses reach 2^56.
    rows = 1 << 20
    table = Table(np.full((rows, 1), end), np.ones(rows))
    by_label, _ = run(a_summary(table, OutputKind.GROUP_MEANS), table)
    clusters, _ = run(a_summary(table, OutputKind.CENTROIDS, clusters=1, iterations=1), table)
    for mean, size in (by_label[1], clusters[0]):
        assert (abs(mean - end) <= UNIT + 2 * 2.0**-20, size) == (True, rows)


@pytest.mark.parametrize("labelled", ["beta", "gamma"])
def test_columns_of_the_same_rows_are_summarised_as_in_one_hand(labelled: str) -> None:
    whole = a_real_table(load_iris)
    table = in_columns(whole, (1, 3), ("beta", "gamma"), labelled=labelled)
    for kind, more in ((OutputKind.GROUP_MEANS, {}), (OutputKind.CENTROIDS, {"clusters": 3, "iterations": 3})):
        job = table.parted(a_summary(whole, kind, **more))
        assert job.num_rows == 150
        found, world = run(job, table)
        expected, _ = run(a_summary(whole, kind, **more), whole)
        assert found[:, -1].tolist() == expected[:, -1].tolist()
        np.testing.assert_allclose(found, expected, atol=2 * MEAN_ERROR, rtol=0)
        assert_measured_as_planned(world)


def test_clusters_need_no_classes_and_take_nothing_from_a_label() -> None:
    classes = a_real_table(load_breast_cancer)
    numbers = Table(classes.features, np.rint(np.linspace(-1, 1, len(classes.labels)) / UNIT) * UNIT)
    job = a_summary(classes, OutputKind.CENTROIDS, clusters=4, iterations=2)
    with_numbers = replace(job, task=Task.REAL)
    assert list(check(with_numbers)) == []
    found, expected = run(with_numbers, numbers)[0], run(job, classes)[0]
    # Which rows the clusters begin with, and all else, is the same; cutting differs by a unit at most.
    assert found[:, -1].tolist() == expected[:, -1].tolist()
    np.testing.assert_allclose(found, expected, atol=2 * MEAN_ERROR, rtol=0)
    by_label = replace(with_numbers, outputs=(Output("groups", OutputKind.GROUP_MEANS, job.querier, 5),))
    assert "outputs" in [problem.where for problem in check(by_label)]


def test_rows_in_several_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table = a_real_table(load_iris)
    job = a_summary(table, OutputKind.CENTROIDS, clusters=3, iterations=2)
    at_once, _ = run(job, table)
    monkeypatch.setattr(summarise, "_MAX_BLOCK_ROWS", 64)
    in_blocks, world = run(job, table)
    assert [part.count for part in derive_plan(job).schedule[1].parts] == [2, 1, 1]
    np.testing.assert_allclose(in_blocks, at_once, atol=2 * MEAN_ERROR, rtol=0)
    assert_measured_as_planned(world)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"summary": None}, "summary"),
        ({"summary": Summary(0, 1, 3, SEED)}, "summary.groups"),
        ({"summary": Summary(65, 1, 3, SEED)}, "summary.groups"),
        ({"summary": Summary(3, 1, 0, SEED)}, "summary.iterations"),
        ({"summary": Summary(3, 1, 101, SEED)}, "summary.iterations"),
        ({"summary": Summary(3, 1, 3, "x")}, "summary.start_seed"),
        ({"summary": Summary(3, 4, 3, SEED)}, "summary.label_width"),
        ({"outputs": (Output("a", OutputKind.CENTROIDS, "researcher", 1),)}, "outputs.a.min_cell"),
        ({"outputs": (Output("a", OutputKind.LABEL, "researcher", 5),)}, "outputs"),
        (
            {"outputs": tuple(Output(n, OutputKind.CENTROIDS, "researcher", 5) for n in ("a", "b"))},
            "outputs",
        ),
        ({"query_rows": 3}, "query_rows"),
        ({"model": ModelSpec.chain(4, rows=Flatten(), again=Flatten())}, "model"),
        ({"job_type": JobType.EVALUATE}, "summary"),
    ],
)
def test_summary_that_cannot_be_is_refused(change: dict[str, object], where: str) -> None:
    table = Table(np.zeros((100, 4)), np.arange(100) % 2.0)
    job = replace(a_summary(table, OutputKind.CENTROIDS, clusters=3, iterations=3), **change)  # type: ignore[arg-type]
    assert where in [problem.where for problem in check(job)]
