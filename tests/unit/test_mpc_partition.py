"""Sessions over different columns of the same rows: the model and the measures are those of the rows in one hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, OutputKind, Task
from protocols.model import reference
from protocols.model.spec import ModelSpec
from protocols.mpc.inputs import LocalInputs, check_inputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.row_order import row_order
from protocols.training import Loss, Training
from tests.support.jobs import sgd
from tests.support.mpc_world import a_job
from tests.support.parts import PartedTable, in_columns
from tests.support.programs import (
    a_network,
    a_table,
    assert_measured_as_planned,
    evaluate,
    opened_outputs,
    some_weights,
    train,
    trained,
)

ROWS = 20  # two whole batches and a smaller one
TRAINING = sgd(2, 8, "0.3", "0.9", loss=Loss.CROSS_ENTROPY)
# As derived in test_mpc_networks.py, for the same network, rate, momentum and steps.
TOLERANCE, MOVED = 1e-3, 0.02
MODEL, TASK = a_network(4, 3), Task.CLASSES


def a_parted_table(owners: Sequence[str], widths: Sequence[int], labelled: str, *, num_rows: int = ROWS) -> PartedTable:
    return in_columns(a_table(MODEL, TASK, num_rows), widths, owners, labelled=labelled)


def a_whole_job(job_type: JobType, computing: Sequence[str], *, num_rows: int = ROWS, training: Training | None = None) -> Job:
    """The job over all columns at alpha, to be parted."""
    outputs = None if job_type is JobType.TRAIN else (OutputKind.CORRECT_COUNT, OutputKind.CONFUSION, OutputKind.LOG_LOSS)
    return a_job(
        job_type,
        features=MODEL.input_features,
        rows={"alpha": num_rows},
        computing=computing,
        model=MODEL,
        task=TASK,
        training=training,
        outputs=outputs,
        min_cell=3,
    )


def plain(model: ModelSpec, training: Training, table: PartedTable, start: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Training in float64 on the rows in one hand, in the order of the job."""

    def coin(step: int, layer: str, shape: tuple[int, ...]) -> np.ndarray:
        raise AssertionError("no layer drops anything")

    order = row_order(training.shuffle_seed, len(table.labels))
    return reference.train_on(model, start, table.features, table.labels, training=training, order=order, task=TASK, coin=coin)


@pytest.mark.parametrize(
    ("computing", "owners", "widths", "labelled"),
    [
        (("alpha", "beta"), ("gamma", "alpha"), (3, 1), "alpha"),  # the dealer has columns, and alpha those that come last
        (("alpha", "beta", "omega"), ("alpha", "gamma", "beta"), (2, 2, 0), "beta"),  # one brings the labels alone
    ],
)
def test_trained_model_is_that_of_the_rows_in_one_hand(
    computing: tuple[str, ...], owners: tuple[str, ...], widths: tuple[int, ...], labelled: str
) -> None:
    table, start = a_parted_table(owners, widths, labelled), some_weights(MODEL)
    world = train(table.parted(a_whole_job(JobType.TRAIN, computing, training=TRAINING)), table, weights=start)
    expected, found = plain(MODEL, TRAINING, table, start), trained(world)
    assert set(found) == set(expected)
    assert max(np.abs(found[key] - expected[key]).max() for key in expected) < TOLERANCE
    assert max(np.abs(expected[key] - start[key]).max() for key in start) > MOVED
    assert_measured_as_planned(world)


def test_evaluation_counts_every_row_once_and_as_in_one_hand() -> None:
    table, weights = a_parted_table(("beta", "gamma"), (1, 3), "gamma", num_rows=60), some_weights(MODEL)
    job = table.parted(a_whole_job(JobType.EVALUATE, ("alpha", "beta"), num_rows=60))
    world = evaluate(job, table, weights)
    found = opened_outputs(job, world.plan, world)
    logits = reference.logits(MODEL, weights, table.features)
    ordered = np.sort(logits, axis=1)
    assert (ordered[:, -1] - ordered[:, -2]).min() > 6 * 2 * 2.0**-16  # twice the error of a logit: no class may flip
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (table.labels.astype(int), logits.argmax(axis=1)), 1)
    # Cells of one or two rows are withheld, and with them whatever would give them away; what is opened is exact.
    opened = found["confusion"] >= 0
    assert np.array_equal(found["confusion"][opened], counts[opened])
    assert found["correct_count"].tolist() == [np.trace(counts)]
    assert opened.any()
    assert_measured_as_planned(world)


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ((np.zeros((ROWS, 2)), np.zeros(0)), "its shape is not the job's"),
        ((np.zeros((ROWS, 3)), np.zeros(ROWS)), "its shape is not the job's"),
        ((np.zeros((ROWS - 1, 3)), np.zeros(0)), "its shape is not the job's"),
    ],
)
def test_part_of_another_shape_than_the_job_says_is_refused_before_anything_is_sent(
    rows: tuple[np.ndarray, np.ndarray], what: str
) -> None:
    table = a_parted_table(("gamma", "alpha"), (3, 1), "alpha")
    job = table.parted(a_whole_job(JobType.TRAIN, ("alpha", "beta"), training=TRAINING))
    check_inputs(job, "gamma", LocalInputs(rows=table.rows_of(job, "gamma")))
    with pytest.raises(ConfideError) as caught:
        check_inputs(job, "gamma", LocalInputs(rows={0: rows}))
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert [problem.what for problem in caught.value.problems] == [what]


def test_labels_of_a_part_are_checked_where_they_are() -> None:
    table = a_parted_table(("gamma", "alpha"), (3, 1), "gamma")
    job = table.parted(a_whole_job(JobType.TRAIN, ("alpha", "beta"), training=TRAINING))
    (index, (features, _)) = next(iter(table.rows_of(job, "gamma").items()))
    with pytest.raises(ConfideError) as caught:
        check_inputs(job, "gamma", LocalInputs(rows={index: (features, np.full(ROWS, 3.0))}))
    assert "a label is not one of" in caught.value.problems[0].what


def test_batches_follow_the_one_order_of_the_joined_rows() -> None:
    # The plan of parts is that of the whole rows but for who shares what: as many steps, rounds and openings.
    table = a_parted_table(("gamma", "alpha"), (3, 1), "alpha")
    whole = a_whole_job(JobType.TRAIN, ("alpha", "beta"), training=replace(TRAINING, epochs=1))
    parted = derive_plan(table.parted(whole))
    plan = derive_plan(whole)
    assert (parted.rounds, parted.schedule, parted.segments) == (plan.rounds, plan.schedule, plan.segments)
    assert sum(item.num_elements for item in parted.inputs) == sum(item.num_elements for item in plan.inputs) == ROWS * (4 + 3)
