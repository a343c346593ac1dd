"""Reliability diagrams and tables of groups in shares: scikit-learn's and Fairlearn's figures, and what must not be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from governance.budget.amounts import charges
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Task, check
from protocols.model import reference
from protocols.model.layers import Sigmoid
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.programs import forward
from protocols.mpc.programs.disclosure import guard_bins, keep_all_of_table
from protocols.mpc.programs.group_counts import edge_thresholds, guard_groups
from protocols.mpc.query import combine_output
from protocols.sharing import share_additive
from tests.support.mpc_world import a_job, run_protocol, split, stream
from tests.support.programs import (
    Table,
    a_network,
    a_table,
    assert_measured_as_planned,
    evaluate,
    opened_outputs,
    some_weights,
)

KIND = OutputKind
ROWS = 400
SCHEMA: dict[str, Any] = {
    "columns": [
        *({"name": name, "role": "feature", "type": "float", "range": ["0", "1"]} for name in ("age", "dose", "size", "kind")),
        {"name": "ill", "role": "label", "type": "boolean"},
    ]
}
# Logits are off by 2e-4 (see test_mpc_evaluation), a probability by a quarter of it and the sigmoid's 1e-4; rounding 2^-16.
PROBABILITY_ERROR = 2e-4 / 4 + 1e-4 + 2.0**-16
EDGES = ("-0.4", "0.35")


def an_evaluation(table: Table, outputs: Sequence[Output], *, classes: int = 0) -> Job:
    model = a_network(4, classes or 1, last=None if classes else Sigmoid())
    task = Task.CLASSES if classes else Task.BINARY
    plain = a_job(JobType.EVALUATE, rows=table.owners(), model=model, task=task)
    digest = sha256_hex(canonical_bytes(SCHEMA))
    datasets = tuple(replace(dataset, schema_digest=digest) for dataset in plain.datasets)
    job = replace(plain, schema=SCHEMA, datasets=datasets, outputs=tuple(outputs))
    assert list(check(job)) == []
    return job


def reliability(min_cell: int = 1) -> Output:
    return Output("diagram", KIND.RELIABILITY, "researcher", min_cell)


def grouped(min_cell: int = 1, *, by: str = "dose", edges: tuple[str, ...] = EDGES) -> Output:
    return Output("groups", KIND.GROUP_CONFUSION, "researcher", min_cell, group_by=by, group_edges=edges)


def a_spread_model(features: int = 4) -> tuple[Any, dict[str, np.ndarray]]:
    """A network whose probabilities lie in all tenths."""
    model = a_network(features, 1, last=Sigmoid())
    weights = some_weights(model)
    weights["second.weight"] = weights["second.weight"] * 6
    weights["second.bias"] = np.array([-2.0])
    return model, weights


@pytest.mark.parametrize("block", [4096, 128], ids=["at once", "in blocks"])
def test_binary_diagram_is_scikit_learns(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", block)
    model, weights = a_spread_model()
    table = a_table(model, Task.BINARY, ROWS)
    job = an_evaluation(table, [reliability()])
    world = evaluate(job, table, weights)
    found = opened_outputs(job, world.plan, world)["reliability"]
    probabilities = 1 / (1 + np.exp(-reference.logits(model, weights, table.features)[:, 0]))
    inner = np.arange(1, 10) / 10
    assert np.abs(probabilities[:, None] - inner).min() > 2e-4 / 4  # no row is so near to an edge that it could change sides
    bins = np.digitize(probabilities, inner)
    assert found[:, 0].tolist() == np.bincount(bins, minlength=10).tolist()
    assert found[:, 2].tolist() == np.bincount(bins, table.labels, minlength=10).tolist()
    assert np.all(np.abs(found[:, 1] - np.bincount(bins, probabilities, minlength=10)) <= found[:, 0] * PROBABILITY_ERROR)
    told = found[found[:, 0] > 0]
    share, mean = calibration_curve(table.labels, probabilities, n_bins=10)
    assert np.allclose(told[:, 2] / told[:, 0], share, atol=1e-12)
    assert np.abs(told[:, 1] / told[:, 0] - mean).max() < 1e-3
    error = np.abs(found[:, 1] - found[:, 2]).sum() / ROWS
    assert abs(error - (np.bincount(bins, minlength=10)[np.unique(bins)] * np.abs(share - mean)).sum() / ROWS) < 1e-3
    assert_measured_as_planned(world)


def test_diagram_of_classes_is_of_the_largest_probability() -> None:
    model, task = a_network(4, 3), Task.CLASSES
    table, weights = a_table(model, task, ROWS), some_weights(model)
    weights["second.weight"] = weights["second.weight"] * 4
    job = an_evaluation(table, [reliability()], classes=3)
    world = evaluate(job, table, weights)
    found = opened_outputs(job, world.plan, world)["reliability"]
    logits = reference.logits(model, weights, table.features)
    every = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    largest, right = every.max(axis=1), every.argmax(axis=1) == table.labels
    # Weights are four times those of the other tests, and so are errors; a probability moves at most a quarter of that.
    error = 4 * 2e-4 / 4 + 2.3e-5 + 2.0**-16
    moving = np.abs(largest[:, None] - np.arange(1, 10) / 10).min(axis=1) <= error
    bins = np.digitize(largest, np.arange(1, 10) / 10)
    assert np.abs(found[:, 0] - np.bincount(bins, minlength=10)).sum() <= 2 * moving.sum()
    assert found[:, 0].sum() == ROWS
    assert abs(found[:, 1].sum() - largest.sum()) <= ROWS * error
    assert found[:, 2].sum() == right.sum()
    assert_measured_as_planned(world)


@pytest.mark.parametrize("block", [4096, 128], ids=["at once", "in blocks"])
def test_groups_have_the_tables_that_scikit_learn_gives_them(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", block)
    model, weights = a_spread_model()
    table = a_table(model, Task.BINARY, ROWS)
    features = table.features.copy()
    features[:3, 1] = np.rint(-0.4 * 2**16) / 2**16  # at the edge, as shared
    table = replace(table, features=features)
    job = an_evaluation(table, [grouped()])
    world = evaluate(job, table, weights)
    found = opened_outputs(job, world.plan, world)["group_confusion"]
    predicted = reference.logits(model, weights, table.features)[:, 0] >= 0
    groups = np.digitize(np.round(features[:, 1], 4), [-0.4, 0.35])
    assert set(groups[:3]) == {1}
    for number in range(3):
        chosen = groups == number
        expected = confusion_matrix(table.labels[chosen], predicted[chosen], labels=[0, 1])
        assert found[number].tolist() == [expected[0, 0], expected[1, 0], expected[0, 1], expected[1, 1]]
    assert_measured_as_planned(world)


def test_edge_counts_to_the_group_above_it_however_both_are_rounded() -> None:
    # Every value of one decade, scaled from a range of odd width, as an edge with nine decimals and as a shared number.
    low, high = 18.0, 93.0
    for value in np.arange(19.0, 93.0, 0.25):
        scaled = 2 * (value - low) / (high - low) - 1
        (threshold,) = edge_thresholds([f"{scaled:.9f}"])
        assert np.rint(scaled * 2**16) >= threshold
        assert np.rint(scaled * 2**16) - 1 < threshold


# The minimum cell, against the rule written down plainly.


def plainly_kept(cells: np.ndarray, groups: np.ndarray, min_cell: int) -> np.ndarray:
    kept = np.zeros(len(cells), bool)
    for group in groups.astype(bool):
        small = group & (cells < min_cell)
        hidden = cells[small].sum()
        if hidden == 0:
            kept |= group
        elif min_cell <= hidden < small.sum() * (min_cell - 1):
            kept |= group & ~small
    return kept


def plainly_whole(table: np.ndarray, min_cell: int) -> bool:
    """Whether the confusion table may be opened in full."""
    correct, wrong = np.trace(table), table.sum() - np.trace(table)
    kept = plainly_kept(table.reshape(-1), np.array([[1, 0, 0, 1], [0, 1, 1, 0]]), min_cell)
    return bool(min(correct, wrong) >= min_cell and kept.all())


def of_kinds(count: int) -> np.ndarray:
    """Cells in rows of four kinds: one group for each kind."""
    return np.tile(np.eye(4, dtype=np.int64), count)


def whole_of(cells: np.ndarray) -> np.ndarray:
    """The confusion table of rows of true and false negatives, false and true positives."""
    negatives, false_negatives, false_positives, positives = cells.reshape(-1, 4).sum(axis=0)
    return np.array([[negatives, false_positives], [false_negatives, positives]])


def plainly_grouped(cells: np.ndarray, min_cell: int) -> np.ndarray:
    is_told = plainly_whole(whole_of(cells), min_cell) and not ((cells > 0) & (cells < min_cell)).any()
    return cells if is_told else np.full_like(cells, -1)


def bin_groups(bins: int) -> np.ndarray:
    """Wrong ones by bin, then right ones; of either, those of the lower half and of the upper."""
    lower, none = np.repeat([1, 0], bins // 2), np.zeros(bins, np.int64)
    rows = [(lower, none), (1 - lower, none), (none, lower), (none, 1 - lower)]
    return np.array([np.concatenate(row) for row in rows])


def plainly_binned(cells: np.ndarray, min_cell: int) -> np.ndarray:
    bins = len(cells) // 2
    kept = plainly_kept(cells, bin_groups(bins), min_cell)
    whole = (bin_groups(bins) @ cells).reshape(2, 2)
    both = kept[:bins] & kept[bins:] & plainly_whole(whole, min_cell)
    return np.where(np.tile(both, 2), cells, -1)


def run_guard(guard: Any, cells: np.ndarray) -> np.ndarray:
    shares = split(cells << 16, 2, seed=40)
    run = run_protocol(guard, [[share] for share in shares])
    return np.asarray(run.value) >> 16


def some_cells(count: int, generator: np.random.Generator) -> np.ndarray:
    return np.where(generator.random(count) < 0.5, generator.integers(0, 6, count), generator.integers(5, 30, count))


@pytest.mark.parametrize("seed", range(40))
def test_guarded_groups_follow_the_rule(seed: int) -> None:
    generator = np.random.default_rng(seed)
    cells, min_cell = some_cells(12, generator) + (8 if seed % 2 else 0), 4
    cells[4:8] = generator.permutation([(0, 1, 3, 4)[seed % 8 // 2], 0, 0, 0])  # nobody, somebody, few, enough: in one cell

    def guard(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        table = np.ascontiguousarray(shares[0].reshape(3, 4))
        return (yield from guard_groups(engine, table, num_rows=int(cells.sum()), min_cell=min_cell))

    expected = plainly_grouped(cells, min_cell)
    assert (expected[0] >= 0) == (seed % 8 in (1, 7)), "the rule says yes to some and no to others"
    assert run_guard(guard, cells).reshape(-1).tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(40))
def test_guarded_bins_follow_the_rule(seed: int) -> None:
    generator = np.random.default_rng(100 + seed)
    cells, min_cell = some_cells(8, generator) + (8 if seed % 2 else 0), 4
    groups = bin_groups(4)

    def guard(engine: Engine, shares: Sequence[np.ndarray]) -> Steps[np.ndarray]:
        table = (groups @ shares[0]).reshape(2, 2)
        gate = keep_all_of_table(engine, table, num_rows=int(cells.sum()), min_cell=min_cell)
        both = shares[0].reshape(2, 4).T
        return (yield from guard_bins(engine, both, cells=shares[0], groups=groups, gate=gate, min_cell=min_cell))

    assert run_guard(guard, cells).T.reshape(-1).tolist() == plainly_binned(cells, min_cell).tolist()


def every_split(total: int, parts: int) -> np.ndarray:
    """All ways to write a total as so many counts."""
    bars = np.array(list(combinations(range(total + parts - 1), parts - 1)))
    walls = np.hstack([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), total + parts - 1)])
    return np.diff(walls, axis=1) - 1


def told(table: np.ndarray, min_cell: int) -> tuple[int, ...]:
    """What the count of correct rows and the confusion table show beside it."""
    total, correct = int(table.sum()), int(np.trace(table))
    if min(correct, total - correct) < min_cell:
        return (0 if correct < min_cell else total, -1, -1, -1, -1)
    kept = plainly_kept(table.reshape(-1), np.array([[1, 0, 0, 1], [0, 1, 1, 0]]), min_cell)
    return (correct, *np.where(kept, table.reshape(-1), -1).tolist())


@pytest.mark.parametrize("kind", ["groups", "bins"])
def test_nothing_that_is_opened_leaves_one_explanation_of_a_small_group(kind: str) -> None:
    # All tables of 12 rows in eight cells: two groups, or four bins' worth in two halves. With the count of correct rows and the
    # confusion table beside it, every withheld cell that is a small group could be another; and so could every cell of the
    # confusion table, and the size of every group and bin, whether or not anything says it.
    min_cell = 3
    explanations: dict[tuple[int, ...], list[np.ndarray]] = {}
    for cells in every_split(12, 8):
        table = whole_of(cells) if kind == "groups" else (bin_groups(4) @ cells).reshape(2, 2)
        opened = (plainly_grouped if kind == "groups" else plainly_binned)(cells, min_cell)
        explanations.setdefault((*told(table, min_cell), *opened.tolist()), []).append(cells)
    some_are_open = 0
    sums = of_kinds(2) if kind == "groups" else bin_groups(4)
    parts = np.repeat(np.eye(2, dtype=np.int64), 4, axis=1) if kind == "groups" else np.tile(np.eye(4, dtype=np.int64), 2)
    for seen, possible in explanations.items():
        opened, cells = np.array(seen[5:]), np.stack(possible)
        some_are_open += bool((opened > 0).any())
        assert not ((opened > 0) & (opened < min_cell)).any()
        for found in np.vstack([np.eye(8, dtype=np.int64), sums, parts]) @ cells.T:
            values = set(found.tolist())
            assert len(values) > 1 or not 0 < values.pop() < min_cell
    assert some_are_open > 10


def test_nothing_that_is_opened_tells_the_label_of_whoever_is_in_a_small_group() -> None:
    # Of all tables of 12 rows in two groups: whoever knows somebody to be in a group of 1 or 2 rows is left with several cells.
    min_cell = 3
    possible: dict[tuple[int, ...], set[tuple[int, int]]] = {}
    for cells in every_split(12, 8):
        seen = (*told(whole_of(cells), min_cell), *plainly_grouped(cells, min_cell).tolist())
        for group, part in enumerate(cells.reshape(2, 4)):
            if 0 < part.sum() < min_cell:
                possible.setdefault(seen, set()).update((group, cell) for cell in np.flatnonzero(part).tolist())
    assert possible
    for places in possible.values():
        assert all(len({cell for at, cell in places if at == group}) > 1 for group in {at for at, _ in places})


def test_small_groups_are_withheld_from_the_querier() -> None:
    model, weights = a_spread_model()
    table = a_table(model, Task.BINARY, ROWS)
    job = an_evaluation(table, [grouped(5, edges=("-0.99", "0.35")), reliability(5)])
    found = opened_outputs(job, (world := evaluate(job, table, weights)).plan, world)
    predicted = (reference.logits(model, weights, table.features)[:, 0] >= 0).astype(int)
    groups = np.digitize(table.features[:, 1], [-0.99, 0.35])
    kinds = 2 * predicted + table.labels.astype(int)
    cells = np.array([[((groups == group) & (kinds == kind)).sum() for kind in range(4)] for group in range(3)])
    assert 0 < cells[0].sum() < 20
    assert found["group_confusion"].reshape(-1).tolist() == plainly_grouped(cells.reshape(-1), 5).tolist()
    diagram = found["reliability"]
    assert np.isnan(diagram).any(axis=1).tolist() == np.isnan(diagram).all(axis=1).tolist()
    assert_measured_as_planned(world)


@pytest.mark.parametrize(
    ("output", "where"),
    [
        (grouped(by="weight"), "outputs.groups.group_by"),
        (grouped(by=""), "outputs.groups.group_by"),
        (grouped(edges=()), "outputs.groups.group_edges"),
        (grouped(edges=("0.5", "0.2")), "outputs.groups.group_edges"),
        (grouped(edges=("1.5",)), "outputs.groups.group_edges"),
        (replace(reliability(), group_by="dose"), "outputs.diagram.group_by"),
    ],
)
def test_groups_that_mean_nothing_are_refused(output: Output, where: str) -> None:
    table = a_table(a_network(4, 1), Task.BINARY, ROWS)
    job = replace(an_evaluation(table, [reliability()]), outputs=(output,))
    assert where in [problem.where for problem in check(job)]


def test_groups_are_of_binary_tasks_alone() -> None:
    table = a_table(a_network(4, 3), Task.CLASSES, ROWS)
    job = replace(an_evaluation(table, [reliability()], classes=3), outputs=(grouped(),))
    assert "outputs" in [problem.where for problem in check(job)]


def test_every_number_that_is_opened_is_charged() -> None:
    table = a_table(a_network(4, 1), Task.BINARY, ROWS)
    job = an_evaluation(table, [reliability(), grouped()])
    assert {(amount.queries, amount.answers) for amount in charges(job, "alpha").values()} == {(1, 30 + 3 * 4)}


@pytest.mark.parametrize(
    ("output", "values"),
    [
        (reliability(), np.zeros((9, 3))),
        (reliability(), np.tile([4.0, 5.0, 2.0], (10, 1))),
        (reliability(), np.tile([4.0, 2.0, 5.0], (10, 1))),
        (reliability(), np.tile([4.5, 2.0, 2.0], (10, 1))),
        (reliability(), np.tile([-1.0, 2.0, -1.0], (10, 1))),
        (grouped(), np.full((3, 3), 4.0)),
        (grouped(), np.full((3, 4), -2.0)),
    ],
)
def test_shares_that_give_no_such_output_are_refused(output: Output, values: np.ndarray) -> None:
    numbers = np.rint(values * 2**16).astype(np.int64)
    with pytest.raises(ConfideError) as caught:
        combine_output(share_additive(numbers, num_parties=2, source=stream("bad")), output=output, scale_bits=16)
    assert caught.value.code is ErrorCode.BAD_FRAME
