"""The job document: one text for one job, every problem at once, and nothing that is not on the list."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import (
    MAX_COMPUTING_PARTIES,
    MAX_DATASETS,
    MAX_OUTPUTS,
    Job,
    ModelRef,
    Output,
    OutputKind,
    check,
)
from protocols.model.layers import Linear, Sigmoid
from protocols.model.spec import ModelSpec
from tests.support.jobs import CREATED, MODEL, TRAINING, a_dataset, a_training, an_evaluation, an_inference

JOBS = [a_training(), an_evaluation(), an_inference()]


def problems(job: Job) -> set[str]:
    """The fields that are named."""
    return {problem.where for problem in check(job)}


def optimised(**changes: str) -> Job:
    """A training whose optimiser differs."""
    return a_training(training=replace(TRAINING, optimiser=replace(TRAINING.optimiser, **changes)))


def refusal(document: dict[str, Any]) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        Job.from_bytes(canonical_bytes(document))
    return caught.value


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.job_type.value)
def test_job_valid_one_survives_the_round_trip(job: Job) -> None:
    assert list(check(job)) == []
    assert Job.from_bytes(job.to_bytes()) == job


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.job_type.value)
def test_job_id_is_the_beginning_of_the_digest_of_its_bytes(job: Job) -> None:
    assert job.digest == sha256_hex(job.to_bytes())
    assert job.job_id == job.digest[:32]


def test_job_another_nonce_is_another_job() -> None:
    assert a_training().job_id != a_training(nonce="00" * 16).job_id


def test_participants_are_computing_parties_dealer_and_other_owners_once_in_order() -> None:
    owners = ("hospital-d", "hospital-b", "hospital-c", "hospital-e", "hospital-d")
    job = a_training(datasets=tuple(a_dataset(party, f"rows-{number}") for number, party in enumerate(owners)))
    assert job.participants == ("hospital-a", "hospital-b", "hospital-c", "hospital-d", "hospital-e")
    assert job.lead == "hospital-a"
    assert job.num_rows == 500


def test_produced_model_is_named_after_the_training() -> None:
    job = a_training()
    assert job.produced_model == ModelRef("diagnosis", job.job_id[:12])
    assert an_evaluation().produced_model is None


@pytest.mark.parametrize(
    ("job", "where"),
    [
        (a_training(consortium="Cardio"), "consortium"),
        (a_training(querier="-alice"), "querier"),
        (a_training(querier=""), "querier"),
        (a_training(dealer="x" * 64), "dealer"),
        (a_training(dealer="hospital-b"), "dealer"),
        (a_training(computing_parties=("hospital-a",)), "computing_parties"),
        (a_training(computing_parties=("hospital-a", "hospital-a")), "computing_parties"),
        (a_training(computing_parties=("hospital-a", "../b")), "computing_parties"),
        (a_training(expires=CREATED), "expires"),
        (a_training(expires=CREATED + timedelta(days=7, seconds=1)), "expires"),
        (a_training(nonce="ef" * 15), "nonce"),
        (a_training(nonce="EF" * 16), "nonce"),
        (a_training(datasets=()), "datasets"),
        (a_training(datasets=(a_dataset(), a_dataset())), "datasets.hospital-a.patients"),
        (a_training(datasets=(replace(a_dataset(), schema_digest="0" * 64),)), "datasets.hospital-a.patients"),
        (a_training(datasets=(replace(a_dataset(), num_rows=0),)), "datasets.hospital-a.patients"),
        (a_training(datasets=(replace(a_dataset(), num_rows=10_000_001),)), "datasets.hospital-a.patients"),
        (a_training(datasets=(replace(a_dataset(), version=0),)), "datasets.hospital-a.patients"),
        (a_training(datasets=(replace(a_dataset(), commitment="c" * 63),)), "datasets.hospital-a.patients.commitment"),
        (a_training(datasets=(replace(a_dataset(), party="A"),)), "datasets.party"),
        (a_training(datasets=(replace(a_dataset(), name="a/b"),)), "datasets.name"),
        (a_training(model_name=None), "model_name"),
        (a_training(model_name="Diagnosis"), "model_name"),
        (a_training(query_rows=1), "query_rows"),
        (a_training(initial_weights_sha256=None), "initial_weights_sha256"),
        (a_training(outputs=(Output("o", OutputKind.LABEL, "alice"),)), "outputs"),
        (a_training(training=None), "training"),
        (a_training(training=replace(TRAINING, epochs=0)), "training.epochs"),
        (a_training(training=replace(TRAINING, epochs=1_001)), "training.epochs"),
        (a_training(training=replace(TRAINING, batch_size=65_537)), "training.batch_size"),
        (optimised(learning_rate="0"), "training.optimiser.learning_rate"),
        (optimised(learning_rate="16.000000001"), "training.optimiser.learning_rate"),
        (optimised(learning_rate="1e3"), "training.optimiser.learning_rate"),
        (optimised(learning_rate="NaN"), "training.optimiser.learning_rate"),
        (optimised(momentum="1"), "training.optimiser.momentum"),
        (optimised(momentum="-0.1"), "training.optimiser.momentum"),
        (a_training(training=replace(TRAINING, shuffle_seed="")), "training.shuffle_seed"),
        (a_training(model=ModelSpec.chain(3, l=Linear(2))), "model"),
        (a_training(model=ModelSpec.chain(1, s=Sigmoid())), "model"),
        (an_evaluation(model_ref=None), "model_ref"),
        (an_evaluation(model_ref=ModelRef("diagnosis", "xyz")), "model_ref.version"),
        (an_evaluation(model_ref=ModelRef("Diagnosis", "0" * 12)), "model_ref.name"),
        (an_evaluation(outputs=()), "outputs"),
        (an_evaluation(outputs=(Output("o", OutputKind.LABEL, "alice"),)), "outputs"),
        (an_evaluation(outputs=(Output("o", OutputKind.CORRECT_COUNT, "alice"),) * 2), "outputs"),
        (an_evaluation(outputs=(Output("o", OutputKind.CORRECT_COUNT, "mallory"),)), "outputs.o"),
        (an_evaluation(outputs=(Output("O", OutputKind.CORRECT_COUNT, "alice"),)), "outputs.name"),
        (an_evaluation(training=TRAINING), "training"),
        (an_evaluation(model_name="x"), "model_name"),
        (an_inference(datasets=(a_dataset(),)), "datasets"),
        (an_inference(query_rows=None), "query_rows"),
        (an_inference(query_rows=0), "query_rows"),
        (an_inference(query_rows=10_001), "query_rows"),
        (an_inference(outputs=(Output("o", OutputKind.CORRECT_COUNT, "alice"),)), "outputs"),
        (an_inference(initial_weights_sha256="0" * 64), "initial_weights_sha256"),
    ],
)
def test_check_one_wrong_field_is_named(job: Job, where: str) -> None:
    assert where in problems(job)


def test_check_many_wrong_fields_are_all_named_at_once() -> None:
    job = a_training(
        consortium="CARDIO",
        dealer="hospital-a",
        nonce="x",
        expires=CREATED,
        model_name=None,
        datasets=(replace(a_dataset(), version=0, commitment=""),),
        training=replace(TRAINING, epochs=0, optimiser=replace(TRAINING.optimiser, momentum="2")),
    )
    expected = {
        "consortium",
        "dealer",
        "nonce",
        "expires",
        "agree_by",
        "model_name",
        "datasets.hospital-a.patients",
        "datasets.hospital-a.patients.commitment",
        "training.epochs",
        "training.optimiser.momentum",
    }
    assert problems(job) == expected
    error = refusal(job.to_document())
    assert error.code is ErrorCode.INVALID_JOB
    assert {problem.where for problem in error.problems} == expected
    assert all(problem.what and problem.remedy for problem in error.problems)


def test_from_bytes_unknown_and_missing_fields_are_all_named() -> None:
    document = a_training().to_document()
    del document["dealer"], document["nonce"]
    error = refusal(document | {"debug": True, "command": "x"})
    assert [(problem.where, problem.what) for problem in error.problems] == [
        ("command", "unknown field"),
        ("debug", "unknown field"),
        ("dealer", "missing field"),
        ("nonce", "missing field"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "confide.job/1"},
        {"directory_version": "3"},
        {"directory_version": True},
        {"type": "shell"},
        {"type": ["train"]},
        {"querier": None},
        {"querier": "a" * 257},
        {"computing_parties": "hospital-a"},
        {"computing_parties": [["hospital-a"], "hospital-b"]},
        {"computing_parties": ["a"] * (MAX_COMPUTING_PARTIES + 1)},
        {"datasets": {}},
        {"datasets": ["hospital-a/patients"]},
        {"datasets": [vars(a_dataset()) | {"path": "/etc/passwd"}]},
        {"datasets": [vars(a_dataset())] * (MAX_DATASETS + 1)},
        {"datasets": [vars(a_dataset()) | {"num_rows": "100"}]},
        {"schema": []},
        {"schema": None},
        {"model_ref": "diagnosis@0123456789ab"},
        {"model_ref": {"name": "diagnosis"}},
        {"training": {"epochs": 1}},
        {"training": TRAINING.to_document() | {"epochs": "1"}},
        {"query_rows": "5"},
        {"outputs": ["name", "kind", "recipient"]},
        {"outputs": [["name", "kind", "recipient"]]},
        {"outputs": [{"name": "o", "kind": "weights", "recipient": "alice"}]},
        {"outputs": [{"name": "o", "kind": [], "recipient": "alice"}]},
        {"outputs": [{"name": "o", "kind": "label", "recipient": "alice"}] * (MAX_OUTPUTS + 1)},
        {"created": "2026-03-01"},
        {"created": "2026-3-1T12:00:00Z"},
        {"created": "2026-03-01T12:00:00+00:00"},
        {"created": "\uff12\uff10\uff12\uff16-03-01T12:00:00Z"},
        {"expires": 1_800_000_000},
        {"expires": "9999-99-99T00:00:00Z"},
    ],
)
def test_from_bytes_field_of_a_wrong_type_or_form_is_refused(changes: dict[str, Any]) -> None:
    assert refusal(a_training().to_document() | changes).code is ErrorCode.INVALID_JOB


@pytest.mark.parametrize(
    "model",
    [{}, {"format": "confide.model/1", "layers": []}, MODEL.to_document() | {"code": "x"}],
)
def test_from_bytes_wrong_model_is_refused_as_a_model(model: dict[str, Any]) -> None:
    assert refusal(a_training().to_document() | {"model": model}).code is ErrorCode.INVALID_MODEL


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"a":1.5}', b'{"b":1,"a":2}'])
def test_from_bytes_what_is_no_canonical_document_is_refused(data: bytes) -> None:
    with pytest.raises(ConfideError) as caught:
        Job.from_bytes(data)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
