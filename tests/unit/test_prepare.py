"""From a request to a job: what the parties describe decides task, loss, outputs and where a training goes on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.client.calls import PreparedJob
from parties.client.output_request import USUAL_EDGES
from parties.client.requests import EvaluateRequest, InferRequest, TrainRequest
from privacy.accounting.statement import statement_of
from privacy.preparation.query_commitment import verify_query
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import JobType, ModelRef, Output, OutputKind, Task
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors
from protocols.training import Loss
from tests.support.consent import HOSPITALS, an_agreement
from tests.support.described import BENIGN, COMMON, CONSENT, GRADE, LABEL, STAY, Consortium


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


def test_training_carries_what_is_known_of_its_ranges_and_is_refused_where_it_must_overflow(tmp_path: Path) -> None:
    consortium = Consortium(GRADE)
    width = consortium.spec.output_features
    consortium.spec = ModelSpec.chain(3, first=Linear(900), second=Linear(width))
    (tmp_path / "model.json").write_bytes(canonical_bytes(consortium.spec.to_document()))

    def prepare(weight: float, bias: float) -> PreparedJob:
        values = {
            p.name: np.full(p.shape, bias if p.name.endswith("bias") else weight, np.float32) for p in consortium.spec.parameters
        }
        (tmp_path / "model.safetensors").write_bytes(weights_to_safetensors(values, consortium.spec))
        return consortium.prepare(a_train_request(manifest="model.json", weights="model.safetensors"), tmp_path)

    assert prepare(0.01, 0.0).warnings == ()
    # 900 values of at most 3 * 30, times 30, are 2^21.2
    assert prepare(30.0, 0.0).warnings[0].startswith("second: its result is not proven to stay below 2^20")
    with pytest.raises(ConfideError) as caught:
        prepare(100.0, 500.0)  # at least 900 * 200 * 100
    assert caught.value.code is ErrorCode.INVALID_MODEL
    assert [problem.where for problem in caught.value.problems] == ["second"]
    with pytest.raises(ConfideError) as caught:
        prepare(0.5, 1024.0)
    assert [problem.where for problem in caught.value.problems] == ["first.bias", "second.bias"]


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


def test_evaluation_by_groups_has_their_edges_as_they_are_shared() -> None:
    groups = {"kind": "group_confusion", "group_by": "radius", "group_edges": ["2.5", "7"]}
    fields = {"type": "evaluate", "datasets": ["hospital-a/rows"], "model": LABEL, "outputs": ["reliability", groups]}
    diagram, table = Consortium(BENIGN).prepare(EvaluateRequest.model_validate(COMMON | fields)).job.outputs
    assert (diagram.name, diagram.kind, diagram.group_by) == ("reliability", OutputKind.RELIABILITY, "")
    assert (table.name, table.group_by, table.group_edges) == ("group-confusion", "radius", ("-0.5", "0.4"))
    groups["group_by"] = "weight"
    with pytest.raises(ConfideError, match="grouped") as caught:
        Consortium(BENIGN).prepare(EvaluateRequest.model_validate(COMMON | fields))
    assert caught.value.code is ErrorCode.INVALID_JOB


def test_evaluation_with_noise_bounds_losses_and_splits_scores() -> None:
    asked: list[Any] = ["score_histogram", {"kind": "log_loss", "bound": "3"}]
    fields = {"type": "evaluate", "datasets": ["hospital-a/rows", "hospital-b/rows"], "model": LABEL, "outputs": asked}
    fields |= {"noise": "10", "rows_per_person": 2}

    def outputs(**changes: Any) -> tuple[Output, ...]:
        return Consortium(BENIGN).prepare(EvaluateRequest.model_validate(COMMON | fields | changes)).job.outputs

    histogram, loss = outputs()
    assert (histogram.group_edges, histogram.bound, loss.bound, loss.group_edges) == (USUAL_EDGES, "0", "3", ())
    assert [(each.noise, each.noise_colluders, each.rows_per_person) for each in (histogram, loss)] == [("10", 1, 2)] * 2
    histogram, loss = outputs(outputs=[{"kind": "score_histogram", "edges": ["0.5"]}, "log_loss"])
    assert (histogram.group_edges, loss.bound) == (("0.5",), "5")
    with pytest.raises(ConfideError) as caught:
        outputs(outputs=["roc_auc", "score_histogram"], rows_per_person=1)
    (problem,) = caught.value.problems
    assert (problem.where, "score_histogram" in problem.remedy) == ("outputs.roc-auc.noise", True)


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


def test_inference_carries_its_constraint_and_a_commitment_whose_salt_stays_here() -> None:
    fields = {"type": "infer", "model": LABEL, "samples": "(in memory)", "output": "probability"}
    request = InferRequest.model_validate(COMMON | fields | {"decimals": 2, "top_k": 2, "clip": "0.05"})
    consortium, samples = Consortium(GRADE), np.array([[0.0, 5.0, 10.0]])
    prepared, again = (consortium.prepare(request, samples=samples) for _ in range(2))
    (output,) = prepared.job.outputs
    assert (output.decimals, output.top_k, output.clip) == (2, 2, "0.05")
    assert prepared.features is not None
    assert verify_query(prepared.job.query_commitment or "", prepared.features, salt=prepared.query_salt)
    assert again.job.query_commitment != prepared.job.query_commitment
    assert prepared.query_salt.hex() not in prepared.job.to_bytes().decode()
    assert repr(prepared.query_salt) not in repr(prepared)


def test_inference_with_a_constraint_that_means_nothing_is_refused_before_anything_is_sent() -> None:
    fields = {"type": "infer", "model": LABEL, "samples": "(in memory)", "decimals": 2}
    with pytest.raises(ConfideError, match="means nothing for label") as caught:
        Consortium(BENIGN).prepare(InferRequest.model_validate(COMMON | fields), samples=np.array([[0.0, 5.0, 10.0]]))
    assert caught.value.code is ErrorCode.INVALID_JOB


def test_training_whose_model_does_not_fit_the_rows_is_refused_before_anything_is_sent() -> None:
    consortium = Consortium(GRADE)
    consortium.spec = ModelSpec.chain(2, linear=Linear(4))
    with pytest.raises(ConfideError) as caught:
        consortium.prepare(a_train_request(continues=LABEL))
    assert {problem.what for problem in caught.value.problems} == {
        "4 outputs for the 3 classes of grade",
        "3 feature(s), and the model takes 2",
        "it takes 2 features, the schema has 3",
    }


def an_inference(consortium: Consortium, **fields: Any) -> PreparedJob:
    request = InferRequest.model_validate(COMMON | {"type": "infer", "model": LABEL, "samples": "(in memory)"} | fields)
    return consortium.prepare(request, samples=np.array([[0.0, 5.0, 10.0]]))


def test_request_that_names_no_agreement_is_under_the_one_in_force_for_its_only_purpose() -> None:
    consortium = Consortium(BENIGN)
    job = an_inference(consortium).job
    assert (job.agreement, job.purpose) == (consortium.signed[0].digest, "prognosis")
    assert (job.agree_by - job.created, job.expires - job.created) == (timedelta(minutes=2), timedelta(minutes=30))
    slow = an_inference(consortium, agree_within_minutes=240, expires_in_minutes=120).job
    assert slow.agree_by == slow.expires  # people cannot agree to a job that has expired


def test_request_among_several_agreements_is_under_the_one_that_covers_it() -> None:
    consortium = Consortium(BENIGN)
    consortium.signed.append(CONSENT.signed(an_agreement(name="training", purposes=("training",), job_types=(JobType.TRAIN,))))
    assert an_inference(consortium).job.agreement == consortium.signed[0].digest
    # What is named is taken at its word: whether it covers the job is for the parties to say, with all reasons.
    for named in ("training", consortium.signed[1].digest[:8]):
        job = an_inference(consortium, agreement=named).job
        assert (job.agreement, job.purpose) == (consortium.signed[1].digest, "training")
    assert an_inference(consortium, agreement="ab" * 32, purpose="other").job.agreement == "ab" * 32


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("one party lacks it", ErrorCode.NO_AGREEMENT, "no agreement is in force at hospital-a, hospital-b, hospital-c"),
        ("shown without a signature", ErrorCode.NO_AGREEMENT, "no agreement is in force"),
        ("another name", ErrorCode.NO_AGREEMENT, "no agreement others is in force"),
        ("several purposes", ErrorCode.INVALID_JOB, "several purposes: prognosis, quality"),
        ("two cover", ErrorCode.INVALID_JOB, "several agreements cover the request"),
        ("none of two covers", ErrorCode.NO_AGREEMENT, "none of the agreements covers the request"),
    ],
)
def test_request_without_a_clear_agreement_is_refused_before_anything_is_sent(case: str, code: ErrorCode, words: str) -> None:
    consortium, named = Consortium(BENIGN), {}
    training = {"purposes": ("prognosis",), "job_types": (JobType.TRAIN,)}
    match case:
        case "one party lacks it":
            consortium.in_force_at.remove("hospital-b")
        case "shown without a signature":
            consortium.signed = [CONSENT.signed(an_agreement(), by=HOSPITALS[:2])]
        case "another name":
            named = {"agreement": "others"}
        case "several purposes":
            consortium.signed = [CONSENT.signed(an_agreement())]
        case "two cover":
            consortium.signed.append(CONSENT.signed(an_agreement(name="other", purposes=("prognosis",))))
        case "none of two covers":
            consortium.signed = [CONSENT.signed(an_agreement(name=name, **training)) for name in ("first", "other")]
    with pytest.raises(ConfideError, match=words) as caught:
        an_inference(consortium, **named)
    assert caught.value.code is code


def test_private_training_is_prepared_with_noise_that_keeps_its_limit_and_an_epsilon_that_holds(tmp_path: Path) -> None:
    consortium = Consortium(BENIGN)
    weights = {p.name: np.zeros(p.shape, np.float32) for p in consortium.spec.parameters}
    (tmp_path / "model.json").write_bytes(canonical_bytes(consortium.spec.to_document()))
    (tmp_path / "model.safetensors").write_bytes(weights_to_safetensors(weights, consortium.spec))
    privacy = {"mechanism": "shared_gradients", "colluders": 1, "nominal_rows": 200, "norm_bound": "1", "epsilon": "2"}
    files = {"manifest": "model.json", "weights": "model.safetensors"}

    def prepare(**changes: Any) -> PreparedJob:
        training = {"epochs": 20, "learning_rate": "0.5", "privacy": privacy | changes}
        return consortium.prepare(a_train_request(**files, training=training), tmp_path)

    statement = statement_of(prepare().job)
    assert statement is not None
    assert (statement.epsilon, statement.steps, statement.owners) == ("2", 20, 2)
    assert 0.99 * 2 < float(statement.accounted_epsilon) <= 2
    with pytest.raises(ConfideError) as caught:
        prepare(colluders=2)
    assert "training.privacy.colluders" in [problem.where for problem in caught.value.problems]


def test_private_training_that_goes_on_from_a_model_is_refused() -> None:
    privacy = {"mechanism": "shared_gradients", "colluders": 1, "nominal_rows": 200, "norm_bound": "1", "epsilon": "2"}
    training = {"epochs": 20, "learning_rate": "0.5", "privacy": privacy}
    with pytest.raises(ConfideError) as caught:
        Consortium(BENIGN).prepare(a_train_request(continues=LABEL, training=training))
    assert "model_ref" in [problem.where for problem in caught.value.problems]
