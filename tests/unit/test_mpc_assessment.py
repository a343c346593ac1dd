"""A joint assessment in shares against the same attack in the clear: counts, the minimum cell, blocks, classes, both attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from protocols.attack_numbers import FACTOR_LIMIT, LIRA, RMIA
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Assessment, Job, JobType, Output, OutputKind, Task, check
from protocols.model.spec import ModelSpec
from protocols.mpc.inputs import LocalInputs, check_inputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs import forward
from tests.support.mpc_world import World, a_job, run_world
from tests.support.programs import (
    PARTIES,
    Table,
    Weights,
    a_network,
    a_table,
    assert_measured_as_planned,
    by_sides,
    opened_outputs,
    shares_of,
    some_weights,
)

UNIT = 2.0**-16
THRESHOLDS = tuple(f"{number / 4:g}" for number in range(-8, 9))


def an_assessment(
    table: Table,
    model: ModelSpec,
    task: Task,
    *,
    attack: str = LIRA,
    thresholds: Sequence[str] = THRESHOLDS,
    min_cell: int = 2,
    parties: int = 2,
) -> Job:
    rows, features = table.owners(), model.input_features
    job = by_sides(a_job(JobType.EVALUATE, rows=rows, computing=PARTIES[:parties], features=features, model=model, task=task))
    job = replace(
        job,
        job_type=JobType.ASSESS,
        outputs=(Output("attack-counts", OutputKind.ATTACK_COUNTS, job.querier, min_cell),),
        assessment=Assessment((0, 2), tuple(thresholds), attack, 8),
    )
    assert list(check(job)) == []
    assert Job.from_bytes(job.to_bytes()) == job
    return job


def some_numbers(table: Table, attack: str, *, seed: int = 5) -> np.ndarray:
    """What shadows might say of the rows; exact at 16 fractional bits."""
    drawn = np.random.default_rng(seed)
    rows = len(table.labels)
    found = drawn.uniform(-2, 2, (rows, 2)) if attack == LIRA else drawn.uniform(0, 3, (rows, 1))
    return np.rint(found / UNIT) * UNIT


def run(job: Job, table: Table, weights: Weights, numbers: np.ndarray) -> tuple[np.ndarray, World]:
    shares = shares_of(weights, len(job.computing_parties))
    starts = np.cumsum([0, *(dataset.num_rows for dataset in job.datasets)])
    inputs = {
        party: LocalInputs(
            rows=(rows := table.rows_of(job, party)),
            model_share=shares[job.computing_parties.index(party)] if party in job.computing_parties else None,
            attack_numbers={place: numbers[starts[place] : starts[place + 1]] for place in rows},
        )
        for party in dict.fromkeys((*job.computing_parties, "alpha", "gamma"))
    }
    world = run_world(job, derive_plan(job), inputs)
    return opened_outputs(job, world.plan, world)[OutputKind.ATTACK_COUNTS.value], world


def plain_scores(table: Table, weights: Weights, task: Task, attack: str, numbers: np.ndarray) -> np.ndarray:
    """The scores in float64."""
    hidden = np.maximum(table.features @ weights["first.weight"].T + weights["first.bias"], 0)
    logits = hidden @ weights["second.weight"].T + weights["second.bias"]
    if task is Task.BINARY:
        logits = np.hstack([np.zeros_like(logits), logits])
    rows, labels = np.arange(len(logits)), table.labels.astype(int)
    own = logits[rows, labels]
    if attack == RMIA:
        return own - np.log(np.exp(logits).sum(axis=1)) + numbers[:, 0]
    others = logits.copy()
    others[rows, labels] = -np.inf
    return numbers[:, 0] * (own - others.max(axis=1)) + numbers[:, 1]


def plain_counts(scores: np.ndarray, thresholds: Sequence[str]) -> np.ndarray:
    reached = scores[:, None] >= np.array(thresholds, float)
    quarter = len(scores) // 4  # members, others, members, others
    sides = np.arange(len(scores)) // quarter % 2
    return np.stack([reached[sides == side].sum(axis=0) for side in range(2)], axis=1)


def coarsened(counts: np.ndarray, rows: Sequence[int], min_cell: int) -> np.ndarray:
    """The rule of the minimum cell, row by row: counts that are too near the last one kept, or all, are -1."""
    told = np.full_like(counts, -1)
    for side in range(2):
        last = 0
        for place in reversed(range(len(counts))):
            count = int(counts[place, side])
            if count - last >= min_cell and rows[side] - count >= min_cell:
                told[place, side] = last = count
    return told


def away_from_thresholds(scores: np.ndarray, thresholds: Sequence[str]) -> bool:
    """Whether no score is so near a threshold that rounding could carry it across.

    A logit of this network is a sum of 6 and of 4 products, each cut once: within 2^-16 (6 + 1) of itself, so a margin is within
    14 units; |a| is at most 2. The logarithm of a softmax is within 2.5 units more.
    """
    return bool(np.abs(scores[:, None] - np.array(thresholds, float)).min() > 64 * UNIT)


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("attack", [LIRA, RMIA])
@pytest.mark.parametrize(("task", "outputs"), [(Task.BINARY, 1), (Task.CLASSES, 4)])
def test_counts_are_those_of_the_attack_in_the_clear(task: Task, outputs: int, attack: str, parties: int) -> None:
    model = a_network(4, outputs)
    table, weights = a_table(model, task, 60), some_weights(model)
    numbers = some_numbers(table, attack)
    scores = plain_scores(table, weights, task, attack, numbers)
    thresholds = [one for one in THRESHOLDS if away_from_thresholds(scores, [one])]
    assert len(thresholds) > 10
    job = an_assessment(table, model, task, attack=attack, thresholds=thresholds, parties=parties)
    found, world = run(job, table, weights, numbers)
    expected = coarsened(plain_counts(scores, thresholds), (30, 30), 2)
    assert (expected != -1).any(axis=0).all()
    np.testing.assert_array_equal(found, expected)
    assert_measured_as_planned(world)


@pytest.mark.parametrize("min_cell", [2, 3, 7, 16])
def test_no_two_counts_that_are_told_differ_by_fewer_rows_than_the_minimum(min_cell: int) -> None:
    model = a_network(4, 1)
    table, weights = a_table(model, Task.BINARY, 60, seed=3), some_weights(model)
    numbers = some_numbers(table, LIRA)
    scores = plain_scores(table, weights, Task.BINARY, LIRA, numbers)
    thresholds = [one for one in THRESHOLDS if away_from_thresholds(scores, [one])]
    job = an_assessment(table, model, Task.BINARY, thresholds=thresholds, min_cell=min_cell)
    found, _ = run(job, table, weights, numbers)
    for side in range(2):
        told = found[found[:, side] >= 0, side]
        assert (-np.diff([30, *told, 0]) >= min_cell).all()
    np.testing.assert_array_equal(found, coarsened(plain_counts(scores, thresholds), (30, 30), min_cell))
    # 16 of 30 rows leave fewer than 16: nothing is told.
    assert (found == -1).all() == (min_cell == 16)


def test_rows_in_blocks_count_as_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = a_network(4, 3)
    table, weights = a_table(model, Task.CLASSES, 50), some_weights(model)
    numbers = some_numbers(table, LIRA)
    thresholds = [
        one for one in THRESHOLDS if away_from_thresholds(plain_scores(table, weights, Task.CLASSES, LIRA, numbers), [one])
    ]
    job = an_assessment(table, model, Task.CLASSES, thresholds=thresholds)
    at_once, _ = run(job, table, weights, numbers)
    # Blocks of 8 rows: the border between members and others lies within one.
    monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", 8)
    in_blocks, world = run(job, table, weights, numbers)
    np.testing.assert_array_equal(in_blocks, at_once)
    assert_measured_as_planned(world)


@pytest.mark.parametrize("value", [np.nan, np.inf, FACTOR_LIMIT])
def test_numbers_beyond_their_limits_are_refused_before_anything_is_shared(value: float) -> None:
    model = a_network(4, 1)
    table = a_table(model, Task.BINARY, 20)
    job = an_assessment(table, model, Task.BINARY)
    numbers = some_numbers(table, LIRA)[:10]
    rows, weights = table.rows_of(job, "alpha"), shares_of(some_weights(model), 2)[0]
    first, second = numbers[:5].copy(), numbers[5:].copy()
    check_inputs(job, "alpha", LocalInputs(rows=rows, model_share=weights, attack_numbers={0: first, 1: second}))
    altered = first.copy()
    altered[3, 0] = value
    for wrong in ({0: altered, 1: second}, {0: first[:, :1], 1: second}, {0: first[:4], 1: second}, {0: first}, {}):
        with pytest.raises(ConfideError) as refused:
            check_inputs(job, "alpha", LocalInputs(rows=rows, model_share=weights, attack_numbers=wrong))
        assert refused.value.code is ErrorCode.INVALID_DATA
