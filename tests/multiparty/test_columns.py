"""Different columns of the same patients at two hospitals, the labels at one: registered, trained on, evaluated, predicted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from parties import harness
from parties.alignment_secrets import AlignBy, make_alignment_secret
from parties.client.asked_outputs import COUNT_OUTPUT, PREDICTION_OUTPUT
from parties.client.prepare import prepare_job
from parties.client.requests import EvaluateRequest, TrainingRequest, TrainRequest
from parties.registration import register_dataset
from privacy.preparation.contract import OnViolation
from protocols.errors import ConfideError, ErrorCode
from protocols.model import reference
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from protocols.mpc.row_order import row_order
from tests.support.shares import open_model
from tests.support.tables import EXAMPLES, breast_cancer_schema
from tests.support.trial import COMPUTING, DEALER, LEAD, MODEL, ZEROS, Completed, Split, Trial, scaled

pytestmark = pytest.mark.multiparty

FIRST, OTHER = LEAD, DEALER  # the other hospital does not compute: it deals
SCHEMAS = {FIRST: EXAMPLES / "breast_cancer_columns_a_schema.yaml", OTHER: EXAMPLES / "breast_cancer_columns_b_schema.yaml"}
COMMON = {"api_version": "confide/v1", "computing_parties": COMPUTING, "dealer": DEALER, "partition": "columns"}
TRAINING = TrainingRequest(epochs=3, batch_size=96, learning_rate="0.5", momentum="0.9")


@dataclass(frozen=True)
class Patients:
    """All columns of the patients to train on, and of those to evaluate on."""

    train: pd.DataFrame
    holdout: pd.DataFrame


def register(trial: Trial, party: str, name: str, frame: pd.DataFrame, secret: Path) -> None:
    columns = [column for column in frame.columns if (column.startswith("mean_") or column == "benign") == (party == FIRST)]
    file = trial.folder / f"{party}-{name}.csv"
    frame[columns].assign(patient_id=frame.index).to_csv(file, index=False)
    record = register_dataset(
        trial.network.party(party).config,
        name=name,
        file=file,
        schema_file=SCHEMAS[party],
        on_violation=OnViolation.REFUSE,
        now=datetime.now(UTC),
        align_by=AlignBy(secret, "trial"),
        population="held-out" if name.endswith("holdout") else "trained-on",
    )
    harness.permit(trial.network.party(party).config, record)


@pytest.fixture(scope="module")
def patients(trial: Trial, split: Split) -> Patients:
    """Registered at both hospitals, in one order; their rows have another order at the other than in the whole table."""
    secret = trial.folder / "alignment.key"
    make_alignment_secret(secret)
    found = Patients(pd.concat(split.train.values()), pd.concat(split.holdout.values()))
    for party in (FIRST, OTHER):
        register(trial, party, "columns", found.train, secret)
        register(trial, party, "columns-holdout", found.holdout, secret)
    register(trial, OTHER, "columns-shuffled", found.train.sample(frac=1.0, random_state=1), secret)
    return found


def a_training(first: str, other: str) -> TrainRequest:
    fields = {"type": "train", "model_name": "columns", "manifest": "model.json", "weights": "model.safetensors"}
    return TrainRequest.model_validate(COMMON | fields | {"datasets": [first, other], "training": TRAINING})


@pytest.fixture(scope="module")
def columns(trial: Trial, patients: Patients) -> Completed:
    """A model that was trained on the columns of both."""
    request = a_training(f"{FIRST}/columns", f"{OTHER}/columns")
    return trial.plan_and_complete(prepare_job(trial.client, request, folder=trial.folder, now=datetime.now(UTC)))


def test_model_of_columns_is_that_of_the_patients_in_one_hand(trial: Trial, columns: Completed, patients: Patients) -> None:
    job = columns.job
    features, labels = scaled(patients.train)
    assert (job.num_rows, job.schema["name"]) == (len(labels), "breast-cancer-means-breast-cancer-others")
    training = job.training
    assert training is not None
    order = row_order(training.shuffle_seed, len(labels))
    pooled = reference.train(MODEL, ZEROS, features, labels, training=training, order=order)
    joint = open_model(trial, job)
    # Features are off by 2^-17, so a gradient by this much (test_mpc_training.py derives it). Fifteen steps with momentum 0.9 and
    # rate 0.5 add at most 0.5 * 10 * 15 of such errors, were they all of one sign.
    gradient = 2.0**-17 * np.abs(pooled["linear.weight"]).sum() / 4 + MAX_ERROR + 2 * 2.0**-16
    assert max(np.abs(joint[name] - pooled[name]).max() for name in pooled) < 75 * gradient
    assert max(np.abs(pooled[name]).max() for name in pooled) > 0.2
    sent = {party: said.payload_bytes for party, said in trial.progress(job).items()}
    assert sent == {party: columns.plan.sent_bytes(party) for party in sent}


def test_evaluation_and_inference_take_all_columns(trial: Trial, columns: Completed, patients: Patients, split: Split) -> None:
    holdout = [f"{FIRST}/columns-holdout", f"{OTHER}/columns-holdout"]
    request = EvaluateRequest.model_validate(COMMON | {"type": "evaluate", "datasets": holdout, "model": columns.model})
    evaluated = trial.complete(prepare_job(trial.client, request, folder=trial.folder, now=datetime.now(UTC)))
    correct = int(trial.client.result(evaluated.job)[COUNT_OUTPUT][0])
    features, labels = scaled(patients.holdout)
    joint = open_model(trial, columns.job)
    exact = round(reference.accuracy(MODEL, joint, features, labels) * len(labels))
    # Rows whose logit is within the features' encoding of zero may fall on either side; wrong rows below the cell are not told.
    unsure = int((np.abs(reference.logits(MODEL, joint, features)[:, 0]) < 1e-3).sum())
    least = evaluated.job.outputs[0].min_cell
    told = exact if len(labels) - exact >= least else len(labels)
    assert abs(correct - told) <= unsure
    inferred = trial.complete(trial.infer(columns.model, split.samples))
    labels = trial.client.result(inferred.job)[PREDICTION_OUTPUT]
    logits = reference.logits(MODEL, joint, breast_cancer_schema().scale(split.samples.to_numpy()))[:, 0]
    certain = np.abs(logits) > 1e-3
    assert np.array_equal(labels[certain], (logits >= 0).astype(np.int64)[certain])


def test_other_order_of_patients_or_parts_is_refused_before_anything_is_sent(trial: Trial, columns: Completed) -> None:
    request = a_training(f"{FIRST}/columns", f"{OTHER}/columns-shuffled")
    with pytest.raises(ConfideError) as caught:
        prepare_job(trial.client, request, folder=trial.folder, now=datetime.now(UTC))
    assert caught.value.code is ErrorCode.INVALID_JOB
    assert "its people or their order are not those of" in caught.value.problems[0].what
    fields = {"type": "evaluate", "model": columns.model, "datasets": [f"{OTHER}/columns", f"{FIRST}/columns"]}
    with pytest.raises(ConfideError) as caught:
        prepare_job(trial.client, EvaluateRequest.model_validate(COMMON | fields), folder=trial.folder, now=datetime.now(UTC))
    assert [problem.remedy for problem in caught.value.problems] == [f"write [{FIRST}/columns, {OTHER}/columns]"]
