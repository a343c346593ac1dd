"""Networks of every kind of layer, trained and applied jointly, against plain float64; and what a large one costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.job import Job, JobType, OutputKind, Task
from protocols.model import reference
from protocols.model.layers import (
    AdaptiveAveragePool,
    Add,
    AveragePool,
    BatchNorm,
    Convolution,
    Embedding,
    Flatten,
    Gelu,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Relu,
    Softmax,
)
from protocols.model.spec import Layer, ModelSpec
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs import forward
from protocols.mpc.row_order import row_order
from protocols.training import Loss, Optimiser, OptimiserKind, Training
from tests.support.jobs import sgd
from tests.support.mpc_world import a_job
from tests.support.programs import (
    Table,
    a_table,
    a_training,
    assert_measured_as_planned,
    evaluate,
    opened_outputs,
    some_weights,
    train,
    trained,
)

ROWS = 12  # a whole batch of 8 and one of 4
CLASSES = sgd(2, 8, "0.1", "0.5", loss=Loss.CROSS_ENTROPY)
ADAM = Optimiser(OptimiserKind.ADAM, "0.02", weight_decay="0", beta1="0.9", beta2="0.999", epsilon="0.0001")
# Values between layers are within 2^-16, soft maxima within 2.3e-5, weights below 2; sums of at most 50 products carry that
# through three layers: gradients are off by less than 1e-3, four steps of rate 0.1 and momentum 0.5 by less than 8e-4;
# batch norms, whose factors reach 10, double that. Measured with these rows and weights: 3e-5 without batch norms, 2.6e-4 with.
TOLERANCE = 2e-3
MOVED = 0.02


def a_lenet() -> ModelSpec:
    return ModelSpec.chain(
        (1, 10, 10),
        first=Convolution(3, (3, 3), (1, 1), (0, 0)),
        relu1=Relu(),
        pool1=MaxPool((2, 2), (2, 2), (0, 0)),
        second=Convolution(4, (3, 3), (1, 1), (1, 1)),
        pool2=MaxPool((2, 2), (2, 2), (0, 0)),
        relu2=LeakyRelu("0.1"),
        flat=Flatten(),
        third=Linear(6),
        relu3=Relu(),
        last=Linear(3),
        softmax=Softmax(),
    )


def a_residual_network() -> ModelSpec:
    """Two paths that meet again, batch norms, and means in the end."""
    return ModelSpec(
        (2, 6, 6),
        (
            Layer("first", Convolution(4, (3, 3), (1, 1), (1, 1), bias=False), ("input",)),
            Layer("norm1", BatchNorm(), ("first",)),
            Layer("relu", Relu(), ("norm1",)),
            Layer("second", Convolution(4, (3, 3), (1, 1), (1, 1), groups=2), ("relu",)),
            Layer("norm2", BatchNorm("0.001", "0.3"), ("second",)),
            Layer("sum", Add(), ("norm2", "relu")),
            Layer("means", AdaptiveAveragePool((2, 2)), ("sum",)),
            Layer("flat", Flatten(), ("means",)),
            Layer("last", Linear(3), ("flat",)),
        ),
    )


def a_sequence_network() -> ModelSpec:
    return ModelSpec.chain(
        (6, 4),
        table=Embedding(4),
        norm=LayerNorm(),
        line=Convolution(4, (2,), (2,), (0,)),
        gelu=Gelu(),
        means=AveragePool((2,), (2,), (0,)),
        flat=Flatten(),
        last=Linear(3),
    )


NETWORKS = {"lenet": a_lenet(), "residual": a_residual_network(), "sequence": a_sequence_network()}


def some_rows(model: ModelSpec, rows: int = ROWS) -> Table:
    table = a_table(model, Task.CLASSES, rows)
    if isinstance(model.layers[0].operator, Embedding):
        chosen = np.random.default_rng(3).integers(0, model.input_shape[1], (rows, model.input_shape[0]))
        return Table(np.eye(model.input_shape[1])[chosen].reshape(rows, -1), table.labels)
    return table


def a_start(model: ModelSpec) -> dict[str, np.ndarray]:
    weights = some_weights(model)
    return {name: np.abs(value) + 0.25 if name.endswith("running_var") else value for name, value in weights.items()}


def plain(model: ModelSpec, training: Training, table: Table, start: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    order = row_order(training.shuffle_seed, len(table.labels))
    return reference.train_on(
        model, start, table.features, table.labels, training=training, order=order, task=Task.CLASSES, coin=None
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_trained_network_is_that_of_plain_training(name: str) -> None:
    model = NETWORKS[name]
    table, start = some_rows(model), a_start(model)
    world = train(a_training(table, model, Task.CLASSES, CLASSES), table, weights=start)
    expected, found = plain(model, CLASSES, table, start), trained(world)
    assert set(found) == set(expected)
    assert max(np.abs(found[key] - expected[key]).max() for key in expected) < TOLERANCE
    assert max(np.abs(expected[key] - start[key]).max() for key in start) > MOVED
    assert_measured_as_planned(world)


def test_running_statistics_have_no_state_of_the_optimiser() -> None:
    model, training = a_residual_network(), replace(CLASSES, epochs=1, optimiser=ADAM)
    table, start = some_rows(model), a_start(model)
    found = trained(train(a_training(table, model, Task.CLASSES, training), table, weights=start))
    expected = plain(model, training, table, start)
    assert set(found) == set(expected)
    assert not [name for name in found if "running" in name and "#" in name]
    statistics = [name for name in found if "running" in name]
    assert len(statistics) == 4
    for name in statistics:
        assert np.abs(found[name] - expected[name]).max() < TOLERANCE
        assert np.abs(expected[name] - start[name]).max() > MOVED


def an_evaluation(model: ModelSpec, table: Table) -> Job:
    return a_job(
        JobType.EVALUATE,
        features=model.input_features,
        rows=table.owners(),
        model=model,
        task=Task.CLASSES,
        outputs=(OutputKind.CORRECT_COUNT, OutputKind.LOG_LOSS),
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("block", [4096, 5])
def test_network_predicts_as_plain_in_one_block_and_in_several(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # In several blocks the weights, and what is made of batch norms, are opened once, before the rows.
    monkeypatch.setattr(forward, "_MAX_BLOCK_ROWS", block)
    model = NETWORKS[name]
    table, weights = some_rows(model), a_start(model)
    job = an_evaluation(model, table)
    world = evaluate(job, table, weights)
    found = opened_outputs(job, world.plan, world)
    logits = reference.logits(model, weights, table.features)
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    truth = table.labels.astype(int)
    assert found["correct_count"].tolist() == [int((logits.argmax(axis=1) == truth).sum())]
    assert abs(found["log_loss"][0] + logs[np.arange(ROWS), truth].mean()) < TOLERANCE
    assert_measured_as_planned(world)


def test_lenet_step_costs_what_is_promised() -> None:
    model = ModelSpec.chain(
        (1, 28, 28),
        c1=Convolution(20, (5, 5), (1, 1), (0, 0)),
        r1=Relu(),
        p1=MaxPool((2, 2), (2, 2), (0, 0)),
        c2=Convolution(50, (5, 5), (1, 1), (0, 0)),
        r2=Relu(),
        p2=MaxPool((2, 2), (2, 2), (0, 0)),
        flat=Flatten(),
        l1=Linear(500),
        r3=Relu(),
        l2=Linear(10),
        softmax=Softmax(),
    )
    training = sgd(30, 128, "0.1", loss=Loss.CROSS_ENTROPY)
    job = a_job(JobType.TRAIN, features=784, rows={"alpha": 128}, model=model, task=Task.CLASSES, training=training)
    step = derive_plan(job).segment("step")
    assert step.rounds <= 56
    assert step.opened_bytes <= 66e6
    assert step.correction_bytes <= 170e6
