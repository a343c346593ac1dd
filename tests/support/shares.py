"""What all computing parties together could open: only a test holds every storage key."""

from __future__ import annotations

import numpy as np

from parties.arrays import arrays_from_bytes
from parties.storage.models import ModelRecord
from parties.storage.sealed import Purpose
from protocols.fixed_point import PARAMETER_BITS, decode
from protocols.job import Job
from protocols.model import reference
from protocols.mpc.row_order import row_order
from protocols.ring import RingArray
from protocols.sharing import combine_additive
from tests.support.trial import MODEL, ZEROS, Split, Trial, scaled


def model_record(trial: Trial, party: str, job: Job) -> ModelRecord:
    """What a party keeps of the model that a job produced."""
    if job.produced_model is None:
        raise AssertionError("the job produces no model")
    with trial.tables(party) as tables:
        return tables.models.get(job.produced_model)


def model_share_bytes(trial: Trial, party: str, job: Job) -> bytes:
    """One party's share of a model, unsealed."""
    record = model_record(trial, party, job)
    sealed = trial.network.party(party).config.folder.open_sealed()
    return sealed.read(Purpose.MODEL_SHARE, record.object_id, record.sealed_name)


def model_share(trial: Trial, party: str, job: Job) -> dict[str, RingArray]:
    """One party's share of every parameter."""
    return arrays_from_bytes(model_share_bytes(trial, party, job))


def combined_model(trial: Trial, job: Job) -> dict[str, RingArray]:
    """The ring elements that the shares of all computing parties combine to."""
    shares = [model_share(trial, party, job) for party in job.computing_parties]
    return {name: combine_additive([share[name] for share in shares]) for name in shares[0]}


def open_model(trial: Trial, job: Job) -> dict[str, np.ndarray]:
    """The weights, which nobody but a test may open."""
    return {name: decode(values, scale_bits=PARAMETER_BITS) for name, values in combined_model(trial, job).items()}


def reference_weights(job: Job, split: Split) -> dict[str, np.ndarray]:
    """What plain float64 training arrives at with the job's settings and row order."""
    training = job.training
    if training is None:
        raise AssertionError("not a training job")
    rows = [scaled(split.train[dataset.party]) for dataset in job.datasets]
    features, labels = np.concatenate([f for f, _ in rows]), np.concatenate([truth for _, truth in rows])
    order = row_order(training.shuffle_seed, len(labels))
    return reference.train(MODEL, ZEROS, features, labels, training=training, order=order)
