"""Answers with noise between real processes, and a release of weights: not without evidence, and under a licence."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from governance.budget.ledger import Step
from governance.evidence.gate import Verdict
from governance.risk_report import StatedRisk, sign_risk_report
from parties.client.asked_outputs import PREDICTION_OUTPUT
from parties.client.client import PreparedJob
from parties.client.prepare import prepare_job
from parties.client.requests import InferRequest, ReleaseRequest
from parties.evidence import make_evidence
from parties.harness import person_folder
from parties.harness_consent import STEWARD
from parties.released import keep_released, load_released
from privacy.accounting.noisy_answers import spent_by
from privacy.figures import Figure
from privacy.risk.report import ATTACKED_IN_THE_CLEAR, RiskReport
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef, OutputKind
from protocols.model import reference
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, Completed, Split, Trial

pytestmark = pytest.mark.multiparty
ROWS = 25
TPR = "membership.lira.tpr_at_1_percent"
RELEASE = """
release:
  default_class: open
  datasets: {}
  classes:
    open:
      requires_guarantee: false
      requires_utility: false
      max_figures: {membership.lira.tpr_at_1_percent: "0.03"}
      max_age_days: 30
      approvals: null
"""


def asked(trial: Trial, trained: Completed, split: Split, **fields: object) -> PreparedJob:
    base = {"api_version": "confide/v1", "type": "infer", "computing_parties": COMPUTING, "dealer": DEALER}
    request = InferRequest.model_validate(base | {"model": trained.model, "samples": "(in memory)"} | fields)
    samples = split.samples.head(ROWS)
    return prepare_job(trial.client, request, folder=Path(), now=datetime.now(UTC), samples=samples)


def test_mean_with_noise_charges_the_model_and_its_consumer(trial: Trial, trained: Completed, split: Split) -> None:
    plain = trial.complete(asked(trial, trained, split, output="probability"))
    true = float(np.mean(trial.client.result(plain.job)[PREDICTION_OUTPUT]))
    noisy = trial.complete(asked(trial, trained, split, output="mean", noise="0.05", min_cell=20))
    (mean,) = trial.client.result(noisy.job)["mean"]
    assert mean != true
    # Two parties add noise of deviation 0.05 each: eight deviations of their sum.
    assert abs(mean - true) < 8 * 0.05 * np.sqrt(2)
    output = noisy.job.outputs[0]
    assert (output.kind, output.noise_colluders) == (OutputKind.MEAN, len(COMPUTING) - 1)
    spent = spent_by(noisy.job, output)
    for party in COMPUTING:
        with trial.tables(party) as tables:
            entries = [entry for entry in tables.ledger.of_job(noisy.job.job_id) if entry.step is Step.COMMIT]
        accounts = {entry.account for entry in entries}
        assert accounts == {f"model/{trained.model}", f"consumer/{noisy.job.querier}/{trained.model}"}
        assert {entry.amount.answers for entry in entries} == {1}
        assert {entry.amount.epsilon for entry in entries} == {None if spent is None else spent.epsilon}


def test_labels_of_samples_that_the_model_doubts_are_no_answer(trial: Trial, trained: Completed, split: Split) -> None:
    probabilities = trial.complete(asked(trial, trained, split, output="probability"))
    found = np.asarray(trial.client.result(probabilities.job)[PREDICTION_OUTPUT])
    sure = np.maximum(found, 1 - found)
    bound = float(np.round(np.median(sure), 3))
    labels = trial.complete(asked(trial, trained, split, abstain_below=f"{bound:.3f}"))
    told = np.asarray(trial.client.result(labels.job)[PREDICTION_OUTPUT])
    clear = np.abs(sure - bound) > 1e-3
    assert np.array_equal((told >= 0)[clear], (sure >= bound)[clear])
    assert 0 < (told < 0).sum() < ROWS
    assert np.array_equal(told[(told >= 0) & clear], (found >= 0.5)[(told >= 0) & clear])


def test_labels_of_samples_that_lie_far_from_the_middle_are_no_answer(trial: Trial, trained: Completed, split: Split) -> None:
    plain = trial.complete(asked(trial, trained, split))
    features = plain.features
    assert features is not None
    distances = np.sqrt((features**2).mean(axis=1))
    line = float(np.round(np.median(distances), 3))
    labels = trial.complete(asked(trial, trained, split, abstain_beyond=f"{line:.3f}"))
    told = np.asarray(trial.client.result(labels.job)[PREDICTION_OUTPUT])
    # Each feature is rounded to a multiple of 2^-16: the distance moves by no more.
    clear = np.abs(distances - line) > 2.0**-16
    assert clear.sum() >= ROWS - 1
    assert np.array_equal((told >= 0)[clear], (distances < line)[clear])
    assert 0 < (told < 0).sum() < ROWS
    expected = np.asarray(trial.client.result(plain.job)[PREDICTION_OUTPUT])
    assert np.array_equal(told[told >= 0], expected[told >= 0])


def a_release(trial: Trial, trained: Completed) -> PreparedJob:
    request = ReleaseRequest(
        api_version="confide/v1", type="release", computing_parties=COMPUTING, dealer=DEALER, model=trained.model
    )
    return prepare_job(trial.client, request, folder=Path(), now=datetime.now(UTC))


def risk_reports(trial: Trial, ref: ModelRef) -> list[Path]:
    """What every owner found, signed with its key."""
    paths, now = [], datetime.now(UTC).replace(microsecond=0)
    for owner in HOSPITALS:
        member = trial.network.party(owner).config.folder.member
        found = RiskReport({TPR: Figure(0.01, 0.01, 0.01)}, 50, 50, 64, (), ATTACKED_IN_THE_CLEAR)
        stated = StatedRisk(member.load_directory().consortium, owner, ref, now, (f"{owner}/train/1",), found)
        paths.append(trial.folder / f"risk-{owner}.json")
        paths[-1].write_bytes(sign_risk_report(stated, member.load_signing_key()).to_bytes())
    return paths


def test_weights_are_released_with_evidence_and_a_licence_and_not_without(
    trial: Trial, trained: Completed, split: Split, tmp_path: Path
) -> None:
    prepared = a_release(trial, trained)
    with pytest.raises(ConfideError) as caught:
        trial.client.submit(prepared)
    assert caught.value.code is ErrorCode.EVIDENCE_MISSING
    ref = prepared.job.model_ref
    assert ref is not None
    reports = risk_reports(trial, ref)
    policies = {party: trial.network.party(party).config.policy for party in COMPUTING}
    before = {party: path.read_bytes() for party, path in policies.items()}
    try:
        for party, path in policies.items():
            path.write_bytes(before[party] + RELEASE.encode())
            config = trial.network.party(party).config
            steward, now = person_folder(config, STEWARD), datetime.now(UTC)
            judged = make_evidence(config, steward, ref, risk_reports=reports, utility=(), now=now)
            assert judged.decision.verdict is Verdict.PASS, judged.decision.reasons
        released = a_release(trial, trained)
        plan = trial.client.plan(released.job)
        assert (plan.rounds, plan.payload_bytes) == (0, 0)
        trial.complete(released)
        handed = trial.client.calls.released(released.job)
    finally:
        for party, path in policies.items():
            path.write_bytes(before[party])
    directory = trial.client.directory
    folder = keep_released(tmp_path / "released", released.job, handed, directory)
    use = {"recipient": released.job.querier, "purpose": released.job.purpose, "now": datetime.now(UTC)}
    found = load_released(folder, directory, **use)  # type: ignore[arg-type]
    assert set(found.licence.commitments) == set(COMPUTING)
    with pytest.raises(ConfideError) as caught:
        load_released(folder, directory, **use | {"purpose": "marketing"})  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.LICENCE_REFUSED
    # The weights are those of the model: they predict what the parties predict in shares.
    asked_in_shares = trial.complete(asked(trial, trained, split, output="score"))
    scores = np.asarray(trial.client.result(asked_in_shares.job)[PREDICTION_OUTPUT])
    features = asked_in_shares.features
    assert features is not None
    plain = reference.logits(found.model, {name: array.astype(float) for name, array in found.weights.items()}, features)
    # Rows, products and their sum are off by a unit of 2^-16 each; 30 features.
    np.testing.assert_allclose(scores, plain[:, 0], atol=32 * 2.0**-16, rtol=0)
