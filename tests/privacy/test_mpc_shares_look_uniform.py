"""Everything that is sent, and every share that leaves, has the byte statistics of uniform noise; seeds are fixed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from protocols.job import JobType, OutputKind
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from tests.support.jobs import sgd
from tests.support.memory_links import all_bytes
from tests.support.mpc_world import World, a_job, run_world, split

ROWS = 400
FEATURES = 20


def assert_looks_uniform(data: np.ndarray) -> None:
    """Chi-square over byte values; 1e-6 on either side, with fixed seeds, never fails by chance."""
    assert data.size >= 256 * 20
    counts = np.bincount(data, minlength=256)
    statistic = float(((counts - data.size / 256) ** 2 / (data.size / 256)).sum())
    assert chi2.ppf(1e-6, 255) < statistic < chi2.ppf(1 - 1e-6, 255)


@pytest.fixture(scope="module")
def training() -> World:
    # Constant rows: any structure that leaks would show in every byte.
    rows = {"alpha": ROWS, "gamma": ROWS}
    job = a_job(JobType.TRAIN, features=FEATURES, rows=rows, training=sgd(1, 64, "0.5", "0.9"))
    constant = (np.full((ROWS, FEATURES), 0.5), np.ones(ROWS))
    weights = {spec.name: np.zeros(spec.shape) for spec in job.model.parameters}
    inputs = {"alpha": LocalInputs({0: constant}, weights), "beta": LocalInputs({}, weights), "gamma": LocalInputs({1: constant})}
    return run_world(job, derive_plan(job), inputs)


@pytest.mark.parametrize(("sender", "receiver"), [("alpha", "beta"), ("beta", "alpha"), ("gamma", "beta")])
def test_messages_of_a_training_look_uniform(training: World, sender: str, receiver: str) -> None:
    sent = [array for _, arrays in training.links[sender][receiver].log for array in arrays]
    assert_looks_uniform(all_bytes(sent))


def test_what_is_opened_in_a_training_looks_uniform(training: World) -> None:
    pairs = zip(training.links["alpha"]["beta"].log, training.links["beta"]["alpha"].log, strict=True)
    opened = [a + b if a.dtype == np.int64 else a ^ b for (_, one), (_, two) in pairs for a, b in zip(one, two, strict=True)]
    assert_looks_uniform(all_bytes(opened))


@pytest.mark.parametrize("kind", [OutputKind.LABEL, OutputKind.PROBABILITY])
def test_output_shares_look_uniform(kind: OutputKind) -> None:
    # Equal samples and a zero model: every output is the same, so any structure is the shares' own.
    rows = 2_000
    job = a_job(JobType.INFER, features=2, query_rows=rows, output=kind)
    query = split(np.zeros((rows, 2), np.int64), 2)
    model = {name: split(np.zeros(shape, np.int64), 2) for name, shape in (("linear.weight", (1, 2)), ("linear.bias", (1,)))}
    inputs = {
        party: LocalInputs(model_share={name: shares[i] for name, shares in model.items()}, query_share=query[i])
        for i, party in enumerate(("alpha", "beta"))
    }
    world = run_world(job, derive_plan(job), inputs)
    for party in ("alpha", "beta"):
        shares = world.outputs[party].output_shares
        assert shares is not None
        assert_looks_uniform(all_bytes([shares["answer"]]))
