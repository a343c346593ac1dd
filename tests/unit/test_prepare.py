"""From a request to a job: what the parties describe decides task, loss, outputs and where a training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from parties.client.calls import PreparedJob
from parties.client.client import Client
from parties.client.prepare import prepare_job
from parties.client.requests import EvaluateRequest, InferRequest, TrainRequest
from parties.wire.generated.confide.v1 import party_pb2
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef, OutputKind, Task
from protocols.model.spec import Layer, LayerKind, ModelSpec
from protocols.model.weights import weights_to_safetensors
from protocols.training import Loss
from tests.support.jobs import SCHEMA

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LABEL = "diagnosis@0123456789ab"
COMMON = {"api_version": "confide/v1", "computing_parties": ["hospital-a", "hospital-b"], "dealer": "hospital-c"}
GRADE = {"name": "grade", "role": "label", "type": "choice", "choices": ["low", "medium", "high"]}
STAY = {"name": "days", "role": "label", "type": "integer", "range": ["0", "30"]}
BENIGN = SCHEMA["columns"][-1]
WIDTHS = {"benign": 1, "days": 1, "grade": 3}


@dataclass
class Consortium:
    """What the parties answer: one data set each, and a model that the computing parties hold."""

    label: dict[str, Any]
    steps: int = 40

    def __post_init__(self) -> None:
        self.directory = SimpleNamespace(consortium="cardio", version=3)
        self.researcher = "alice"
        self.schema = SCHEMA | {"columns": [*SCHEMA["columns"][:-1], self.label]}
        self.spec = ModelSpec((Layer("linear", LayerKind.LINEAR, 3, WIDTHS[self.label["name"]], True),))

    def datasets(self, party: str) -> list[party_pb2.Dataset]:
        schema = canonical_bytes(self.schema)
        return [party_pb2.Dataset(name="rows", version=1, num_rows=100, schema=schema, commitment="c" * 64)]

    def models(self, party: str) -> list[party_pb2.Model]:
        manifest, schema = canonical_bytes(self.spec.to_document()), canonical_bytes(self.schema)
        steps = self.steps
        return [party_pb2.Model(name="diagnosis", version="0123456789ab", manifest=manifest, schema=schema, steps=steps)]

    def prepare(self, request: Any, folder: Path = Path(), samples: Any = None) -> PreparedJob:
        return prepare_job(cast(Client, self), request, folder=folder, now=NOW, samples=samples)


def a_train_request(**changes: Any) -> TrainRequest:
    fields: dict[str, Any] = {
        "type": "train",
        "datasets": ["hospital-a/rows", "hospital-b/rows"],
        "model_name": "diagnosis",
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": "0.5"},
    }
    return TrainRequest.model_validate(COMMON | fields | changes)


@pytest.mark.parametrize(
    ("label", "task", "loss"),
    [
        (BENIGN, Task.BINARY, Loss.BINARY_CROSS_ENTROPY),
        (GRADE, Task.CLASSES, Loss.CROSS_ENTROPY),
        (STAY, Task.REAL, Loss.MEAN_SQUARED_ERROR),
    ],
)
def test_training_takes_task_and_loss_from_the_schema(label: dict[str, Any], task: Task, loss: Loss, tmp_path: Path) -> None:
    consortium = Consortium(label)
    weights = {p.name: np.zeros(p.shape, np.float32) for p in consortium.spec.parameters}
    (tmp_path / "model.json").write_bytes(canonical_bytes(consortium.spec.to_document()))
    (tmp_path / "model.safetensors").write_bytes(weights_to_safetensors(weights, consortium.spec))
    job = consortium.prepare(a_train_request(manifest="model.json", weights="model.safetensors"), tmp_path).job
    assert job.training is not None
    assert (job.task, job.training.loss, job.training.steps_before, job.model_ref) == (task, loss, 0, None)


def test_training_that_goes_on_counts_the_steps_behind_the_model() -> None:
    prepared = Consortium(GRADE).prepare(a_train_request(continues=LABEL))
    job = prepared.job
    assert job.training is not None
    assert (job.model_ref, job.training.steps_before) == (ModelRef("diagnosis", "0123456789ab"), 40)
    assert (job.initial_weights_sha256, prepared.initial_weights) == (None, b"")


@pytest.mark.parametrize(
    ("label", "asked", "opened"),
    [
        (BENIGN, None, {"correct": OutputKind.CORRECT_COUNT}),
        (STAY, None, {"squared-error": OutputKind.SQUARED_ERROR}),
        (GRADE, ["confusion", "log_loss"], {"confusion": OutputKind.CONFUSION, "log-loss": OutputKind.LOG_LOSS}),
    ],
)
def test_evaluation_opens_what_was_asked_or_what_suits_the_label(
    label: dict[str, Any], asked: list[str] | None, opened: dict[str, OutputKind]
) -> None:
    fields = {"type": "evaluate", "datasets": ["hospital-a/rows"], "model": LABEL, "outputs": asked, "min_cell": 7}
    job = Consortium(label).prepare(EvaluateRequest.model_validate(COMMON | fields)).job
    assert {output.name: output.kind for output in job.outputs} == opened
    assert {output.min_cell for output in job.outputs} == {7}


def test_evaluation_of_what_the_label_has_not_is_refused() -> None:
    fields = {"type": "evaluate", "datasets": ["hospital-a/rows"], "model": LABEL, "outputs": ["roc_auc"]}
    with pytest.raises(ConfideError, match="correct_count, confusion, log_loss") as caught:
        Consortium(GRADE).prepare(EvaluateRequest.model_validate(COMMON | fields))
    assert caught.value.code is ErrorCode.INVALID_JOB


@pytest.mark.parametrize(("label", "kind"), [(BENIGN, OutputKind.LABEL), (STAY, OutputKind.VALUE)])
def test_inference_opens_label_or_value_and_scales_the_samples(label: dict[str, Any], kind: OutputKind) -> None:
    request = InferRequest.model_validate(COMMON | {"type": "infer", "model": LABEL, "samples": "(in memory)"})
    prepared = Consortium(label).prepare(request, samples=np.array([[0.0, 5.0, 10.0]]))
    assert [(output.kind, output.min_cell) for output in prepared.job.outputs] == [(kind, 0)]
    assert prepared.features is not None
    assert prepared.features.tolist() == [[-1.0, 0.0, 1.0]]


def test_training_whose_model_does_not_fit_the_rows_is_refused_before_anything_is_sent() -> None:
    consortium = Consortium(GRADE)
    consortium.spec = ModelSpec((Layer("linear", LayerKind.LINEAR, 2, 4, True),))
    with pytest.raises(ConfideError) as caught:
        consortium.prepare(a_train_request(continues=LABEL))
    assert {problem.what for problem in caught.value.problems} == {
        "4 outputs for the 3 classes of grade",
        "it takes 2 features, the schema has 3",
    }
