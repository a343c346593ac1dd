"""Weaknesses of the tensor library as shipped, shown on it, and their absence in ours on the same inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.errors import ConfideError
from protocols.job import JobType
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.primitives.exponential import MAX_ABSOLUTE_ERROR, MAX_RELATIVE_ERROR, exp
from protocols.mpc.primitives.logarithm import SERIES_ERROR, log
from protocols.mpc.primitives.reciprocal import MAX_RELATIVE_ERROR as RECIPROCAL_ERROR
from protocols.mpc.primitives.reciprocal import reciprocal
from protocols.mpc.primitives.softmax import MAX_CLASSES, MAX_ERROR, softmax
from protocols.mpc.primitives.truncation import truncate
from protocols.prg import AesCtrStream
from protocols.secrets import SecretBytes
from protocols.sharing import draw_ring
from tests.support.jobs import sgd
from tests.support.library_weaknesses import AS_SHIPPED, truncate_locally
from tests.support.mpc_world import a_job, run_protocol, run_world, split

UNIT = 2.0**-16


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the library answers."""
    script: Path = tmp_path_factory.mktemp("library") / "as_shipped.py"
    script.write_text(AS_SHIPPED)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def ours(protocol: Any, values: list[float]) -> np.ndarray:
    encoded = np.array([round(value / UNIT) for value in values])
    shares = [[share] for share in split(encoded, 2)]
    return np.asarray(run_protocol(lambda engine, mine: protocol(engine, mine[0], 16), shares).value) * UNIT


def test_library_s_generator_forgets_half_of_its_seed(shipped: dict[str, Any]) -> None:
    assert shipped["drawn"] == shipped["drawn from the low half of the seed"]


def test_our_generator_depends_on_every_bit_of_its_key() -> None:
    key = bytes(range(32))
    drawn = draw_ring(AesCtrStream(SecretBytes(key)), (4,))
    for bit in range(256):
        other = (int.from_bytes(key, "big") ^ (1 << bit)).to_bytes(32, "big")
        assert not np.array_equal(draw_ring(AesCtrStream(SecretBytes(other)), (4,)), drawn)


def test_library_s_reciprocal_and_logarithm_are_wrong_from_300_on_and_ours_are_not(shipped: dict[str, Any]) -> None:
    values = np.array([300.0, 1000.0])
    assert (np.abs(np.array(shipped["reciprocal"]) * values - 1) > 0.1).all()
    assert (np.abs(np.array(shipped["log"]) - np.log(values)) > 0.1).all()
    assert np.abs(ours(reciprocal, [300.0, 1000.0]) - 1 / values).max() <= RECIPROCAL_ERROR + UNIT
    assert np.abs(ours(log, [300.0, 1000.0]) - np.log(values)).max() <= SERIES_ERROR + UNIT


def test_library_s_exponential_is_off_by_percents_from_8_on_and_ours_is_not(shipped: dict[str, Any]) -> None:
    true = np.exp([8.0, 10.0])
    assert (np.abs(np.array(shipped["exp"]) / true - 1) > 0.02).all()
    assert (np.abs(ours(exp, [8.0, 10.0]) - true) <= MAX_ABSOLUTE_ERROR + MAX_RELATIVE_ERROR * true).all()


def test_library_s_softmax_of_256_equal_logits_is_garbage_and_ours_is_right_or_refused(
    shipped: dict[str, Any],
) -> None:
    assert (np.abs(np.array(shipped["softmax"]) * 256 - 1) > 0.5).all()
    shares = [[share] for share in split(np.zeros((1, MAX_CLASSES), np.int64), 2)]
    found = run_protocol(lambda engine, mine: softmax(engine, mine[0], 16), shares).value * UNIT
    assert np.abs(found - 1 / MAX_CLASSES).max() <= MAX_ERROR
    with pytest.raises(ConfideError, match="a softmax of shape"):
        run_protocol(lambda engine, mine: softmax(engine, mine[0], 16), [[np.zeros((1, 256), np.int64)]] * 2)


def test_library_encodes_what_is_no_number(shipped: dict[str, Any]) -> None:
    # Ours refuses it at every entrance: tests/unit/test_mpc_oracles_refusals.py.
    assert shipped["encoded"] == [-(2**63), -(2**63)]


def test_local_truncation_fails_for_large_values_and_ours_does_not() -> None:
    # P(failure) = |x| / 2^64 = 1/8 for 2^61, each by 2^(64 - shift): of 4,000 at least 400, with 5 standard deviations to spare.
    values = np.full(4_000, 2**61)
    shares = split(values, 2)
    wrong = np.abs(sum(truncate_locally(shares, 16)) - (values >> 16))
    assert (wrong > 2**47).sum() > 395
    run = run_protocol(lambda engine, mine: truncate(engine, mine[0], 16), [[share] for share in shares])
    error = run.value - (values >> 16)
    assert 0 <= error.min() <= error.max() <= 1


def test_dealer_is_asked_for_nothing_and_hears_nothing() -> None:
    # The library's server does whatever method a message names; ours reads no message at all.
    job = a_job(JobType.TRAIN, rows={"alpha": 8}, training=sgd(2, 8, "0.5"))
    generator = np.random.default_rng(1)
    rows = {0: (generator.uniform(-1, 1, (8, 4)), np.array([0.0, 1.0] * 4))}
    weights = {spec.name: np.zeros(spec.shape) for spec in job.model.parameters}
    inputs = {name: LocalInputs(rows=rows if name == "alpha" else {}, initial_weights=weights) for name in ("alpha", "beta")}
    world = run_world(job, derive_plan(job), inputs)
    assert [world.links[party]["gamma"].log for party in ("alpha", "beta")] == [[], []]
    assert world.links["gamma"]["beta"].log != []
