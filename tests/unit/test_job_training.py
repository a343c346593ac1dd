"""What is checked of hyper-parameters, tasks, losses and outputs; schedules give exact factors."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError
from protocols.job import Job, Output, OutputKind, Resumption, Task, check
from protocols.model.layers import Dropout, Linear, Operator, Relu, Sigmoid, Softmax
from protocols.model.spec import ModelSpec
from protocols.training import CheckpointRule, Loss, Optimiser, OptimiserKind, Schedule, ScheduleKind, Training
from tests.support.jobs import MODEL_REF, TRAINING, a_dataset, a_training, an_evaluation, an_inference, sgd

ADAM = Optimiser(OptimiserKind.ADAM, "0.01", beta1="0.9", beta2="0.999", epsilon="0.0001")
LOGITS: dict[str, Operator] = {"linear": Linear(4), "hidden": Relu(), "out": Linear(4)}
CLASSES = {"task": Task.CLASSES, "model": ModelSpec.chain(3, **LOGITS), "training": sgd(2, 8, "0.5", loss=Loss.CROSS_ENTROPY)}
REAL = {
    "task": Task.REAL,
    "model": ModelSpec.chain(3, linear=Linear(1)),
    "training": sgd(2, 8, "0.5", loss=Loss.MEAN_SQUARED_ERROR),
}
RESUMPTION = Resumption("a" * 32, "b" * 64, 3, 2)


def problems(job: Job) -> set[str]:
    """The fields that are named."""
    return {problem.where for problem in check(job)}


def trained(**changes: object) -> Job:
    return a_training(training=replace(TRAINING, **changes))


def ended(*operators: Operator, task: Task = Task.CLASSES) -> Job:
    """A training of several classes whose model ends in other layers."""
    last = {f"last_{index}": operator for index, operator in enumerate(operators)}
    return a_training(**CLASSES | {"task": task, "model": ModelSpec.chain(3, **LOGITS, **last)})


@pytest.mark.parametrize(
    "job",
    [
        trained(optimiser=ADAM),
        trained(optimiser=replace(TRAINING.optimiser, weight_decay="0.01")),
        trained(schedule=Schedule(ScheduleKind.STEP, 5, "0.5"), checkpoints=CheckpointRule(2, 30)),
        trained(schedule=Schedule(ScheduleKind.LINEAR, 0, "0.1")),
        trained(loss=Loss.MEAN_SQUARED_ERROR),
        a_training(**CLASSES),
        a_training(**REAL),
        a_training(initial_weights_sha256=None, model_ref=MODEL_REF),
        a_training(initial_weights_sha256=None, model_ref=MODEL_REF, training=replace(TRAINING, steps_before=40)),
        a_training(resumes=RESUMPTION),
        ended(Softmax()),
        an_evaluation(
            outputs=tuple(
                Output(kind.value.replace("_", "-"), kind, "alice", 5)
                for kind in (OutputKind.CORRECT_COUNT, OutputKind.CONFUSION, OutputKind.ROC_AUC, OutputKind.LOG_LOSS)
            )
        ),
        an_evaluation(task=Task.REAL, outputs=(Output("error", OutputKind.SQUARED_ERROR, "alice", 5),)),
        an_inference(task=Task.REAL, outputs=(Output("value", OutputKind.VALUE, "alice"),)),
        an_inference(**{**CLASSES, "training": None, "outputs": (Output("p", OutputKind.PROBABILITY, "alice"),)}),
    ],
)
def test_job_of_every_task_and_setting_is_valid_and_survives_the_round_trip(job: Job) -> None:
    assert problems(job) == set()
    assert Job.from_bytes(job.to_bytes()) == job


@pytest.mark.parametrize(
    ("job", "where"),
    [
        (trained(optimiser=replace(ADAM, momentum="0.9")), "training.optimiser.momentum"),
        (trained(optimiser=replace(ADAM, beta1="0")), "training.optimiser.beta1"),
        (trained(optimiser=replace(ADAM, beta2="0.99999")), "training.optimiser.beta2"),
        (trained(optimiser=replace(ADAM, epsilon="0.00000001")), "training.optimiser.epsilon"),
        (trained(optimiser=replace(TRAINING.optimiser, beta1="0.9")), "training.optimiser.beta1"),
        (trained(optimiser=replace(TRAINING.optimiser, weight_decay="-1")), "training.optimiser.weight_decay"),
        (trained(schedule=Schedule(ScheduleKind.STEP, 0, "0.5")), "training.schedule.every_epochs"),
        (trained(schedule=Schedule(ScheduleKind.LINEAR, 3, "0.5")), "training.schedule.every_epochs"),
        (trained(schedule=Schedule(ScheduleKind.LINEAR, 0, "2")), "training.schedule.factor"),
        (trained(schedule=Schedule(ScheduleKind.CONSTANT, 0, "0.5")), "training.schedule.factor"),
        (trained(checkpoints=CheckpointRule(-1, 0)), "training.checkpoints.every_epochs"),
        (trained(checkpoints=CheckpointRule(0, 1_441)), "training.checkpoints.every_minutes"),
        (trained(steps_before=1), "training.steps_before"),
        (trained(optimiser=Optimiser(OptimiserKind.ADAM, "0.01", "0", "0", "0.999", "0.9", "0.001")), "training.optimiser.beta2"),
        (a_training(training=sgd(1000, 1, "0.5"), datasets=(a_dataset(num_rows=10_001),)), "training"),
        (trained(loss=Loss.CROSS_ENTROPY), "training.loss"),
        (a_training(**CLASSES | {"training": TRAINING}), "training.loss"),
        (a_training(**CLASSES | {"training": sgd(2, 8, "0.5", loss=Loss.MEAN_SQUARED_ERROR)}), "training.loss"),
        (a_training(**REAL | {"task": Task.BINARY}), "training.loss"),
        (ended(task=Task.BINARY), "model"),
        (a_training(**REAL | {"task": Task.CLASSES}), "model"),
        (ended(Softmax(), Softmax()), "model.last_0"),
        (ended(Sigmoid()), "model.last_0"),
        (ended(Dropout()), "model.last_0"),
        (a_training(model_ref=MODEL_REF), "initial_weights_sha256"),
        (a_training(initial_weights_sha256=None), "initial_weights_sha256"),
        (a_training(resumes=replace(RESUMPTION, attempt=1)), "resumes"),
        (a_training(resumes=replace(RESUMPTION, run=0)), "resumes"),
        (a_training(resumes=replace(RESUMPTION, head="b")), "resumes.head"),
        (an_evaluation(resumes=RESUMPTION), "resumes"),
        (an_evaluation(outputs=(Output("o", OutputKind.CORRECT_COUNT, "alice"),)), "outputs.o.min_cell"),
        (an_evaluation(outputs=(Output("o", OutputKind.SQUARED_ERROR, "alice", 5),)), "outputs"),
        (an_inference(outputs=(Output("o", OutputKind.VALUE, "alice"),)), "outputs"),
        (an_inference(outputs=(Output("o", OutputKind.LABEL, "alice", 5),)), "outputs.min_cell"),
    ],
)
def test_check_one_wrong_setting_is_named(job: Job, where: str) -> None:
    assert where in problems(job)
    with pytest.raises(ConfideError):
        Job.from_bytes(job.to_bytes())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), [Fraction(1)] * 5),
        (Schedule(ScheduleKind.STEP, 2, "0.1"), [1, 1, Fraction(1, 10), Fraction(1, 10), Fraction(1, 100)]),
        (Schedule(ScheduleKind.LINEAR, 0, "0.2"), [1, Fraction(4, 5), Fraction(3, 5), Fraction(2, 5), Fraction(1, 5)]),
    ],
)
def test_schedule_gives_an_exact_factor_for_every_epoch(schedule: Schedule, expected: list[Fraction]) -> None:
    assert [schedule.multiplier(epoch, 5) for epoch in range(5)] == expected


def test_linear_schedule_of_one_epoch_leaves_the_rate_as_it_is() -> None:
    assert Schedule(ScheduleKind.LINEAR, 0, "0.2").multiplier(0, 1) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": {"kind": "sgd"}},
        {"optimiser": TRAINING.to_document()["optimiser"] | {"kind": "adamw"}},
        {"optimiser": TRAINING.to_document()["optimiser"] | {"learning_rate": 1}},
        {"schedule": TRAINING.to_document()["schedule"] | {"every_epochs": "0"}},
        {"checkpoints": {"every_epochs": 1}},
        {"checkpoints": {"every_epochs": True, "every_minutes": 0}},
        {"loss": "hinge"},
        {"steps_before": "0"},
        {"learning_rate": "0.5"},
    ],
)
def test_training_document_of_another_form_is_refused(changes: dict[str, object]) -> None:
    document = a_training().to_document()
    document["training"] = document["training"] | changes
    with pytest.raises(ConfideError):
        Job.from_bytes(canonical_bytes(document))


def test_training_of_another_type_than_training_is_refused() -> None:
    assert "training" in problems(
        an_evaluation(training=Training(1, 1, Loss.CROSS_ENTROPY, ADAM, Schedule(), CheckpointRule(), ""))
    )
