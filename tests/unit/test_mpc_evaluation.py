"""Evaluation and inference in shares against plain float64: every output, the minimum cell, blocks of rows, more parties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, OutputKind, Task
from protocols.model import reference
from protocols.model.layers import Sigmoid, Softmax, Tanh
from protocols.model.spec import ModelSpec
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs import forward
from protocols.mpc.programs.disclosure import guard_count, guard_mean, guard_rate, guard_table
from protocols.mpc.programs.ranking import MAX_RANKED_ROWS, rate_bits
from protocols.mpc.query import share_query
from tests.support.mpc_world import World, a_job, run_protocol, run_world, split, stream
from tests.support.programs import (
    PARTIES,
    Table,
    a_network,
    a_table,
    assert_measured_as_planned,
    evaluate,
    opened_outputs,
    shares_of,
    some_weights,
)

KIND = OutputKind
BINARY_OUTPUTS = (KIND.CORRECT_COUNT, KIND.CONFUSION, KIND.ROC_AUC, KIND.LOG_LOSS)
CLASS_OUTPUTS = (KIND.CORRECT_COUNT, KIND.CONFUSION, KIND.LOG_LOSS)
ROWS = 60
# Logits are exact sums of products at 40 bits where the last layer's input is at 16: hidden values are off by 2^-16 each, and six
# weights below 2 carry that to a logit: 2e-4. A comparison, so a class, may flip for logits closer than that; none here are.
LOGIT_ERROR = 6 * 2 * 2.0**-16


def an_evaluation(
    model: ModelSpec, task: Task, table: Table, outputs: Sequence[OutputKind], *, min_cell: int = 1, parties: int = 2
) -> Job:
    return a_job(
        JobType.EVALUATE,
        features=model.input_features,
        rows=table.owners(),
        computing=PARTIES[:parties],
        model=model,
        task=task,
        outputs=outputs,
        min_cell=min_cell,
    )


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    columns = logits if logits.shape[1] > 1 else np.hstack([np.zeros_like(logits), logits])
    logs = columns - np.log(np.exp(columns).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(len(labels)), labels.astype(int)].mean())


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_binary_measures_are_those_of_the_model(parties: int) -> None:
    model, task = a_network(4, 1, last=Sigmoid()), Task.BINARY
    table, weights = a_table(model, task, ROWS), some_weights(model)
    job = an_evaluation(model, task, table, BINARY_OUTPUTS, min_cell=3, parties=parties)
    world = evaluate(job, table, weights)
    found = opened_outputs(job, world.plan, world)
    logits = reference.logits(model, weights, table.features)
    assert np.abs(logits).min() > LOGIT_ERROR
    assert np.array_equal(found["confusion"], confusion_matrix(table.labels, logits[:, 0] >= 0))
    assert found["correct_count"].tolist() == [int(((logits[:, 0] >= 0) == table.labels).sum())]
    # Pairs closer than the logits' error may swap; the reciprocal adds 2^-20 and rounding three units of 2^-16 and a step.
    gaps = np.abs(logits[:, 0][:, None] - logits[:, 0][None, :])[table.labels == 1][:, table.labels == 0]
    swapped = (gaps < 2 * LOGIT_ERROR).mean()
    step = 2.0 ** -rate_bits(ROWS, 3)
    assert found["roc_auc"][0] % step == 0
    assert abs(found["roc_auc"][0] - roc_auc_score(table.labels, logits[:, 0])) <= swapped + 4 * 2.0**-16 + step
    assert abs(found["log_loss"][0] - mean_cross_entropy(logits, table.labels)) < LOGIT_ERROR + 4 * 2.0**-16
    assert_measured_as_planned(world)


@pytest.mark.parametrize("parties", [2, 3])
def test_measures_of_classes_are_those_of_the_model(parties: int) -> None:
    model, task = a_network(4, 3, hidden=Tanh()), Task.CLASSES
    table, weights = a_table(model, task, ROWS), some_weights(model)
    job = an_evaluation(model, task, table, CLASS_OUTPUTS, parties=parties)
    world = evaluate(job, table, weights)
    found = opened_outputs(job, world.plan, world)
    logits = reference.logits(model, weights, table.features)
    assert np.array_equal(found["confusion"], confusion_matrix(table.labels, logits.argmax(axis=1)))
    assert found["correct_count"][0] == np.trace(found["confusion"])
    # The hyperbolic tangent is within 1e-4; six weights below 2 carry it to a logit.
    assert abs(found["log_loss"][0] - mean_cross_entropy(logits, table.labels)) < 6 * 2 * 1e-4
    assert_measured_as_planned(world)


def test_squared_error_is_that_of_the_model_s_output() -> None:
    model, task = a_network(4, 1, last=Tanh()), Task.REAL
    table, weights = a_table(model, task, ROWS), some_weights(model)
    job = an_evaluation(model, task, table, (KIND.SQUARED_ERROR,))
    world = evaluate(job, table, weights)
    expected = np.mean((reference.outputs(model, weights, table.features)[:, 0] - table.labels) ** 2)
    # An error below 2 that is off by 1e-4 has a square that is off by 4e-4.
    assert abs(opened_outputs(job, world.plan, world)["squared_error"][0] - expected) < 2 * 2 * (1e-4 + LOGIT_ERROR)
    assert_measured_as_planned(world)


def test_squared_error_far_off_is_clamped() -> None:
    model, task = a_network(4, 1), Task.REAL
    table, weights = a_table(model, task, 4), some_weights(model)
    weights["second.bias"] = np.array([900.0])
    job = an_evaluation(model, task, table, (KIND.SQUARED_ERROR,))
    world = evaluate(job, table, weights)
    assert opened_outputs(job, world.plan, world)["squared_error"][0] == pytest.approx(256.0**2, rel=1e-4)


def test_rows_in_blocks_give_the_same_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = a_network(4, 1), Task.BINARY
    table, weights = a_table(model, task, ROWS), some_weights(model)
    job = an_evaluation(model, task, table, (KIND.CORRECT_COUNT, KIND.CONFUSION, KIND.LOG_LOSS))
    at_once = evaluate(job, table, weights)
    monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", 16)
    in_blocks = evaluate(job, table, weights)
    assert [segment.name for segment in in_blocks.plan.segments] == ["open model", "forward", "last forward", "finish"]
    one, two = opened_outputs(job, at_once.plan, at_once), opened_outputs(job, in_blocks.plan, in_blocks)
    assert np.array_equal(one["confusion"], two["confusion"])
    assert abs(one["log_loss"][0] - two["log_loss"][0]) < 4 * 2.0**-16
    assert_measured_as_planned(in_blocks)


def test_too_many_rows_to_rank_are_refused_when_planning() -> None:
    model = a_network(4, 1)
    table = a_table(model, Task.BINARY, MAX_RANKED_ROWS + 1)
    with pytest.raises(ConfideError) as caught:
        derive_plan(an_evaluation(model, Task.BINARY, table, (KIND.ROC_AUC,)))
    assert caught.value.code is ErrorCode.INVALID_JOB
    assert "roc_auc" in caught.value.remedy


INFERRED = [
    (a_network(4, 1), Task.BINARY, KIND.LABEL),
    (a_network(4, 1), Task.BINARY, KIND.PROBABILITY),
    (a_network(4, 3), Task.CLASSES, KIND.LABEL),
    (a_network(4, 3, last=Softmax()), Task.CLASSES, KIND.PROBABILITY),
    (a_network(4, 1, last=Sigmoid()), Task.REAL, KIND.VALUE),
]


@pytest.mark.parametrize(("model", "task", "kind"), INFERRED, ids=lambda value: getattr(value, "value", ""))
@pytest.mark.parametrize("block", [4096, 4], ids=["at once", "in blocks"])
def test_predictions_are_those_of_the_model(
    model: ModelSpec, task: Task, kind: OutputKind, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", block)
    samples, weights = a_table(model, task, 10, seed=5).features, some_weights(model)
    computing = PARTIES[:3]
    job = a_job(JobType.INFER, features=4, query_rows=10, model=model, task=task, output=kind, computing=computing)
    query = share_query(samples, num_parties=3, source=stream("query"))
    shares = zip(computing, shares_of(weights, 3), query, strict=True)
    world = run_world(job, derive_plan(job), {p: LocalInputs(model_share=s, query_share=q) for p, s, q in shares})
    (found,) = opened_outputs(job, world.plan, world).values()
    match kind:
        case OutputKind.LABEL:
            assert np.array_equal(found, reference.predicted(model, weights, samples, task=task))
        case OutputKind.PROBABILITY:
            logits = reference.logits(model, weights, samples)
            exponentials = np.exp(logits)
            classes = exponentials / exponentials.sum(axis=1, keepdims=True)
            expected = classes if task is Task.CLASSES else 1 / (1 + np.exp(-logits[:, 0]))
            assert np.abs(found - expected).max() < 1e-4 + LOGIT_ERROR
        case _:
            assert np.abs(found - reference.outputs(model, weights, samples)[:, 0]).max() < 1e-4 + LOGIT_ERROR
    assert_measured_as_planned(world)


# The minimum cell, against the rule written down plainly.


def run_guard(guard: object, *values: np.ndarray) -> np.ndarray:
    """Runs a guard over shares of whole numbers at 16 bits (or as given)."""
    shares = [split(np.asarray(value, np.int64), 2, seed=40 + i) for i, value in enumerate(values)]
    run = run_protocol(guard, [[share[party] for share in shares] for party in range(2)])  # type: ignore[arg-type]
    return np.asarray(run.value)


def counts_at_16_bits(*values: int) -> np.ndarray:
    return np.array(values, np.int64) << 16


@pytest.mark.parametrize("min_cell", [1, 2, 5])
def test_guarded_count_is_exact_or_says_fewer(min_cell: int) -> None:
    num_rows = 12

    def guard(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        guarded = yield from guard_count(engine, shares[0], num_rows=num_rows, min_cell=min_cell)
        return np.concatenate([guarded.count, guarded.is_exact])

    for count in range(num_rows + 1):
        opened, is_exact = run_guard(guard, counts_at_16_bits(count))
        expected = count if count >= min_cell else 0
        expected = num_rows if num_rows - count < min_cell else expected
        assert opened >> 16 == expected
        assert is_exact == (min_cell <= count <= num_rows - min_cell) or min_cell == 1


def plainly_guarded(table: np.ndarray, min_cell: int) -> np.ndarray:
    """The rule of docs/protocols/evaluation.md."""
    found = np.full_like(table, -1)
    wrong = table.sum() - np.trace(table)
    if min_cell == 1:
        return table.copy()
    if min(np.trace(table), wrong) < min_cell:
        return found
    on_diagonal = np.eye(len(table), dtype=bool)
    for group in (on_diagonal, ~on_diagonal):
        small = group & (table < min_cell)
        hidden = table[small].sum()
        if hidden == 0:
            found[group] = table[group]
        elif min_cell <= hidden < small.sum() * (min_cell - 1):
            found[group & ~small] = table[group & ~small]
    return found


TABLES = [
    [[10, 2], [1, 10]],
    [[10, 5], [6, 10]],
    [[10, 0], [9, 3]],
    [[30, 0, 0], [0, 30, 1], [0, 0, 30]],
    [[30, 2, 2], [1, 30, 9], [0, 0, 30]],
    [[30, 4, 4], [4, 30, 4], [4, 4, 30]],
    [[3, 2, 2], [7, 30, 9], [0, 0, 3]],
    [[0, 7, 8], [7, 0, 9], [9, 9, 4]],
]


@pytest.mark.parametrize("min_cell", [1, 3, 5])
@pytest.mark.parametrize("table", TABLES, ids=range(len(TABLES)))
def test_guarded_table_follows_the_rule(table: list[list[int]], min_cell: int) -> None:
    counts = np.array(table, np.int64)

    def guard(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        correct = np.trace(shares[0]).reshape(1)
        count = yield from guard_count(engine, correct, num_rows=int(counts.sum()), min_cell=min_cell)
        return (yield from guard_table(engine, shares[0], is_exact=count.is_exact, min_cell=min_cell))

    assert np.array_equal(run_guard(guard, counts << 16) >> 16, plainly_guarded(counts, min_cell))


def test_opened_table_never_leaves_one_explanation_of_a_small_group() -> None:
    # All tables of two classes and 14 rows: whatever was opened, every withheld cell that is a small group could be another.
    num_rows, min_cell = 14, 3
    explanations: dict[tuple[object, ...], list[np.ndarray]] = {}
    for a, b, c in product(range(num_rows + 1), repeat=3):
        if a + b + c <= num_rows:
            table = np.array([[a, b], [c, num_rows - a - b - c]])
            correct = int(np.trace(table))
            count = num_rows if num_rows - correct < min_cell else correct if correct >= min_cell else 0
            seen = (count, *plainly_guarded(table, min_cell).reshape(-1).tolist())
            explanations.setdefault(seen, []).append(table)
    for seen, tables in explanations.items():
        cells = np.stack([table.reshape(-1) for table in tables])
        opened = np.array(seen[1:])
        assert not ((opened > 0) & (opened < min_cell)).any()
        for cell in np.flatnonzero(opened == -1):
            values = set(cells[:, cell].tolist())
            assert len(values) > 1 or not 0 < values.pop() < min_cell


@pytest.mark.parametrize(("groups", "is_open"), [((5, 9), True), ((4, 10), False), ((14, 0), False)])
def test_rate_is_withheld_if_a_class_is_small(groups: tuple[int, int], *, is_open: bool) -> None:
    def guard(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        return (yield from guard_rate(engine, shares[0], groups=shares[1], min_cell=5))

    opened = run_guard(guard, np.array([50_000]), counts_at_16_bits(*groups))
    assert opened.tolist() == [50_000 if is_open else -(1 << 16)]


@pytest.mark.parametrize(
    ("groups", "min_cell", "is_open"),
    [((5, 9), 5, True), ((4, 10), 5, False), ((14, 0), 5, True), ((2, 3, 9), 3, False), ((1, 13), 1, True)],
)
def test_mean_is_withheld_if_a_class_has_few_rows(groups: tuple[int, ...], min_cell: int, *, is_open: bool) -> None:
    def guard(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        return (yield from guard_mean(engine, shares[0], groups=shares[1], min_cell=min_cell))

    opened = run_guard(guard, np.array([50_000]), counts_at_16_bits(*groups))
    assert opened.tolist() == [50_000 if is_open else -(1 << 16)]


@pytest.mark.parametrize("num_rows", [7, 25, 60, 1000])
@pytest.mark.parametrize("min_cell", [3, 5])
def test_rate_fits_every_number_of_positive_rows_that_it_may_be_of(num_rows: int, min_cell: int) -> None:
    # Rounding gives a neighbour on either side, so an opened rate fits p if a rate of p is less than a step away.
    step = Fraction(1, 1 << rate_bits(num_rows, min_cell))
    for positive in range(min_cell, num_rows - min_cell + 1):
        assert Fraction(1, 2 * positive * (num_rows - positive)) <= step


def test_withheld_outputs_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = a_network(4, 1), Task.BINARY
    table, weights = a_table(model, task, 20), some_weights(model)
    weights["second.bias"] = np.array([100.0])  # everything is predicted to be 1
    table = replace(table, labels=np.array([0.0, 0.0] + [1.0] * 18))
    job = an_evaluation(model, task, table, BINARY_OUTPUTS, min_cell=5)
    world: World = evaluate(job, table, weights)
    found = opened_outputs(job, world.plan, world)
    assert found["correct_count"].tolist() == [20]  # fewer than five are wrong
    assert (found["confusion"] == -1).all()
    assert np.isnan(found["roc_auc"]).all()
    # Two rows that are wrong by 100 each make a mean of 10 over twenty: a count of two, were it opened.
    assert np.isnan(found["log_loss"]).all()
