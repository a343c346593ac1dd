"""A private training on shares at real parties: rows or columns at three hospitals, then an evaluation of what was kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from parties import harness
from parties.alignment_secrets import AlignBy, make_alignment_secret
from parties.client.asked_outputs import COUNT_OUTPUT
from parties.client.client import PreparedJob
from parties.client.prepare import prepare_job
from parties.client.requests import EvaluateRequest, TrainingRequest, TrainRequest
from parties.registration import register_dataset
from privacy.preparation.contract import OnViolation
from protocols.model import reference
from protocols.private_training import PrivateTraining
from tests.support.private_training import terms
from tests.support.shares import open_model
from tests.support.tables import EXAMPLES
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, LEAD, MODEL, Completed, Split, Trial, scaled

pytestmark = pytest.mark.multiparty

NOMINAL = 420
TRAINING = TrainingRequest(epochs=30, batch_size=NOMINAL, learning_rate="8")
TERMS = terms(NOMINAL, noise_multiplier="2", epsilon="20", delta="0.0001")
# Of the rows held out. Over 60 seeds the twin's models are right on 0.889 with deviation 0.012: nearly five of them below.
LEAST_ACCURACY = 0.83
FIRST, OTHER = LEAD, DEALER
SCHEMAS = {FIRST: EXAMPLES / "breast_cancer_columns_a_schema.yaml", OTHER: EXAMPLES / "breast_cancer_columns_b_schema.yaml"}
COMMON = {"api_version": "confide/v1", "computing_parties": COMPUTING, "dealer": DEALER, "partition": "columns"}


def private(prepared: PreparedJob, privacy: PrivateTraining) -> PreparedJob:
    """The prepared training with these terms."""
    training = prepared.job.training
    assert training is not None
    return replace(prepared, job=replace(prepared.job, training=replace(training, privacy=privacy)))


def accuracy(trial: Trial, completed: Completed, frame: pd.DataFrame) -> float:
    features, labels = scaled(frame)
    return reference.accuracy(MODEL, open_model(trial, completed.job), features, labels)


def assert_evaluates(trial: Trial, completed: Completed, evaluation: PreparedJob, frame: pd.DataFrame) -> None:
    """What the parties count is what the model, opened by the test alone, gets right."""
    evaluated = trial.complete(evaluation)
    correct = int(trial.client.result(evaluated.job)[COUNT_OUTPUT][0])
    features, labels = scaled(frame)
    model = open_model(trial, completed.job)
    exact = round(reference.accuracy(MODEL, model, features, labels) * len(labels))
    # Rows whose logit is within the features' encoding of zero may fall on either side; wrong rows below the cell are not told.
    unsure = int((np.abs(reference.logits(MODEL, model, features)[:, 0]) < 1e-2).sum())
    least = evaluated.job.outputs[0].min_cell
    told = exact if len(labels) - exact >= least else len(labels)
    assert abs(correct - told) <= unsure


def test_private_model_of_rows_is_accurate_and_evaluates(trial: Trial, split: Split) -> None:
    completed = trial.plan_and_complete(private(trial.train(TRAINING, model_name="private-rows"), TERMS))
    assert completed.plan.revealed_bits == 0
    sent = {party: said.payload_bytes for party, said in trial.progress(completed.job).items()}
    assert sent == {party: completed.plan.sent_bytes(party) for party in sent}
    holdout = pd.concat(split.holdout.values())
    assert accuracy(trial, completed, holdout) > LEAST_ACCURACY
    assert_evaluates(trial, completed, trial.evaluate(completed.model), pd.concat(split.holdout[party] for party in HOSPITALS))


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
        align_by=AlignBy(secret, "private-trial"),
        population="held-out" if name.endswith("holdout") else "trained-on",
    )
    harness.permit(trial.network.party(party).config, record)


def test_private_model_of_columns_is_accurate_and_evaluates(trial: Trial, split: Split) -> None:
    secret = trial.folder / "private-alignment.key"
    make_alignment_secret(secret)
    train, holdout = pd.concat(split.train.values()), pd.concat(split.holdout.values())
    for party in (FIRST, OTHER):
        register(trial, party, "private-columns", train, secret)
        register(trial, party, "private-columns-holdout", holdout, secret)
    fields = {"type": "train", "model_name": "private-columns", "manifest": "model.json", "weights": "model.safetensors"}
    names = [f"{FIRST}/private-columns", f"{OTHER}/private-columns"]
    request = TrainRequest.model_validate(COMMON | fields | {"datasets": names, "training": TRAINING})
    prepared = prepare_job(trial.client, request, folder=trial.folder, now=datetime.now(UTC))
    completed = trial.plan_and_complete(private(prepared, TERMS))
    assert accuracy(trial, completed, holdout) > LEAST_ACCURACY
    held_out = [f"{name}-holdout" for name in names]
    evaluation = EvaluateRequest.model_validate(COMMON | {"type": "evaluate", "datasets": held_out, "model": completed.model})
    assert_evaluates(trial, completed, prepare_job(trial.client, evaluation, folder=trial.folder, now=datetime.now(UTC)), holdout)
