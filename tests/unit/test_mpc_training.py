"""Joint training, evaluation and inference against plain float64 on real rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from protocols.mpc.query import combine_output, share_query
from protocols.training import Training
from tests.support.jobs import sgd
from tests.support.mpc_world import World, a_job, run_world, stream
from tests.support.plain_training import accuracy, breast_cancer, logistic, train_plain

FEATURES, LABELS = breast_cancer()
OWNERS = {"alpha": 200, "beta": 100, "gamma": 169, "omega": 100}
ZEROS = {"linear.weight": np.zeros((1, 30)), "linear.bias": np.zeros(1)}


def rows_of(job: Job, party: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The party's part of the table, the data sets one after the other."""
    found, start = {}, 0
    for index, dataset in enumerate(job.datasets):
        if dataset.party == party:
            found[index] = (FEATURES[start : start + dataset.num_rows], LABELS[start : start + dataset.num_rows])
        start += dataset.num_rows
    return found


def train(computing: tuple[str, ...], training: Training, owners: dict[str, int], weights: dict[str, np.ndarray]) -> World:
    job = a_job(JobType.TRAIN, features=30, rows=owners, training=training, computing=computing)
    parties = dict.fromkeys((*computing, *owners))
    inputs = {party: LocalInputs(rows=rows_of(job, party), initial_weights=weights) for party in parties}
    return run_world(job, derive_plan(job), inputs)


def opened(world: World, name: str) -> np.ndarray:
    shares = [world.outputs[party].model_share for party in world.plan.computing_parties]
    total = sum(share[name] for share in shares if share is not None)
    return np.asarray(total) / 2.0**24


@dataclass
class Trained:
    world: World
    training: Training

    @property
    def weight(self) -> np.ndarray:
        return opened(self.world, "linear.weight")

    @property
    def bias(self) -> np.ndarray:
        return opened(self.world, "linear.bias")


@pytest.fixture(scope="module", params=[("alpha", "beta"), ("alpha", "omega", "beta")], ids=["2 parties", "3 parties"])
def trained(request: pytest.FixtureRequest) -> Trained:
    """A joint model of all rows."""
    training = sgd(5, 64, "1", "0.9")
    return Trained(train(request.param, training, OWNERS, ZEROS), training)


def test_joint_training_is_as_accurate_as_plain_training(trained: Trained) -> None:
    weight, bias = train_plain(FEATURES, LABELS, trained.training, ZEROS["linear.weight"], ZEROS["linear.bias"])
    plain = accuracy(FEATURES, LABELS, weight, bias)
    assert plain > 0.95
    assert abs(accuracy(FEATURES, LABELS, trained.weight, trained.bias) - plain) <= 0.01


def test_only_computing_parties_hold_the_model(trained: Trained) -> None:
    holders = {party for party, outputs in trained.world.outputs.items() if outputs.model_share is not None}
    assert holders == set(trained.world.plan.computing_parties)
    assert all(outputs.output_shares is None for outputs in trained.world.outputs.values())


@pytest.mark.parametrize(("rows", "momentum", "rate"), [(100, "0.9", "0.7"), (64, "0", "0.25"), (569, "0.5", "1.9")])
def test_single_step_is_within_its_derived_bound(rows: int, momentum: str, rate: str) -> None:
    training = sgd(1, rows, rate, momentum)
    generator = np.random.default_rng(5)
    start = {
        "linear.weight": np.rint(generator.uniform(-1, 1, (1, 30)) * 2**20) / 2**20,
        "linear.bias": np.rint(generator.uniform(-1, 1, 1) * 2**20) / 2**20,
    }
    world = train(("alpha", "beta"), training, {"alpha": rows}, start)
    weight, bias = train_plain(FEATURES[:rows], LABELS[:rows], training, start["linear.weight"], start["linear.bias"])
    # Features are off by 2^-17 each, so logits by 2^-17 sum |w| and probabilities by a quarter of that, plus the sigmoid's
    # own error; a batch that is no power of two beyond 128 rows adds one unit of 2^-16 from settling.
    probability = 2.0**-17 * np.abs(start["linear.weight"]).sum() / 4 + MAX_ERROR
    # The gradient is the mean of x (p - y): both factors are at most 1 and x is off by 2^-17.
    gradient = probability + 2.0**-17
    # The rate over the batch size is cut to 16 bits; two truncated terms are off by one unit each.
    step = float(rate) * (gradient + 2.0**-16) + 2 * 2.0**-24
    assert np.abs(opened(world, "linear.weight") - weight).max() <= step
    assert np.abs(opened(world, "linear.bias") - bias).max() <= step


