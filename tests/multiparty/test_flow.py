"""The whole flow with real processes: training, evaluation and inference, and what every party shows of it."""

from __future__ import annotations

import numpy as np
import pytest

from governance.documents import SignedDocument
from parties.client.asked_outputs import COUNT_OUTPUT, PREDICTION_OUTPUT
from parties.client.client import Client
from parties.client.training_request import SgdRequest, TrainingRequest
from protocols.errors import ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.model import reference
from protocols.session.states import State
from tests.support.shares import open_model, reference_weights
from tests.support.tables import breast_cancer_schema
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, MODEL, Completed, Split, Trial, scaled

pytestmark = pytest.mark.multiparty

ACCURACY_POINTS = 0.01
# A product of rows and weights is truncated once; truncation is off by at most one unit of the result's scale.
TRUNCATION = 2.0**-VALUE_BITS


@pytest.fixture(scope="module")
def evaluated(trial: Trial, trained: Completed) -> Completed:
    return trial.plan_and_complete(trial.evaluate(trained.model))


@pytest.fixture(scope="module")
def inferred(trial: Trial, trained: Completed, split: Split) -> Completed:
    return trial.plan_and_complete(trial.infer(trained.model, split.samples))


@pytest.fixture(params=["train", "evaluate", "infer"])
def completed(request: pytest.FixtureRequest, trained: Completed, evaluated: Completed, inferred: Completed) -> Completed:
    """Each of the three jobs, after its end."""
    return {"train": trained, "evaluate": evaluated, "infer": inferred}[request.param]


def test_completed_job_measured_rounds_and_bytes_are_the_plan_s(trial: Trial, completed: Completed) -> None:
    plan = completed.plan
    said = trial.progress(completed.job)
    computing = {party: said[party].rounds for party in completed.job.computing_parties}
    assert computing == dict.fromkeys(completed.job.computing_parties, plan.rounds)
    assert {party: p.payload_bytes for party, p in said.items()} == {party: plan.sent_bytes(party) for party in said}
    assert sum(p.payload_bytes for p in said.values()) == plan.payload_bytes


def test_completed_job_plan_shown_before_is_the_one_countersigned_by_all(trial: Trial, completed: Completed) -> None:
    digest = completed.plan.digest
    assert {p.plan_digest for p in trial.progress(completed.job).values()} == {digest}
    for party in completed.job.participants:
        with trial.tables(party) as tables:
            signed = tables.jobs.countersignatures(completed.job.job_id)
        assert {record.party: record.plan_digest for record in signed} == dict.fromkeys(completed.job.participants, digest)


def test_completed_job_ending_is_the_same_document_everywhere(trial: Trial, completed: Completed) -> None:
    bodies = set()
    for party in completed.job.participants:
        with trial.tables(party) as tables:
            kept = tables.jobs.ending(completed.job.job_id)
        assert kept is not None
        bodies.add(SignedDocument.from_bytes(kept).body)
    assert len(bodies) == 1
    shown = {str(p.ending.to_document()) for p in trial.progress(completed.job).values() if p.ending is not None}
    assert len(shown) == 1


def test_joint_training_accuracy_is_within_a_point_of_pooled_training(
    trial: Trial, trained: Completed, evaluated: Completed, split: Split
) -> None:
    correct = int(trial.client.result(evaluated.job)[COUNT_OUTPUT][0])
    rows = [scaled(split.holdout[party]) for party in HOSPITALS]
    features, labels = np.concatenate([f for f, _ in rows]), np.concatenate([truth for _, truth in rows])
    pooled = reference.accuracy(MODEL, reference_weights(trained.job, split), features, labels)
    assert pooled > 0.9
    num_rows = evaluated.job.num_rows
    # Fewer wrong rows than the minimum cell are opened as none.
    fewest = num_rows - evaluated.job.outputs[0].min_cell + 1 if correct == num_rows else correct
    assert fewest / num_rows - ACCURACY_POINTS <= pooled <= correct / num_rows + ACCURACY_POINTS


def test_inference_labels_are_the_reference_model_s_outside_the_derived_margin(
    trial: Trial, trained: Completed, inferred: Completed, split: Split
) -> None:
    labels = trial.client.result(inferred.job)[PREDICTION_OUTPUT]
    joint, plain = open_model(trial, trained.job), reference_weights(trained.job, split)
    features = breast_cancer_schema().scale(split.samples.to_numpy())
    logits = reference.logits(MODEL, plain, features)[:, 0]
    # Features lie in [-1, 1], so the two models' logits differ by at most the sum of their weights' differences; a feature is
    # off by half a unit of its encoding, and the product by its truncation.
    apart = sum(np.abs(joint[name] - plain[name]).sum() for name in plain)
    margin = apart + np.abs(joint["linear.weight"]).sum() * 2.0 ** -(VALUE_BITS + 1) + TRUNCATION
    certain = np.abs(logits) > margin
    assert certain.mean() > 0.9, "the margin leaves nothing to compare"
    assert np.array_equal(labels[certain], (logits >= 0).astype(np.int64)[certain])


def test_outputs_are_handed_out_by_computing_parties_alone(trial: Trial, inferred: Completed) -> None:
    for party in HOSPITALS:
        with trial.tables(party) as tables:
            held = [output.recipient for output in tables.outputs.of_job(inferred.job.job_id)]
        assert held == (["researcher"] if party in COMPUTING else []), party


def test_model_is_listed_by_computing_parties_and_not_by_the_dealer(trial: Trial, trained: Completed) -> None:
    def labels(client: Client, party: str) -> set[str]:
        return {f"{model.name}@{model.version}" for model in client.models(party)}

    assert all(trained.model in labels(trial.client, party) for party in COMPUTING)
    assert trained.model not in labels(trial.client, DEALER)


def test_training_that_diverges_ends_alike_everywhere_and_leaves_no_model(trial: Trial) -> None:
    # The decay alone makes every weight minus seven times what it was, at every step.
    optimiser = SgdRequest(kind="sgd", learning_rate="16", weight_decay="0.5")
    prepared = trial.train(TrainingRequest(epochs=9, batch_size=48, optimiser=optimiser), model_name="diverging")
    trial.client.submit(prepared)
    endings = trial.endings(prepared.job)
    assert set(endings) == set(prepared.job.participants)
    diverged = (State.ABORTED, ErrorCode.TRAINING_DIVERGED.name)
    assert {(ending.state, ending.code) for ending in endings.values()} == {diverged}
    assert all("left their declared range" in ending.cause and not ending.at_fault for ending in endings.values())
    for party in COMPUTING:
        with trial.tables(party) as tables:
            assert prepared.job.produced_model not in {record.ref for record in tables.models.usable()}
