"""Valid jobs of every type, to be changed field by field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.job import DatasetRef, Job, JobType, ModelRef, Output, OutputKind, Training
from protocols.model.spec import Layer, LayerKind, ModelSpec

CREATED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SCHEMA: dict[str, Any] = {"format": "confide.schema/1", "name": "tumours"}
SCHEMA_DIGEST = sha256_hex(canonical_bytes(SCHEMA))
MODEL = ModelSpec((Layer("linear", LayerKind.LINEAR, 3, 1, True), Layer("sigmoid", LayerKind.SIGMOID, 1, 1, False)))
MODEL_REF = ModelRef("diagnosis", "0123456789ab")
TRAINING = Training(epochs=2, batch_size=8, learning_rate="0.5", momentum="0.9", shuffle_seed="ab" * 16)


def a_dataset(party: str = "hospital-a", name: str = "patients", *, num_rows: int = 100) -> DatasetRef:
    return DatasetRef(party, name, 1, num_rows, SCHEMA_DIGEST, "c" * 64)


def a_training(**changes: Any) -> Job:
    job = Job(
        consortium="cardio",
        directory_version=3,
        job_type=JobType.TRAIN,
        querier="alice",
        computing_parties=("hospital-a", "hospital-b"),
        dealer="hospital-c",
        datasets=(a_dataset("hospital-a"), a_dataset("hospital-b"), a_dataset("hospital-c")),
        schema=SCHEMA,
        model=MODEL,
        initial_weights_sha256="d" * 64,
        model_name="diagnosis",
        model_ref=None,
        training=TRAINING,
        query_rows=None,
        outputs=(),
        created=CREATED,
        expires=CREATED + timedelta(minutes=30),
        nonce="ef" * 16,
    )
    return replace(job, **changes)


def an_evaluation(**changes: Any) -> Job:
    return a_training(
        **{
            "job_type": JobType.EVALUATE,
            "initial_weights_sha256": None,
            "model_name": None,
            "model_ref": MODEL_REF,
            "training": None,
            "outputs": (Output("correct", OutputKind.CORRECT_COUNT, "alice"),),
        }
        | changes
    )


def an_inference(**changes: Any) -> Job:
    return an_evaluation(
        **{
            "job_type": JobType.INFER,
            "datasets": (),
            "query_rows": 5,
            "outputs": (Output("prediction", OutputKind.LABEL, "alice"),),
        }
        | changes
    )
