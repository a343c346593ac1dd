"""What a training leaves behind: sealed shares that only together are a model, and where they come from."""

from __future__ import annotations

import numpy as np
import pytest

from parties.storage.sealed import Purpose
from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from tests.support.shares import combined_model, model_record, model_share, model_share_bytes, open_model, reference_weights
from tests.support.trial import COMPUTING, DEALER, LEAD, SECOND, SHORT_TRAINING, Completed, Split, Trial

pytestmark = pytest.mark.multiparty

# A uniform ring element is below this with probability 2^-23; every encoded weight is.
SMALL = 2**40


def test_sealed_shares_combine_to_the_reference_model_s_weights(trial: Trial, trained: Completed, split: Split) -> None:
    joint, plain = open_model(trial, trained.job), reference_weights(trained.job, split)
    training = trained.job.training
    assert training is not None
    steps = training.epochs * -(-trained.job.num_rows // training.batch_size)
    # One step's gradient is off by a quarter of the logit's error and the sigmoid's own, plus half a unit of the features
    # (tests/unit/test_mpc_training.py). Gradient steps on a convex loss do not drive two paths apart, so errors at most add
    # up; momentum m counts each up to 1 / (1 - m) times.
    per_step = np.abs(plain["linear.weight"]).sum() * 2.0**-19 + MAX_ERROR + 2.0**-17 + 2.0**-16
    bound = steps * float(training.optimiser.learning_rate) / (1 - float(training.optimiser.momentum)) * per_step
    assert set(plain) < set(joint)  # the optimiser's state is kept beside the weights
    for name, values in plain.items():
        assert np.abs(joint[name] - values).max() <= bound, name
    assert np.abs(plain["linear.weight"]).max() > 10 * bound, "the bound says nothing"


def test_retraining_same_job_settings_gives_unrelated_shares(trial: Trial, trained: Completed) -> None:
    first = trial.complete(trial.train(SHORT_TRAINING, model_name="again")).job
    second = trial.complete(trial.train(SHORT_TRAINING, model_name="again")).job
    for party in COMPUTING:
        mine = [model_share(trial, party, job) for job in (first, second)]
        for name in mine[0]:
            difference = mine[0][name] - mine[1][name]
            assert (np.abs(difference.astype(np.float64)) > SMALL).any(), (party, name)
            assert not np.intersect1d(mine[0][name], mine[1][name]).size


def test_one_share_alone_is_no_small_number(trial: Trial, trained: Completed) -> None:
    weights = np.concatenate([v.reshape(-1) for v in combined_model(trial, trained.job).values()])
    assert (np.abs(weights) < SMALL).all()
    for party in COMPUTING:
        share = np.concatenate([v.reshape(-1) for v in model_share(trial, party, trained.job).values()])
        assert (np.abs(share.astype(np.float64)) > SMALL).mean() > 0.9, party


def test_sealed_file_holds_nothing_of_the_share(trial: Trial, trained: Completed) -> None:
    for party in COMPUTING:
        record = model_record(trial, party, trained.job)
        stored = (trial.network.party(party).config.folder.sealed_folder / record.sealed_name).read_bytes()
        share = model_share_bytes(trial, party, trained.job)
        assert len(share) > 31 * 8
        assert not any(share[at : at + 8] in stored for at in range(len(share) - 8))


def test_sealed_file_under_another_party_s_key_does_not_open(trial: Trial, trained: Completed) -> None:
    record = model_record(trial, LEAD, trained.job)
    stored = (trial.network.party(LEAD).config.folder.sealed_folder / record.sealed_name).read_bytes()
    folder = trial.network.party(SECOND).config.folder
    copy = folder.sealed_folder / record.sealed_name
    copy.write_bytes(stored)
    copy.chmod(0o600)
    try:
        with pytest.raises(ConfideError) as caught:
            folder.open_sealed().read(Purpose.MODEL_SHARE, record.object_id, record.sealed_name)
    finally:
        copy.unlink()
    assert caught.value.code is ErrorCode.STATE_DAMAGED


def test_lineage_names_job_plan_and_every_commitment(trial: Trial, trained: Completed) -> None:
    job = trained.job
    digest = trial.client.plan(job).digest
    commitments = {}
    for dataset in job.datasets:
        with trial.tables(dataset.party) as tables:
            commitments[f"{dataset.party}/{dataset.name}/{dataset.version}"] = tables.datasets.get(dataset.name).commitment
    for party in COMPUTING:
        record = model_record(trial, party, job)
        assert (record.job_id, record.plan_digest, record.usable) == (job.job_id, digest, True)
        assert dict(record.commitments) == commitments
        (shown,) = [model for model in trial.client.models(party) if model.job_id == job.job_id]
        sources = {f"{s.party}/{s.dataset}": s.commitment for s in shown.sources}
        assert (shown.plan_digest, list(shown.computing_parties), sources) == (digest, COMPUTING, commitments)
    with trial.tables(DEALER) as tables:
        assert tables.models.usable() == ()
