"""Log loss, squared error and histograms of scores with noise of the rows' owners: what they say, and what a row can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, isqrt, log

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from governance.budget.amounts import charges
from privacy.accounting.noisy_answers import spent_together
from privacy.accounting.normal_bound import UNIT_OF_ROWS, unit_of_rows
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Task, check
from protocols.model import reference
from protocols.mpc.noise_designs import planned_noise
from protocols.mpc.primitives.staircase import threshold_bits
from protocols.mpc.programs.noisy import small
from protocols.mpc.programs.score_histogram import logit_thresholds
from protocols.mpc.query import combine_output
from protocols.row_losses import loss_scale
from protocols.row_noise import opened_deviation, squared_row_sensitivity
from tests.support.mpc_world import a_job, run_protocol, split
from tests.support.programs import Table, a_network, a_table, assert_measured_as_planned, evaluate, opened_outputs, some_weights
from tests.unit.test_mpc_noisy_counts import opened
from tests.unit.test_mpc_reliability import a_spread_model, an_evaluation

KIND = OutputKind
UNIT = 1 << 16
ROWS = 240
EDGES = ("0.01", "0.1", "0.3", "0.5", "0.9")
LOGIT_ERROR = 2e-4  # see test_mpc_evaluation
NEXT_TO_NONE = "0.01"
# Seven deviations of next to no noise of two owners.
OFF = 7 * 0.01 * 2**0.5


def noisy(kind: OutputKind, *, noise: str = NEXT_TO_NONE, min_cell: int = 1, bound: str = "2", rows: int = 1) -> Output:
    edges = EDGES if kind is KIND.SCORE_HISTOGRAM else ()
    bound = "0" if kind is KIND.SCORE_HISTOGRAM else bound
    plain = Output(kind.value.replace("_", "-"), kind, "researcher", min_cell, noise=noise, noise_colluders=1)
    return replace(plain, group_edges=edges, bound=bound, rows_per_person=rows)


def of_numbers(table: Table, output: Output) -> Job:
    job = a_job(JobType.EVALUATE, rows=table.owners(), model=a_network(4, 1), task=Task.REAL, wanted=(output,))
    assert list(check(job)) == []
    return job


def row_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    columns = logits if logits.shape[1] > 1 else np.hstack([np.zeros_like(logits), logits])
    logs = columns - np.log(np.exp(columns).sum(axis=1, keepdims=True))
    return np.asarray(-logs[np.arange(len(labels)), labels.astype(int)])


@pytest.mark.parametrize("classes", [0, 3])
def test_log_loss_is_the_mean_of_clipped_losses(classes: int) -> None:
    model, weights = a_spread_model()
    if classes:
        model = a_network(4, classes)
        weights = some_weights(model)
    table = a_table(model, Task.CLASSES if classes else Task.BINARY, ROWS)
    job = an_evaluation(table, [noisy(KIND.LOG_LOSS, bound="0.9")], classes=classes)
    world = evaluate(job, table, weights)
    assert_measured_as_planned(world)
    losses = row_losses(reference.logits(model, weights, table.features), table.labels)
    assert 0.1 < (losses > 0.9).mean() < 0.9  # the bound decides about some rows
    found = opened_outputs(job, world.plan, world)["log_loss"]
    # Of a row: its logits, three units of its logarithm, one of the cut; the bound is cut to the grid.
    slack = LOGIT_ERROR + 5 * 2.0**-16
    assert abs(found[0] - np.minimum(losses, 0.9).mean()) <= slack + OFF * 0.9 / ROWS


def test_squared_error_counts_no_error_beyond_its_bound() -> None:
    model = a_network(4, 1)
    table, weights = a_table(model, Task.REAL, ROWS), some_weights(model)
    job = of_numbers(table, noisy(KIND.SQUARED_ERROR, bound="0.7"))
    world = evaluate(job, table, weights)
    assert_measured_as_planned(world)
    errors = np.abs(reference.outputs(model, weights, table.features)[:, 0] - table.labels)
    assert 0.1 < (errors > 0.7).mean() < 0.9
    found = opened_outputs(job, world.plan, world)["squared_error"]
    assert abs(found[0] - np.mean(np.minimum(errors, 0.7) ** 2)) <= 2 * 0.7 * (LOGIT_ERROR + 2.0**-16) + OFF * 0.49 / ROWS


def test_histogram_of_scores_gives_the_area_under_the_curve() -> None:
    model, weights = a_spread_model()
    table = a_table(model, Task.BINARY, ROWS)
    logits = reference.logits(model, weights, table.features)[:, 0]
    edges = [log(float(edge) / (1 - float(edge))) for edge in EDGES]
    away = np.abs(logits[:, None] - edges).min(axis=1) > LOGIT_ERROR + 2.0**-16
    assert away.sum() >= ROWS - 3
    table, logits = Table(table.features[away], table.labels[away]), logits[away]
    job = an_evaluation(table, [noisy(KIND.SCORE_HISTOGRAM)])
    world = evaluate(job, table, weights)
    assert_measured_as_planned(world)
    bins = np.digitize(logits, edges)
    expected = np.stack([np.bincount(bins[table.labels == label], minlength=len(EDGES) + 1) for label in (0, 1)], axis=1)
    np.testing.assert_allclose(opened_outputs(job, world.plan, world)["score_histogram"], expected, atol=OFF, rtol=0)
    assert abs(roc_auc_score(table.labels, bins) - roc_auc_score(table.labels, logits)) < 0.1
    assert {amount.answers for amount in charges(job, "alpha").values()} == {12}


@pytest.mark.parametrize("kind", [KIND.LOG_LOSS, KIND.SQUARED_ERROR, KIND.SCORE_HISTOGRAM])
def test_one_row_moves_the_opened_integers_by_no_more_than_one(kind: OutputKind) -> None:
    """The same draws in two worlds, one of which lacks a row that is as wrong as can be."""
    if kind is KIND.SQUARED_ERROR:
        model = a_network(4, 1)
        weights = some_weights(model)
        table = a_table(model, Task.REAL, 24)
        weights["second.bias"] = np.array([900.0])
    else:
        model, weights = a_spread_model()
        table = a_table(model, Task.BINARY, 24)
        weights["second.weight"], weights["second.bias"] = weights["second.weight"] * 0, np.array([30.0])
        table.labels[-1] = 0.0
    found = []
    for each in (table, Table(table.features[:-1], table.labels[:-1])):
        output = noisy(kind, bound="0.5")
        job = of_numbers(each, output) if kind is KIND.SQUARED_ERROR else an_evaluation(each, [output])
        # The scale follows from the public number of rows, which is that of the larger world in both.
        scale = 1.0 if kind is KIND.SCORE_HISTOGRAM else float(loss_scale(output, len(each.labels)).unit)
        found.append(opened(job, evaluate(job, each, weights))[kind] * scale)
    moved = found[0] - found[1]
    most = {KIND.LOG_LOSS: 0.5, KIND.SQUARED_ERROR: 0.25, KIND.SCORE_HISTOGRAM: 1.0}[kind]
    # Two roundings of sums; the row is clipped, so it moves the sum by all that it may.
    assert abs(np.abs(moved).sum() - most) <= 2 * 2.0**-16
    assert squared_row_sensitivity(job) == 1


@pytest.mark.parametrize("kind", [KIND.LOG_LOSS, KIND.SQUARED_ERROR])
@pytest.mark.parametrize("rows", [1, 1_000, 10_000_000])
def test_scale_lets_no_row_add_more_than_one_and_no_sum_overflow(kind: OutputKind, rows: int) -> None:
    for bound in ("0.01", "0.7", "2"):
        scale = loss_scale(noisy(kind, bound=bound), rows)
        most = scale.limit if kind is KIND.LOG_LOSS else scale.limit**2
        assert rows * most * scale.factor < 1 << 62
        # Cutting with one mask in both worlds moves by the quotient rounded up.
        assert UNIT * 7 // 8 < ceil(Fraction(most * scale.factor, 1 << scale.shift)) <= UNIT
        expected = Fraction(bound) ** (1 if kind is KIND.LOG_LOSS else 2)
        assert float(scale.unit) == pytest.approx(float(expected), rel=0.13)


@pytest.mark.parametrize("scale_bits", [16, 17, 40])
def test_small_numbers_compare_with_each_other_for_every_number_of_the_ring(scale_bits: int) -> None:
    ends = [-(2**63), -(2**63) + 1, -(2**62), 2**62, 2**63 - 1, 2**61 - 1, 0, -1, 1 << 16, -(1 << 40)]
    values = np.array([*ends, *np.random.default_rng(3).integers(-(2**63), 2**63 - 1, 500)], np.int64)
    edges = logit_thresholds(EDGES)

    def bits(engine: object, mine: list[np.ndarray]) -> object:
        inside = yield from small(engine, mine[0], scale_bits)  # type: ignore[arg-type]
        return (yield from threshold_bits(engine, inside, edges))  # type: ignore[arg-type]

    run = run_protocol(bits, [[part] for part in split(values, 2)])  # type: ignore[arg-type]
    found = run.value
    assert set(np.unique(found)) <= {0, 1}
    # No row is above an edge and not above a lower one: then it is in one range.
    assert (np.diff(found, axis=0) <= 0).all()


def test_losses_are_never_withheld_and_counts_beside_them_are() -> None:
    model, weights = a_spread_model()
    table = a_table(model, Task.BINARY, ROWS)
    kinds: Sequence[OutputKind] = (KIND.LOG_LOSS, KIND.SCORE_HISTOGRAM)
    job = an_evaluation(table, [noisy(kind, noise="5", min_cell=10) for kind in kinds])
    world = evaluate(job, table, weights)
    assert_measured_as_planned(world)
    told = opened_outputs(job, world.plan, world)
    held = np.isnan(told["score_histogram"])
    assert 0 < held.sum() < held.size
    assert (told["score_histogram"][~held] >= 10).all()
    mean = np.minimum(row_losses(reference.logits(model, weights, table.features), table.labels), 2).mean()
    # Five deviations.
    assert abs(told["log_loss"][0] - mean) < 5 * 5 * 2**0.5 * 2 / ROWS + LOGIT_ERROR
    assert squared_row_sensitivity(job) == 2


def test_several_rows_of_a_person_are_charged_together() -> None:
    table = a_table(a_spread_model()[0], Task.BINARY, ROWS)
    one, three = (an_evaluation(table, [noisy(KIND.CONFUSION, bound="0", noise="20", rows=rows)]) for rows in (1, 3))
    assert opened_deviation(one, owners=2) == opened_deviation(three, owners=2)
    assert squared_row_sensitivity(three) == 9 * squared_row_sensitivity(one)
    design = planned_noise(three)
    assert design is not None
    assert design.sensitivity == isqrt(9 * UNIT**2 - 1) + 1
    spent = [spent_together(job) for job in (one, three)]
    # Three rows under noise of 20 cost what one costs under 20 / 3, to the rounding of the drawn deviation.
    alone = spent_together(an_evaluation(table, [noisy(KIND.CONFUSION, bound="0", noise="6.666666667")]))
    assert all(each is not None for each in (*spent, alone))
    assert float(spent[1].epsilon) == pytest.approx(float(alone.epsilon), abs=2e-4)  # type: ignore[union-attr]
    assert [each.bound.unit for each in spent] == [UNIT_OF_ROWS, unit_of_rows(3)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("outputs", "where"),
    [
        ([noisy(KIND.LOG_LOSS, bound="0")], "outputs.log-loss.bound"),
        ([noisy(KIND.LOG_LOSS, bound="17")], "outputs.log-loss.bound"),
        ([replace(noisy(KIND.LOG_LOSS), noise="0", noise_colluders=0)], "outputs.log-loss.bound"),
        ([replace(noisy(KIND.CONFUSION), bound="1")], "outputs.confusion.bound"),
        ([noisy(KIND.LOG_LOSS, min_cell=ROWS + 1)], "outputs.log-loss.min_cell"),
        ([replace(noisy(KIND.SCORE_HISTOGRAM), noise="0", noise_colluders=0)], "outputs.score-histogram.noise"),
        ([replace(noisy(KIND.SCORE_HISTOGRAM), group_edges=())], "outputs.score-histogram.group_edges"),
        ([replace(noisy(KIND.SCORE_HISTOGRAM), group_edges=("0", "0.5"))], "outputs.score-histogram.group_edges"),
        ([replace(noisy(KIND.ROC_AUC), bound="0")], "outputs.roc-auc.noise"),
        ([replace(noisy(KIND.CONFUSION, bound="0"), rows_per_person=0)], "outputs.confusion.rows_per_person"),
        (
            [replace(noisy(KIND.CONFUSION, bound="0"), noise="0", noise_colluders=0, rows_per_person=2)],
            "outputs.confusion.rows_per_person",
        ),
        ([noisy(KIND.CONFUSION, bound="0"), noisy(KIND.LOG_LOSS, rows=2)], "outputs"),
    ],
)
def test_noise_that_would_not_be_what_it_says_is_refused(outputs: list[Output], where: str) -> None:
    job = an_evaluation(a_table(a_spread_model()[0], Task.BINARY, ROWS), [noisy(KIND.CONFUSION, bound="0")])
    assert where in [problem.where for problem in check(replace(job, outputs=tuple(outputs)))]
    assert list(check(Job.from_bytes(job.to_bytes()))) == []


@pytest.mark.parametrize(("kind", "values"), [(KIND.LOG_LOSS, [1, 2]), (KIND.SCORE_HISTOGRAM, [[1, 2]] * 5)])
def test_values_that_no_party_opens_are_refused(kind: OutputKind, values: list[object]) -> None:
    share = np.array(values, np.int64)
    with pytest.raises(ConfideError) as caught:
        combine_output([share, share], output=noisy(kind), scale_bits=16, num_rows=ROWS)
    assert caught.value.code is ErrorCode.BAD_FRAME
