"""The sigmoid's worst error over a dense grid, and sines that are the same to the bit."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from protocols.errors import ConfideError
from protocols.mpc.primitives.sigmoid import (
    COEFFICIENTS,
    HARMONICS,
    LIMIT,
    MAX_ERROR,
    MAX_SCALE_BITS,
    RESULT_BITS,
    SERIES,
    sigmoid,
)
from protocols.mpc.waves import cosines, series_weights, sines
from tests.support.mpc_world import run_protocol, split
from tests.support.plain_training import logistic


def test_series_on_its_interval_is_within_its_stated_error() -> None:
    x = np.linspace(-LIMIT, LIMIT, 400_001)
    series = sum(b / 2**24 * np.sin(2 * np.pi * k * x / 64) for b, k in zip(COEFFICIENTS, HARMONICS, strict=True))
    error = np.abs(0.5 + series / 2 - logistic(x)).max()
    # Between grid points the error changes by at most half a step (4e-5) times the derivative's difference, below 1e-3.
    assert error + 4e-5 * 1e-3 <= 7.3e-5
    # Truncation adds up to one unit of 2^-16, the rounding of dealt waves and of public weights 2^-25 for each product.
    rounding = 2.0**-RESULT_BITS + 2 * len(HARMONICS) * 2.0**-24
    assert 7.3e-5 + rounding <= MAX_ERROR
    assert 1 / (1 + np.exp(LIMIT)) <= MAX_ERROR


@pytest.mark.parametrize(("num_parties", "scale_bits"), [(2, 16), (2, 40), (3, 40), (2, MAX_SCALE_BITS)])
def test_sigmoid_over_a_dense_grid_keeps_its_error(num_parties: int, scale_bits: int) -> None:
    x = np.concatenate([np.linspace(-40, 40, 40_001), [-16, 16, -16 - 2**-16, 16 + 2**-16, 31.0, 48.0, 64.0, -1000.0, 1000.0]])
    elements = np.rint(x * 2.0**scale_bits).astype(np.int64)
    run = run_protocol(lambda engine, mine: sigmoid(engine, mine[0], scale_bits), [[s] for s in split(elements, num_parties)])
    assert np.abs(run.value / 2**RESULT_BITS - logistic(elements / 2.0**scale_bits)).max() <= MAX_ERROR
    assert run.rounds == 4


def test_sigmoid_far_outside_is_exactly_zero_or_one() -> None:
    elements = np.array([-1000, -17, 17, 1000, 2**20, -(2**20)]) << 40
    run = run_protocol(lambda engine, mine: sigmoid(engine, mine[0], 40), [[s] for s in split(elements, 2)])
    assert run.value.tolist() == [0, 0, 2**16, 2**16, 2**16, 0]


def test_sigmoid_of_an_unsupported_scale_is_refused() -> None:
    with pytest.raises(ConfideError):
        run_protocol(lambda engine, mine: sigmoid(engine, mine[0], MAX_SCALE_BITS + 1), [[np.zeros(1, np.int64)]] * 2)


def test_waves_agree_with_the_library_s() -> None:
    values = np.random.default_rng(0).integers(-(2**63), 2**63, 5_000)
    turns = (values % 2**46) / 2.0**46
    angles = 2 * np.pi * np.array(HARMONICS)[:, None] * turns[None, :]
    # The angle of the reference is itself rounded: up to 170 radians times 2^-53.
    assert np.abs(sines(values, 46, HARMONICS) - np.sin(angles)).max() < 1e-12 + 200 * 2.0**-53
    assert np.abs(cosines(values, 46, HARMONICS) - np.cos(angles)).max() < 1e-12 + 200 * 2.0**-53


def test_public_weights_are_the_same_to_the_bit_everywhere() -> None:
    # Two parties whose weights differed in one unit would compute garbage; a change of this digest is a new engine version.
    weights = series_weights(SERIES, np.arange(-50_000, 50_000) * 987_654_321, period_bits=46, weight_bits=24)
    assert hashlib.sha256(weights[0].tobytes() + weights[1].tobytes()).hexdigest() == WEIGHTS_DIGEST


WEIGHTS_DIGEST = "c2517fc10552e1a12fd56928c3e34b90ff65b5840f305c32f5e27304f494328d"
