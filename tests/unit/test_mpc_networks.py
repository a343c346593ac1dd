"""Joint training of networks: every loss, optimiser and schedule against plain float64, with 2, 3 and 5 computing parties."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Task
from protocols.model import reference
from protocols.model.layers import Sigmoid, Softmax, Tanh
from protocols.model.spec import ModelSpec
from protocols.mpc.planning import derive_plan
from protocols.mpc.row_order import row_order
from protocols.mpc.tensor.coin import public_mask
from protocols.plan.operations import Deal
from protocols.training import Loss, Optimiser, OptimiserKind, Schedule, ScheduleKind, Training
from tests.support.jobs import sgd
from tests.support.programs import (
    PARTIES,
    Table,
    a_network,
    a_table,
    a_training,
    assert_measured_as_planned,
    some_weights,
    train,
    trained,
)

ROWS = 20  # two whole batches and a smaller one
BINARY = sgd(2, 8, "0.3", "0.9")
CLASSES = sgd(2, 8, "0.3", "0.9", loss=Loss.CROSS_ENTROPY)
SQUARED = sgd(2, 8, "0.3", "0.9", loss=Loss.MEAN_SQUARED_ERROR)
SIGMOID, SOFTMAX, TANH = Sigmoid(), Softmax(), Tanh()

# Primitives are within 1e-4 (sigmoid, tanh) or 2.3e-5 (softmax), values between layers within 2^-16, and weights below 2 carry
# that through six values: gradients are off by less than 1e-3, typically 5e-5. Six steps with momentum 0.9 and rate 0.3 add at
# most 0.3 * (1 + 1.9 + ... + 4.7) = 5.1 gradients' worth; measured over three seeds of every case: at most 3e-4.
TOLERANCE = 1e-3
MOVED = 0.02  # every case moves its weights by more than this, so a wrong gradient would show


def adam(epochs: int, rate: str, *, epsilon: str = "0.0001", decay: str = "0") -> Training:
    optimiser = Optimiser(OptimiserKind.ADAM, rate, weight_decay=decay, beta1="0.9", beta2="0.999", epsilon=epsilon)
    return replace(sgd(epochs, 8, "0"), optimiser=optimiser)


def plain(model: ModelSpec, task: Task, training: Training, table: Table, start: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    def coin(step: int, layer: str, shape: tuple[int, ...]) -> np.ndarray:
        rate = next(Fraction(known.operator.rate) for known in model.layers if known.name == layer)
        return public_mask(training.shuffle_seed, step, layer, shape, rate=rate)

    order = row_order(training.shuffle_seed, len(table.labels))
    return reference.train_on(model, start, table.features, table.labels, training=training, order=order, task=task, coin=coin)


NETWORKS = {
    "relu, binary": (a_network(4, 1), Task.BINARY, BINARY),
    "sigmoid, binary, squared error": (a_network(4, 1, hidden=SIGMOID, last=SIGMOID), Task.BINARY, SQUARED),
    "relu, three classes": (a_network(4, 3), Task.CLASSES, CLASSES),
    "tanh, softmax, squared error": (a_network(4, 3, hidden=TANH, last=SOFTMAX), Task.CLASSES, SQUARED),
    "tanh, real": (a_network(4, 1, hidden=TANH, last=TANH), Task.REAL, replace(SQUARED, epochs=1)),
    "dropout": (a_network(4, 3, dropout="0.25"), Task.CLASSES, CLASSES),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_trained_network_is_that_of_plain_training(name: str) -> None:
    model, task, training = NETWORKS[name]
    table, start = a_table(model, task, ROWS), some_weights(model)
    world = train(a_training(table, model, task, training), table, weights=start)
    expected, found = plain(model, task, training, table, start), trained(world)
    assert set(found) == set(expected)
    assert max(np.abs(found[key] - expected[key]).max() for key in expected) < TOLERANCE
    assert max(np.abs(expected[key] - start[key]).max() for key in start) > MOVED
    assert_measured_as_planned(world)


@pytest.mark.parametrize("parties", [3, 5])
def test_more_computing_parties_train_the_same_network(parties: int) -> None:
    # The roles rotate: another party leads, and alpha, who owns rows, is the last or does not compute at all.
    computing = tuple(reversed(PARTIES[:parties])) if parties == 3 else ("omega", "beta", "delta", "epsilon", "zeta")
    model, task, training = a_network(4, 3), Task.CLASSES, replace(CLASSES, epochs=1)
    table, start = a_table(model, task, ROWS), some_weights(model)
    world = train(a_training(table, model, task, training, computing=computing), table, weights=start)
    expected, found = plain(model, task, training, table, start), trained(world)
    assert max(np.abs(found[key] - expected[key]).max() for key in expected) < TOLERANCE
    assert_measured_as_planned(world)


@pytest.mark.parametrize(
    "training",
    [adam(2, "0.02"), replace(adam(2, "0.02", epsilon="0.01", decay="0.1"), schedule=Schedule(ScheduleKind.LINEAR, 0, "0.1"))],
    ids=["plain", "decay and schedule"],
)
def test_adam_is_that_of_plain_training(training: Training) -> None:
    model, task = a_network(4, 1), Task.BINARY
    table, start = a_table(model, task, ROWS), some_weights(model)
    world = train(a_training(table, model, task, training), table, weights=start)
    expected, found = plain(model, task, training, table, start), trained(world)
    # A step is rate * m / (sqrt(v) + epsilon). Gradients are off by 1e-4 at most, so for |g| >= 1e-3 a step is off by a tenth of
    # the rate, and below that by the rate in the worst case; over six steps well below one rate on average.
    for name in start:
        assert np.abs(found[name] - expected[name]).max() < 0.02
        assert np.abs(found[name] - expected[name]).mean() < 0.002
        assert np.abs(found[f"{name}#mean"] - expected[f"{name}#mean"]).max() < 2e-4
        # The square of a gradient below 1 is off by twice the gradient's error, and one part in 1000 of it counts.
        assert np.abs(found[f"{name}#square"] - expected[f"{name}#square"]).max() < 6 * 0.001 * 2e-4
    assert max(np.abs(expected[name] - start[name]).max() for name in start) > 0.05
    assert_measured_as_planned(world)


@pytest.mark.parametrize(
    ("schedule", "decay"),
    [(Schedule(ScheduleKind.STEP, 1, "0.5"), "0"), (Schedule(ScheduleKind.LINEAR, 0, "0.01"), "0.05")],
)
def test_schedule_and_decay_are_those_of_plain_training(schedule: Schedule, decay: str) -> None:
    model, task = a_network(4, 1), Task.BINARY
    optimiser = Optimiser(OptimiserKind.SGD, "0.5", momentum="0.5", weight_decay=decay)
    training = replace(BINARY, epochs=3, schedule=schedule, optimiser=optimiser)
    table, start = a_table(model, task, ROWS), some_weights(model)
    world = train(a_training(table, model, task, training), table, weights=start)
    expected, found = plain(model, task, training, table, start), trained(world)
    assert max(np.abs(found[key] - expected[key]).max() for key in expected) < TOLERANCE


def test_momentum_asks_for_no_shares_of_products_that_the_update_does_without() -> None:
    model, task = a_network(4, 3), Task.CLASSES
    table = a_table(model, task, ROWS)
    asked = []
    for momentum in ("0", "0.9"):
        plan = derive_plan(a_training(table, model, task, sgd(1, 8, "0.3", momentum, loss=Loss.CROSS_ENTROPY)))
        asked.append(
            [deal for deal in plan.segment("step").operations if isinstance(deal, Deal) and deal.kind == "shares_of_kept"]
        )
    assert asked[0] == asked[1]


def test_schedule_adds_no_segments_to_the_plan() -> None:
    model, task = a_network(4, 1), Task.BINARY
    table = a_table(model, task, ROWS)
    scheduled = replace(adam(1000, "0.02"), schedule=Schedule(ScheduleKind.STEP, 10, "0.9"))
    for training in (scheduled, replace(BINARY, epochs=1000, schedule=Schedule(ScheduleKind.LINEAR, 0, "0.01"))):
        plan = derive_plan(a_training(table, model, task, training))
        assert [segment.name for segment in plan.segments] == ["open data", "step", "last step", "range check"]


@pytest.mark.parametrize("value", [1024.0, -2000.0, float("nan")])
def test_initial_weights_beyond_the_declared_magnitude_are_refused(value: float) -> None:
    model, task = a_network(4, 1), Task.BINARY
    table, start = a_table(model, task, ROWS), some_weights(model)
    start["second.bias"] = np.array([value])
    with pytest.raises(ConfideError) as caught:
        train(a_training(table, model, task, BINARY), table, weights=start)
    assert caught.value.code is ErrorCode.INVALID_MODEL
    assert [problem.where for problem in caught.value.problems] == ["second.bias"]


@pytest.mark.parametrize(
    ("model", "task", "label"),
    [
        (a_network(4, 1), Task.BINARY, 2.0),
        (a_network(4, 3), Task.CLASSES, 3.0),
        (a_network(4, 3), Task.CLASSES, 0.5),
        (a_network(4, 1), Task.REAL, 1.5),
        (a_network(4, 1), Task.REAL, float("nan")),
    ],
)
def test_label_of_another_task_is_refused(model: ModelSpec, task: Task, label: float) -> None:
    table = a_table(model, task, ROWS)
    table.labels[3] = label
    training = {Task.BINARY: BINARY, Task.CLASSES: CLASSES, Task.REAL: SQUARED}[task]
    with pytest.raises(ConfideError) as caught:
        train(a_training(table, model, task, training), table, weights=some_weights(model))
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert "label" in str(caught.value)
