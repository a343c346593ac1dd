"""From a request for different columns of the same rows to a job: the joined schema, and what is wrong with the parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.client.calls import PreparedJob
from parties.client.requests import EvaluateRequest, InferRequest, TrainRequest, read_request
from parties.wire.generated.confide.v1 import party_pb2
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import DatasetRef, Partition
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors
from tests.support.consent import HOSPITALS, an_agreement
from tests.support.described import BENIGN, COMMON, CONSENT, LABEL, Consortium
from tests.support.jobs import SCHEMA
from tests.support.parts import JOINED, a_part, part_schema

SPEC = ModelSpec.chain(3, linear=Linear(1))
NAMES = ["hospital-a/patients", "hospital-c/patients"]


@dataclass
class Parted(Consortium):
    """A consortium whose hospitals a and c hold different columns of the same people, and a model of the joined rows."""

    label: dict[str, Any] = field(default_factory=lambda: BENIGN)
    parts: dict[str, tuple[DatasetRef, dict[str, Any]]] = field(
        default_factory=lambda: {party: (a_part(party), part_schema(party)) for party in ("hospital-a", "hospital-c")}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.signed = [CONSENT.signed(an_agreement(purposes=("prognosis",), datasets=tuple(f"{party}/*" for party in HOSPITALS)))]
        self.schema = JOINED

    def datasets(self, party: str) -> list[party_pb2.Dataset]:
        ref, schema = self.parts.get(party, (a_part("hospital-a"), SCHEMA))
        return [
            party_pb2.Dataset(
                name=ref.name,
                version=ref.version,
                num_rows=ref.num_rows,
                schema=canonical_bytes(schema),
                commitment=ref.commitment,
                alignment=ref.alignment,
            )
        ]

    def train(self, folder: Path, **changes: Any) -> PreparedJob:
        (folder / "model.json").write_bytes(canonical_bytes(SPEC.to_document()))
        weights = {p.name: np.zeros(p.shape, np.float32) for p in SPEC.parameters}
        (folder / "model.safetensors").write_bytes(weights_to_safetensors(weights, SPEC))
        fields: dict[str, Any] = {
            "type": "train",
            "datasets": NAMES,
            "partition": "columns",
            "model_name": "diagnosis",
            "manifest": "model.json",
            "weights": "model.safetensors",
            "training": {"epochs": 2, "batch_size": 8, "learning_rate": "0.5"},
        }
        return self.prepare(TrainRequest.model_validate(COMMON | fields | changes), folder)


def refusal(parted: Parted, folder: Path, **changes: Any) -> list[str]:
    with pytest.raises(ConfideError) as caught:
        parted.train(folder, **changes)
    assert caught.value.code is ErrorCode.INVALID_JOB
    return [problem.what for problem in caught.value.problems] or [caught.value.remedy]


def test_request_for_columns_becomes_a_job_over_the_joined_schema(tmp_path: Path) -> None:
    job = Parted().train(tmp_path).job
    assert (job.partition, job.schema, job.num_rows) == (Partition.COLUMNS, JOINED, 100)
    assert job.datasets == (a_part("hospital-a"), a_part("hospital-c"))
    continued = Parted().train(tmp_path, manifest=None, weights=None, continues=LABEL).job
    assert (continued.schema, continued.datasets) == (JOINED, job.datasets)


def test_request_for_columns_reports_every_problem_with_the_parts(tmp_path: Path) -> None:
    first, schema = a_part("hospital-a"), part_schema("hospital-a")
    again = {"hospital-c": (replace(first, party="hospital-c", num_rows=90, alignment="b1" * 32), schema)}
    assert refusal(Parted(parts=Parted().parts | again), tmp_path) == [
        "90 rows, and hospital-a/patients has 100",
        "2 parts have a label: hospital-a/patients, hospital-c/patients",
        "hospital-a/patients and hospital-c/patients both have it",
        "hospital-a/patients and hospital-c/patients both have it",
    ]
    other = {"hospital-c": (replace(a_part("hospital-c"), alignment="b1" * 32), part_schema("hospital-c"))}
    (what,) = refusal(Parted(parts=Parted().parts | other), tmp_path)
    assert what.startswith("its people or their order are not those of hospital-a/patients")


def test_request_for_rows_over_parts_is_told_to_write_columns(tmp_path: Path) -> None:
    (remedy,) = refusal(Parted(), tmp_path, partition="rows")
    assert "write partition: columns" in remedy


def test_evaluation_of_parts_in_another_order_than_the_model_s_is_told_the_order() -> None:
    fields = {"type": "evaluate", "datasets": NAMES[::-1], "partition": "columns", "model": LABEL}
    with pytest.raises(ConfideError) as caught:
        Parted().prepare(EvaluateRequest.model_validate(COMMON | fields))
    assert [problem.remedy for problem in caught.value.problems] == ["write [hospital-a/patients, hospital-c/patients]"]
    job = Parted().prepare(EvaluateRequest.model_validate(COMMON | fields | {"datasets": NAMES})).job
    assert (job.partition, job.num_rows, job.schema) == (Partition.COLUMNS, 100, JOINED)


def test_inference_on_a_model_of_columns_takes_samples_with_all_of_them() -> None:
    request = InferRequest.model_validate(COMMON | {"type": "infer", "model": LABEL, "samples": "(in memory)"})
    prepared = Parted().prepare(request, samples={"area": [10.0], "radius": [0.0], "texture": [5.0]})
    assert prepared.features is not None
    assert prepared.features.tolist() == [[-1.0, 0.0, 1.0]]
    assert prepared.job.partition is Partition.ROWS


def test_request_file_for_columns_is_read_and_another_word_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    text = (
        "api_version: confide/v1\ntype: evaluate\ncomputing_parties: [hospital-a, hospital-b]\ndealer: hospital-c\n"
        f"datasets: [{', '.join(NAMES)}]\npartition: columns\nmodel: {LABEL}\n"
    )
    file.write_text(text)
    request = read_request(file)
    assert isinstance(request, EvaluateRequest)
    assert request.partition == "columns"
    file.write_text(text.replace("columns", "cells"))
    with pytest.raises(ConfideError) as caught:
        read_request(file)
    assert "partition" in caught.value.problems[0].where