def serve(trained: Trained, kind: OutputKind, rows: int) -> tuple[World, np.ndarray]:
    computing = trained.world.plan.computing_parties
    shares = {party: trained.world.outputs[party].model_share for party in computing}
    if kind is OutputKind.CORRECT_COUNT:
        job = a_job(JobType.EVALUATE, features=30, rows=OWNERS, computing=computing)
        parties = dict.fromkeys((*computing, *OWNERS))
        inputs = {p: LocalInputs(rows=rows_of(job, p), model_share=shares.get(p)) for p in parties}
    else:
        job = a_job(JobType.INFER, features=30, query_rows=rows, computing=computing, output=kind)
        query = share_query(FEATURES[:rows], num_parties=len(computing), source=stream("query"))
        inputs = {p: LocalInputs(model_share=shares[p], query_share=q) for p, q in zip(computing, query, strict=True)}
    world = run_world(job, derive_plan(job), inputs)
    mine = [world.outputs[party].output_shares for party in computing]
    parts = [share["answer"] for share in mine if share is not None]
    return world, combine_output(parts, output=job.outputs[0], scale_bits=world.plan.outputs[0].scale_bits)


def test_evaluation_counts_exactly(trained: Trained) -> None:
    _, count = serve(trained, OutputKind.CORRECT_COUNT, 0)
    encoded = np.rint(FEATURES * 2**16) / 2**16
    assert int(count[0]) == round(accuracy(encoded, LABELS, trained.weight, trained.bias) * len(LABELS))


def test_inferred_labels_are_those_of_the_model(trained: Trained) -> None:
    world, labels = serve(trained, OutputKind.LABEL, 40)
    encoded = np.rint(FEATURES[:40] * 2**16) / 2**16
    assert np.array_equal(labels, ((encoded @ trained.weight.T + trained.bias)[:, 0] >= 0).astype(np.int64))
    assert all(outputs.model_share is None for outputs in world.outputs.values())


def test_inferred_probabilities_are_within_the_sigmoid_s_error(trained: Trained) -> None:
    _, probabilities = serve(trained, OutputKind.PROBABILITY, 40)
    encoded = np.rint(FEATURES[:40] * 2**16) / 2**16
    expected = logistic((encoded @ trained.weight.T + trained.bias)[:, 0])
    assert np.abs(probabilities - expected).max() <= MAX_ERROR


def test_query_with_wrong_values_names_their_positions() -> None:
    samples = FEATURES[:3].copy()
    samples[1, 4], samples[2, 0] = np.nan, 7.5
    with pytest.raises(ConfideError) as caught:
        share_query(samples, num_parties=2, source=stream("query"))
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert [problem.where for problem in caught.value.problems] == ["position 1, 4", "position 2, 0"]
    assert "7.5" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "scale_bits", "value"),
    [
        (OutputKind.LABEL, 0, 64),
        (OutputKind.LABEL, 0, -1),
        (OutputKind.PROBABILITY, 16, 1 << 17),
        (OutputKind.CORRECT_COUNT, 16, 12345),
        (OutputKind.CONFUSION, 16, 1 << 16),
        (OutputKind.ROC_AUC, 16, 1 << 17),
        (OutputKind.LOG_LOSS, 16, -(1 << 15)),
        (OutputKind.SQUARED_ERROR, 16, -(1 << 16)),
        (OutputKind.VALUE, 16, 1 << 37),
    ],
)
def test_shares_of_no_possible_output_are_refused(kind: OutputKind, scale_bits: int, value: int) -> None:
    with pytest.raises(ConfideError) as caught:
        combine_output([np.array([value - 99]), np.array([99])], output=Output("answer", kind, "alice"), scale_bits=scale_bits)
    assert caught.value.code is ErrorCode.BAD_FRAME
