"""Evaluations whose counts have noise of the rows' owners: how much, on what, and what one row can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt, sqrt

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from privacy.accounting.noisy_answers import DELTA, least_epsilon, spent_together
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Output, OutputKind, Task, check
from protocols.model import reference
from protocols.mpc import session
from protocols.mpc.noise_designs import planned_noise
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.mpc.noise_test import spares_for
from protocols.mpc.planning import derive_plan
from protocols.mpc.query import combine_output
from protocols.ring import RingArray
from protocols.row_noise import num_noisy, opened_deviation, squared_row_sensitivity
from tests.support.mpc_world import World
from tests.support.programs import Table, a_network, a_table, assert_measured_as_planned, evaluate, opened_outputs, some_weights
from tests.unit.test_mpc_reliability import a_spread_model, an_evaluation

KIND = OutputKind
UNIT = 1 << 16
ROWS = 240
EDGES = ("-0.4", "0.35")
ALL = (KIND.CORRECT_COUNT, KIND.CONFUSION, KIND.RELIABILITY, KIND.GROUP_CONFUSION)
OWNERS = 2


def noisy(kind: OutputKind, *, noise: str = "2", min_cell: int = 1) -> Output:
    groups = {"group_by": "dose", "group_edges": EDGES} if kind is KIND.GROUP_CONFUSION else {}
    return Output(kind.value.replace("_", "-"), kind, "researcher", min_cell, noise=noise, noise_colluders=1, **groups)  # type: ignore[arg-type]


def a_noisy_job(table: Table, kinds: Sequence[OutputKind] = ALL, *, classes: int = 0, noise: str = "2", min_cell: int = 1) -> Job:
    return an_evaluation(table, [noisy(kind, noise=noise, min_cell=min_cell) for kind in kinds], classes=classes)


def opened(job: Job, world: World) -> dict[OutputKind, np.ndarray]:
    """What the shares combine to, as it is."""
    sent = [world.outputs[party].output_shares for party in job.computing_parties]
    found = {output.kind: sum(share[output.name] for share in sent if share is not None) for output in job.outputs}
    return {kind: np.asarray(value) / UNIT for kind, value in found.items()}


def exact(table: Table, model: object, weights: dict[str, np.ndarray]) -> dict[OutputKind, np.ndarray]:
    """The same tables in the clear; of probabilities that are as exact as floating point."""
    logits = reference.logits(model, weights, table.features)  # type: ignore[arg-type]
    probabilities = 1 / (1 + np.exp(-logits[:, 0]))
    predicted, labels = probabilities >= 0.5, table.labels.astype(int)
    bins = np.digitize(probabilities, np.arange(1, 10) / 10)
    columns = [np.ones(len(labels)), probabilities, labels]
    groups = np.digitize(table.features[:, 1], [float(edge) for edge in EDGES])
    whole = confusion_matrix(labels, predicted, labels=[0, 1])
    parts = [confusion_matrix(labels[groups == g], predicted[groups == g], labels=[0, 1]) for g in range(3)]
    return {
        KIND.CORRECT_COUNT: np.array([np.trace(whole)]),
        KIND.CONFUSION: whole,
        KIND.RELIABILITY: np.stack([np.bincount(bins, column, minlength=10) for column in columns], axis=1),
        KIND.GROUP_CONFUSION: np.stack([[part[0, 0], part[1, 0], part[0, 1], part[1, 1]] for part in parts]),
    }


def test_next_to_no_noise_leaves_the_tables_of_the_rows() -> None:
    model, weights = a_spread_model()
    table = a_table(model, Task.BINARY, ROWS)
    logits = reference.logits(model, weights, table.features)[:, 0]
    # Of each row the probability is off by 2e-4 / 4 of the logit, 1e-4 of the sigmoid and a rounding (see test_mpc_reliability):
    # rows that are so near to an edge that they could change sides are left out.
    away = np.abs(1 / (1 + np.exp(-logits[:, None])) - np.arange(1, 10) / 10).min(axis=1) > 2e-4 / 4 + 1e-4 + 2.0**-16
    assert away.sum() >= ROWS - 3
    table = Table(table.features[away], table.labels[away])
    job = a_noisy_job(table, noise="0.01")
    world = evaluate(job, table, weights)
    assert_measured_as_planned(world)
    told, expected = opened(job, world), exact(table, model, weights)
    # Seven deviations of the noise of two owners, and of probabilities what all rows are off by.
    error = 7 * 0.01 * sqrt(2)
    for kind in ALL:
        slack = ROWS * 2e-4 if kind is KIND.RELIABILITY else 0.0
        np.testing.assert_allclose(told[kind], expected[kind], atol=error + slack, rtol=0)
        assert not np.array_equal(told[kind], expected[kind])


def test_noise_has_the_deviation_that_the_outputs_say_and_is_tested() -> None:
    model, weights = a_spread_model()
    table = a_table(model, Task.BINARY, ROWS)
    job = a_noisy_job(table, noise="30")
    world = evaluate(job, table, weights)
    told, expected = opened(job, world), exact(table, model, weights)
    noise = np.concatenate([(told[kind] - expected[kind]).reshape(-1) for kind in ALL])
    assert len(noise) == num_noisy(job) == 1 + 4 + 30 + 12
    # The deviation of 47 numbers has a relative one of 1 / sqrt(2 * 47) = 0.10.
    assert noise.std() == pytest.approx(30 * sqrt(2), rel=0.45)
    assert opened_deviation(job, owners=OWNERS) == pytest.approx(30 * sqrt(2), rel=1e-4)
    assert min(told[kind].min() for kind in ALL) < 0  # counts may be negative
    tests = [world.outputs[party].noise_test for party in ("alpha", "beta", "gamma")]
    assert tests[0] is not None
    assert tests[0].has_passed
    assert tests[1:] == tests[:1] * 2
    assert [figures.owner for figures in tests[0].owners] == ["alpha", "gamma"]


def test_nothing_is_opened_without_an_owners_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(NoiseSharing):
        def _rest(self, values: RingArray, pads: RingArray) -> RingArray:
            return super()._rest(values * 0 if self._party == "gamma" else values, pads)

    model, weights = a_spread_model()
    table = a_table(model, Task.BINARY, 40)
    job = a_noisy_job(table)
    monkeypatch.setattr(session, "NoiseSharing", Silent)
    with pytest.raises(ConfideError) as caught:
        evaluate(job, table, weights)
    assert (caught.value.code, caught.value.party) == (ErrorCode.NOISE_MISSING, "gamma")


@pytest.mark.parametrize("classes", [0, 3])
def test_one_row_changes_the_opened_integers_by_no_more_than_is_accounted(classes: int) -> None:
    """The same draws in two worlds, one of which lacks a row: what differs is what the row adds."""
    kinds = ALL if not classes else ALL[:3]
    model, weights = a_spread_model()
    if classes:
        model = a_network(4, 3)
        weights = some_weights(model)
    table = a_table(model, Task.CLASSES if classes else Task.BINARY, 24)
    without = Table(table.features[:-1], table.labels[:-1])
    found = []
    for each in (table, without):
        job = a_noisy_job(each, kinds, classes=classes)
        told = opened(job, evaluate(job, each, weights))
        found.append(np.concatenate([np.rint(told[kind] * UNIT).astype(np.int64).reshape(-1) for kind in kinds]))
    moved = found[0] - found[1]
    # The masks of the two worlds differ, so the other rows' probabilities do by their rounding: at most 16 units each.
    cells = 1 + max(classes, 2) ** 2
    probabilities = moved[cells : cells + 30].reshape(10, 3)[:, 1]
    row = np.abs(probabilities).argmax()
    assert 0 <= probabilities[row] <= UNIT + 23 * 16
    assert np.abs(np.delete(probabilities, row)).max() <= 23 * 16
    counts = np.delete(moved, cells + 3 * np.arange(10) + 1)
    assert set(counts) == {0, UNIT}
    # One correct one or not, one cell of each table, one tenth's rows and right ones.
    squared = squared_row_sensitivity(a_noisy_job(table, kinds, classes=classes))
    assert len(kinds) <= (counts == UNIT).sum() + 1 <= squared
    design = planned_noise(a_noisy_job(table, kinds, classes=classes))
    assert design is not None
    assert design.sensitivity == isqrt(squared * UNIT**2 - 1) + 1


def test_probability_beyond_its_range_is_clipped_before_noise_is_added() -> None:
    """The sigmoid is off by 1e-4 at its ends: twenty rows at the end add no more than 20, to the last unit."""
    model, weights = a_spread_model()
    weights["second.weight"], weights["second.bias"] = weights["second.weight"] * 0, np.array([30.0])
    table = a_table(model, Task.BINARY, 20)
    found = [opened(job, evaluate(job, table, weights)) for job in (a_noisy_job(table, [KIND.RELIABILITY]),)]
    empty = Table(table.features[:2], table.labels[:2])
    job = a_noisy_job(empty, [KIND.RELIABILITY])
    found.append(opened(job, evaluate(job, empty, weights)))
    moved = np.rint((found[0][KIND.RELIABILITY] - found[1][KIND.RELIABILITY]) * UNIT).astype(np.int64)
    assert moved[9, 0] == 18 * UNIT
    assert 18 * UNIT * (1 - 2e-4) <= moved[9, 1] <= 18 * UNIT
    assert not moved[:9].any()


def test_counts_below_the_minimum_are_withheld_by_their_noisy_values() -> None:
    model, weights = a_spread_model()
    table = a_table(model, Task.BINARY, ROWS)
    job = a_noisy_job(table, noise="5", min_cell=20)
    world = evaluate(job, table, weights)
    assert_measured_as_planned(world)
    told = opened_outputs(job, world.plan, world)
    raw = opened(job, world)
    for kind in (KIND.CONFUSION, KIND.GROUP_CONFUSION):
        held = np.isnan(told[kind.value])
        assert ((raw[kind] == -1) == held).all()
        assert (told[kind.value][~held] >= 20).all()
    assert 0 < np.isnan(told["group_confusion"]).sum() < 12
    diagram = told["reliability"]
    held = np.isnan(diagram[:, 0])
    assert 0 < held.sum() < 10
    assert np.isnan(diagram[held]).all()
    assert not raw[KIND.RELIABILITY][held, 1:].any()
    assert (diagram[~held, 0] >= 20).all()


def test_plan_and_epsilon_count_all_outputs_as_one_mechanism() -> None:
    table = a_table(a_spread_model()[0], Task.BINARY, ROWS)
    job = a_noisy_job(table, noise="5")
    plan = derive_plan(job)
    assert plan.noise is not None
    assert (plan.noise.steps, plan.noise.used, plan.noise.spares) == (1, 47, spares_for(1, OWNERS))
    assert squared_row_sensitivity(job) == 1 + 1 + 3 + 1
    spent = spent_together(job)
    ideal = least_epsilon(sqrt(6) / 5, float(DELTA) / 2)
    assert spent is not None
    assert ideal is not None
    assert 0 <= float(spent.epsilon) - ideal < 1e-3
    assert spent.delta == DELTA
    alone = spent_together(a_noisy_job(table, [KIND.CONFUSION], noise="5"))
    assert alone is not None
    assert alone.epsilon < spent.epsilon < 4 * alone.epsilon


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda job: replace(job, outputs=(job.outputs[0], replace(job.outputs[1], noise="3"))), "outputs"),
        (lambda job: replace(job, outputs=(job.outputs[0], replace(job.outputs[1], noise="0", noise_colluders=0))), "outputs"),
        (lambda job: replace(job, outputs=(job.outputs[0], replace(job.outputs[1], min_cell=2))), "outputs"),
        (lambda job: replace(job, datasets=job.datasets[:1]), "datasets"),
        (lambda job: _colluding(job, 2), "outputs.noise_colluders"),
        (lambda job: replace(job, outputs=(noisy(KIND.LOG_LOSS),)), "outputs.log-loss.bound"),
        (lambda job: replace(job, outputs=(noisy(KIND.ROC_AUC),)), "outputs.roc-auc.noise"),
    ],
)
def test_noise_that_would_protect_nobody_is_refused(change: object, where: str) -> None:
    job = a_noisy_job(a_table(a_spread_model()[0], Task.BINARY, ROWS), ALL[:2])
    assert where in [problem.where for problem in check(change(job))]  # type: ignore[operator]


def _colluding(job: Job, count: int) -> Job:
    return replace(job, outputs=tuple(replace(output, noise_colluders=count) for output in job.outputs))


def test_noise_too_fine_for_the_grid_is_refused() -> None:
    table = a_table(a_spread_model()[0], Task.BINARY, ROWS)
    job = a_noisy_job(table, [KIND.CONFUSION], noise="0.001")
    assert derive_plan(job).noise is not None  # 66 units of the grid
    with pytest.raises(AssertionError):
        a_noisy_job(table, [KIND.CONFUSION], noise="0.0001")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (KIND.CORRECT_COUNT, [19 * UNIT]),  # below the minimum it would have been withheld
        (KIND.CORRECT_COUNT, [30 * UNIT, 30 * UNIT]),
        (KIND.CONFUSION, [[30 * UNIT, -2 * UNIT], [30 * UNIT, 30 * UNIT]]),
        (KIND.GROUP_CONFUSION, [[30 * UNIT] * 3] * 3),
        (KIND.RELIABILITY, [[-UNIT, UNIT, 0]] * 10),  # nothing stands beside a size that is withheld
    ],
)
def test_counts_that_no_party_opens_are_refused(kind: OutputKind, values: list[object]) -> None:
    share = np.array(values, np.int64)
    with pytest.raises(ConfideError) as caught:
        combine_output([share - 77, np.full_like(share, 77)], output=noisy(kind, min_cell=20), scale_bits=16)
    assert caught.value.code is ErrorCode.BAD_FRAME
