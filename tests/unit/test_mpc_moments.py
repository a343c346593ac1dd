"""Means and deviations of features over all rows, with noise; and schemas whose ranges follow from them."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from governance.budget.amounts import charges
from governance.preview import constraint_in_words
from parties.cli.job_words import outputs_in_words
from parties.cli.schema_files import check_schema_file, write_schema_file
from parties.client.opening import Opened
from privacy.accounting.noisy_answers import DELTA, least_epsilon, spent_together
from privacy.preparation.schema import TableSchema
from privacy.preparation.schema_file import schema_from_yaml
from privacy.preparation.standardised import least_deviation, standardised_schema
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Summary, Task, check
from protocols.model.layers import Flatten
from protocols.model.spec import ModelSpec
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs import moments
from protocols.mpc.query import combine_output
from protocols.row_noise import opened_deviation
from tests.support.jobs import SCHEMA
from tests.support.mpc_world import World, a_job, run_world
from tests.support.programs import PARTIES, Table, assert_measured_as_planned

UNIT, GRID = 1 << 16, 1 << 32
FEATURES = 6


def some_rows(count: int, *, seed: int = 4) -> Table:
    generator = np.random.default_rng(seed)
    centres, widths = np.linspace(-0.6, 0.6, FEATURES), np.linspace(0.05, 0.4, FEATURES)
    features = np.clip(centres + widths * generator.normal(size=(count, FEATURES)), -1, 1)
    return Table(np.rint(features * UNIT) / UNIT, generator.integers(0, 2, count).astype(np.float64))


def a_summary(table: Table, *, noise: str = "0.001", parties: int = 2, task: Task = Task.BINARY) -> Job:
    job = a_job(JobType.EVALUATE, rows=table.owners(), computing=PARTIES[:parties], features=FEATURES)
    output = Output("moments", OutputKind.MOMENTS, job.querier, 5, noise=noise, noise_colluders=1)
    model = ModelSpec.chain(FEATURES, rows=Flatten())
    job = replace(job, job_type=JobType.SUMMARISE, task=task, model=model, model_ref=None)
    job = replace(job, outputs=(output,), summary=Summary(1, 1, 0, ""))
    assert list(check(job)) == []
    return job


def run(job: Job, table: Table) -> tuple[World, np.ndarray]:
    """The session, and the integers that the shares combine to."""
    parties = dict.fromkeys((*job.computing_parties, "alpha", "gamma"))
    world = run_world(job, derive_plan(job), {p: LocalInputs(rows=table.rows_of(job, p), model_share={}) for p in parties})
    sent = [world.outputs[party].output_shares for party in job.computing_parties]
    return world, np.asarray(sum(share["moments"] for share in sent if share is not None))


def sums(table: Table) -> np.ndarray:
    """The exact integers: of x, and of x^2 - 1, at 32 bits."""
    whole = np.rint(table.features * UNIT).astype(np.int64)
    return np.stack([(whole * UNIT).sum(axis=0), (whole * whole - GRID).sum(axis=0)])


@pytest.mark.parametrize("parties", [2, 3])
def test_next_to_no_noise_leaves_means_and_deviations_of_the_rows(parties: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "_BLOCK_ELEMENTS", 40 * FEATURES)  # several blocks and a last one
    table = some_rows(150)
    job = a_summary(table, parties=parties)
    world, opened = run(job, table)
    assert_measured_as_planned(world)
    error = 7 * 0.001 * sqrt(2)  # seven deviations of the noise of two owners, on each sum
    assert 0 < np.abs(opened - sums(table)).max() < error * GRID
    scales = {output.name: output.scale_bits for output in world.plan.outputs}
    assert scales == {"moments": 32}
    shares = [world.outputs[party].output_shares["moments"] for party in job.computing_parties]  # type: ignore[index]
    found = combine_output(shares, output=job.outputs[0], scale_bits=32, num_rows=150)
    np.testing.assert_allclose(found[:, 0], table.features.mean(axis=0), atol=error / 150, rtol=0)
    # The variance is off by the error of the second sum and twice that of the mean; its root by half of that over it.
    deviations = table.features.std(axis=0)
    assert (np.abs(found[:, 1] - deviations) < 3 * error / 150 / (2 * deviations) * 1.1).all()


def test_noise_has_the_deviation_that_the_output_says() -> None:
    table = some_rows(60)
    job = a_summary(table, noise="20")
    _, opened = run(job, table)
    noise = (opened - sums(table)) / GRID
    # The deviation of 12 numbers has a relative one of 1 / sqrt(24) = 0.2.
    assert noise.std() == pytest.approx(20 * sqrt(2), rel=0.75)
    assert opened_deviation(job, owners=2) == pytest.approx(20 * sqrt(2), rel=1e-6)


def test_one_row_moves_the_integers_by_no_more_than_is_accounted() -> None:
    """Whatever its features: the squares of both sums of a feature are at most 2^64 together, and are so at the ends and 0."""
    job = a_summary(some_rows(60), noise="5")
    plan = derive_plan(job)
    assert plan.noise is not None
    assert (plan.noise.scale_bits, plan.noise.used, plan.noise.steps) == (32, 2 * FEATURES, 1)
    generator = np.random.default_rng(1)
    for row in (*generator.integers(-UNIT, UNIT + 1, (200, FEATURES)).tolist(), [UNIT] * 6, [-UNIT] * 6, [0] * 6):
        squared = sum((x * UNIT) ** 2 + (x * x - GRID) ** 2 for x in row)
        assert squared <= plan.noise.sensitivity**2
    assert squared == FEATURES * GRID**2
    assert plan.noise.sensitivity**2 <= FEATURES * GRID**2 + 3 * plan.noise.sensitivity
    spent, ideal = spent_together(job), least_epsilon(sqrt(FEATURES) / 5, float(DELTA) / 2)
    assert spent is not None
    assert ideal is not None
    assert 0 <= float(spent.epsilon) - ideal < 1e-3
    assert {amount.answers for amount in charges(job, "alpha").values()} == {2 * FEATURES}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda job: replace(job, outputs=(replace(job.outputs[0], noise="0", noise_colluders=0),)), "outputs.moments.noise"),
        (lambda job: replace(job, summary=Summary(2, 1, 0, "")), "summary.groups"),
        (lambda job: replace(job, summary=Summary(1, 1, 3, "")), "summary"),
        (lambda job: replace(job, outputs=(replace(job.outputs[0], min_cell=61),)), "outputs.moments.min_cell"),
        (lambda job: replace(job, datasets=job.datasets[:1]), "datasets"),
    ],
)
def test_moments_that_would_tell_too_much_are_refused(change: object, where: str) -> None:
    assert where in [problem.where for problem in check(change(a_summary(some_rows(60))))]  # type: ignore[operator]


def test_labels_that_are_numbers_stand_in_no_way() -> None:
    assert a_summary(some_rows(60), task=Task.REAL).task is Task.REAL


def test_deviation_that_noise_hides_is_zero_and_shares_that_do_not_fit_are_refused() -> None:
    output = a_summary(some_rows(60)).outputs[0]
    # A mean of 0.5, and a square below its square.
    share = np.array([[30 * GRID], [int((0.2 - 1) * 60 * GRID)]], np.int64)
    found = combine_output([share - 77, np.full_like(share, 77)], output=output, scale_bits=32, num_rows=60)
    np.testing.assert_allclose(found, [[0.5, 0.0]])
    with pytest.raises(ConfideError) as caught:
        combine_output([share[0], share[1]], output=output, scale_bits=32, num_rows=60)
    assert caught.value.code is ErrorCode.BAD_FRAME
    with pytest.raises(ConfideError):
        combine_output([share, share], output=output, scale_bits=32)


# What people read, and what is made of it.


def test_moments_are_told_in_the_columns_own_units() -> None:
    job = a_summary(some_rows(60), noise="5")
    job = replace(job, schema=SCHEMA)
    value = np.array([[0.0, 0.5], [-0.5, 0.1], [0.5, 0.0]])
    lines = [line.split() for line in outputs_in_words(job, {"moments": value}).splitlines()]
    assert lines[2:5] == [["radius", "5", "2.5"], ["texture", "2.5", "0.5"], ["area", "7.5", "lost", "in", "noise"]]
    assert "noise of deviation 7.07" in outputs_in_words(job, {"moments": value})
    words = constraint_in_words(job.outputs[0])
    assert words.startswith("sums of each feature and of its square over all rows, 5 or more; noise of the rows' owners")


def test_schema_of_moments_shares_standardised_values() -> None:
    schema = TableSchema.from_document(SCHEMA)
    moments_found = np.array([[0.0, 0.2], [-0.9, 0.1], [0.5, 0.0]])
    made = standardised_schema(schema, moments_found, name="standardised", least=0.05, reach=2.0)
    assert TableSchema.from_document(made.to_document()) == made
    # radius: 5 +- 2; texture: 0.5 +- 1, cut at the old end; area: its deviation is lost, so 7.5 +- 0.5.
    assert [column.bounds for column in made.features] == [(3.0, 7.0), (0.0, 1.5), (7.0, 8.0)]
    assert made.label == schema.label
    shared = made.scale(np.array([[5.0, 0.5, 5.0], [6.0, 1.5, 10.0]]))
    np.testing.assert_allclose(shared[:, 0], [0.0, 0.5])  # one deviation of the reach of two
    for wrong in (moments_found[:2], moments_found.T):
        with pytest.raises(ConfideError) as caught:
            standardised_schema(schema, wrong, name="standardised", least=0.05)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_schema_file_is_of_moments_alone_and_reads_back(tmp_path: Path) -> None:
    job = replace(a_summary(some_rows(60), noise="5"), schema=SCHEMA)
    path, value = tmp_path / "standardised.yaml", np.array([[0.0, 0.2], [-0.9, 0.1], [0.5, 0.0]])
    check_schema_file(job, path)
    write_schema_file(job, {"moments": Opened(value, ())}, path)
    made = schema_from_yaml(path.read_bytes())
    assert made.name == f"tumours-{job.job_id[:12]}"
    # So few rows under such noise tell deviations of 0.73 at least: with noise of 7.07 over 60 rows, all ranges stay.
    assert least_deviation(5 * sqrt(2), 60) == pytest.approx(sqrt(2 * sqrt(5) * 5 * sqrt(2) / 60))
    assert [column.bounds for column in made.features] == [(0.0, 10.0)] * 3
    quiet = replace(job, outputs=(replace(job.outputs[0], noise="0.001"),))
    write_schema_file(quiet, {"moments": Opened(value, ())}, path)
    # radius: 5 +- 3; texture: 0.5 +- 1.5; area: 7.5 +- 3 times the least, 0.0103.
    bounds = [column.bounds for column in schema_from_yaml(path.read_bytes()).features]
    assert bounds[:2] == [(2.0, 8.0), (0.0, 2.0)]
    assert bounds[2] == pytest.approx((7.5 - 15 * 0.01027, 7.5 + 15 * 0.01027), abs=2e-3)
    assert quiet.job_id in path.read_text().splitlines()[0]
    check_schema_file(a_job(JobType.EVALUATE, rows={"alpha": 9}), None)
    for other, where in ((a_job(JobType.EVALUATE, rows={"alpha": 9}), path), (job, tmp_path / "none" / "x.yaml")):
        with pytest.raises(ConfideError) as caught:
            check_schema_file(other, where)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_small_deviations_are_seldom_understated_by_noise() -> None:
    """A spread of the least one is found below it in half of the draws, and a feature of twice it nearly never."""
    generator, rows, noise = np.random.default_rng(5), 5_000, 30.0
    least = least_deviation(noise, rows)
    true, mean = 2 * least, 0.9
    sums = rows * np.array([mean, mean**2 + true**2 - 1]) + generator.normal(0, noise, (4_000, 2))
    variance = sums[:, 1] / rows + 1 - (sums[:, 0] / rows) ** 2
    # Below the least by 3 of its 4 parts, each of which is two deviations: six deviations.
    assert (variance < least**2).mean() < 1e-3
