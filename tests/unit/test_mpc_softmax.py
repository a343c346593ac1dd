"""Softmax and its logarithm against float64, for few and many classes, equal and far-apart logits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax as true_log_softmax
from scipy.special import logsumexp as true_log_sum_exp
from scipy.special import softmax as true_softmax

from protocols.errors import ConfideError
from protocols.mpc.primitives import exponential, logarithm, reciprocal
from protocols.mpc.primitives import softmax as module
from protocols.mpc.primitives.normalisation import WEIGHT_BITS
from protocols.mpc.primitives.softmax import MAX_ERROR, MAX_LOG_ERROR, log_softmax, log_sum_exp, softmax
from tests.support.mpc_world import run_protocol, split
from tests.support.series_errors import rounding_of

CASES = pytest.mark.parametrize(
    ("num_parties", "classes", "scale_bits"),
    [(2, 2, 16), (3, 3, 40), (5, 4, 16), (2, 10, 40), (3, 16, 0), (2, 17, 24), (2, 64, 16)],
)


def logits(classes: int, scale_bits: int) -> np.ndarray:
    """Ring numbers: random rows of several spreads, equal rows, one class far ahead, gaps as large as the domain allows."""
    rng = np.random.default_rng(classes)
    rows = rng.normal(size=(60, classes)) * np.repeat([0.1, 1, 5, 30], 15)[:, None]
    elements = np.rint(rows * 2.0**scale_bits).astype(np.int64)
    elements[0] = 0
    elements[1] = -7 << scale_bits
    elements[2] = 0
    elements[2, -1] = 12 << scale_bits
    elements[3] = -(2**61)
    elements[3, 0] = 2**61 - 1
    return elements


def test_stated_errors_follow_from_the_parts() -> None:
    unit = 2.0**-module.RESULT_BITS
    relative = 2.0**-22.2 + rounding_of(reciprocal.SERIES, WEIGHT_BITS) + 2.0**-module.RECIPROCAL_BITS
    # The sum is at least 1 and off by as many errors as there are classes.
    total = module.MAX_CLASSES * exponential.MAX_FINE_ERROR
    assert unit + exponential.MAX_FINE_ERROR + total + relative <= MAX_ERROR
    assert 2 * unit + total + logarithm.SERIES_ERROR <= MAX_LOG_ERROR


@CASES
def test_softmax_keeps_its_error_and_rows_sum_to_one(num_parties: int, classes: int, scale_bits: int) -> None:
    elements = logits(classes, scale_bits)
    run = run_protocol(lambda engine, mine: softmax(engine, mine[0], scale_bits), [[s] for s in split(elements, num_parties)])
    result = run.value / 2.0**16
    assert np.abs(result - true_softmax(elements / 2.0**scale_bits, axis=1)).max() <= MAX_ERROR
    assert np.abs(result.sum(axis=1) - 1).max() <= (classes + 1) * 2.0**-16
    assert run.rounds == (12 if classes <= 16 else 22)


@CASES
def test_logarithm_of_softmax_keeps_its_error(num_parties: int, classes: int, scale_bits: int) -> None:
    # Gaps as large as the ring need not fit at 16 fractional bits.
    elements = np.clip(logits(classes, scale_bits), -(2**44) << min(scale_bits, 16), (2**44) << min(scale_bits, 16))
    true = true_log_softmax(elements / 2.0**scale_bits, axis=1)
    shares = [[s] for s in split(elements, num_parties)]
    run = run_protocol(lambda engine, mine: log_softmax(engine, mine[0], scale_bits), shares)
    assert np.abs(run.value / 2.0**16 - true).max() <= MAX_LOG_ERROR
    assert run.rounds == (15 if classes <= 16 else 21)


@CASES
def test_logarithm_of_a_sum_of_exponentials_keeps_its_error(num_parties: int, classes: int, scale_bits: int) -> None:
    elements = np.clip(logits(classes, scale_bits), -(2**44) << min(scale_bits, 16), (2**44) << min(scale_bits, 16))
    shares = [[s] for s in split(elements, num_parties)]
    run = run_protocol(lambda engine, mine: log_sum_exp(engine, mine[0], scale_bits), shares)
    assert np.abs(run.value / 2.0**16 - true_log_sum_exp(elements / 2.0**scale_bits, axis=1)).max() <= MAX_LOG_ERROR


@pytest.mark.parametrize("shape", [(3, 1), (3, 65), (4,)])
def test_softmax_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfideError):
        run_protocol(lambda engine, mine: softmax(engine, mine[0], 16), [[np.zeros(shape, np.int64)]] * 2)
