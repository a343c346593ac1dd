"""Valid jobs of every type, to be changed field by field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.job import DatasetRef, Job, JobType, ModelRef, Output, OutputKind, Partition, Serving, Task
from protocols.model.layers import Linear, Sigmoid
from protocols.model.spec import ModelSpec
from protocols.private_training import Mechanism, PrivateTraining, Unit
from protocols.training import CheckpointRule, Loss, Optimiser, OptimiserKind, Schedule, Training

CREATED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SCHEMA: dict[str, Any] = {
    "api_version": "confide/v1",
    "kind": "TableSchema",
    "name": "tumours",
    "columns": [
        *({"name": name, "role": "feature", "type": "float", "range": ["0", "10"]} for name in ("radius", "texture", "area")),
        {"name": "benign", "role": "label", "type": "boolean"},
    ],
}
SCHEMA_DIGEST = sha256_hex(canonical_bytes(SCHEMA))
MODEL = ModelSpec.chain(3, linear=Linear(1), sigmoid=Sigmoid())
MODEL_REF = ModelRef("diagnosis", "0123456789ab")
# A private training of 300 rows whose noise gives what it claims.
CLAIMED = PrivateTraining(
    mechanism=Mechanism.SHARED_GRADIENTS,
    noise_multiplier="29",
    colluders=1,
    nominal_rows=300,
    nominal_people=300,
    epsilon="1",
    delta="0.00001",
    unit=Unit.ROW,
    rows_per_person=1,
    norm_bound="1",
    canaries=0,
)


def sgd(
    epochs: int, batch_size: int, learning_rate: str, momentum: str = "0", *, loss: Loss = Loss.BINARY_CROSS_ENTROPY
) -> Training:
    """Hyper-parameters of SGD, with the public seed that all tests use."""
    optimiser = Optimiser(OptimiserKind.SGD, learning_rate, momentum=momentum)
    return Training(epochs, batch_size, loss, optimiser, Schedule(), CheckpointRule(0, 0), "ab" * 16)


TRAINING = sgd(2, 8, "0.5", "0.9")


def a_dataset(party: str = "hospital-a", name: str = "patients", *, num_rows: int = 100) -> DatasetRef:
    return DatasetRef(party, name, 1, num_rows, SCHEMA_DIGEST, "c" * 64, 3, True, "")


def a_training(**changes: Any) -> Job:
    job = Job(
        consortium="cardio",
        directory_version=3,
        agreement="a1" * 32,
        purpose="prognosis",
        job_type=JobType.TRAIN,
        querier="alice",
        computing_parties=("hospital-a", "hospital-b"),
        dealer="hospital-c",
        datasets=(a_dataset("hospital-a"), a_dataset("hospital-b"), a_dataset("hospital-c")),
        partition=Partition.ROWS,
        schema=SCHEMA,
        task=Task.BINARY,
        model=MODEL,
        initial_weights_sha256="d" * 64,
        model_name="diagnosis",
        model_ref=None,
        training=TRAINING,
        resumes=None,
        query_rows=None,
        query_commitment=None,
        serving=None,
        outputs=(),
        created=CREATED,
        agree_by=CREATED + timedelta(minutes=2),
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
            "outputs": (Output("correct", OutputKind.CORRECT_COUNT, "alice", 5),),
        }
        | changes
    )


def an_inference(**changes: Any) -> Job:
    return an_evaluation(
        **{
            "job_type": JobType.INFER,
            "datasets": (),
            "query_rows": 5,
            "query_commitment": "b2" * 32,
            "outputs": (Output("prediction", OutputKind.LABEL, "alice"),),
        }
        | changes
    )


def a_serving(**changes: Any) -> Job:
    serving = {"job_type": JobType.SERVE, "serving": Serving(128, 50, 400, 60, 600, 300)}
    return an_inference(**serving | {"query_rows": None, "query_commitment": None} | changes)
