"""What encoding adds to a vector, against SEAL's own encoder and against what follows from symmetry.

Tolerances: a float64 transform of N numbers of size 1 errs by a few times 2^-53, far below 2^-45; the roundings themselves are
of the size 2^-20 and more.
"""

from __future__ import annotations

import numpy as np
import pytest

from protocols.ckks.encoding_errors import constant_encoding_error, encoding_error
from protocols.ckks.engine import Engine
from protocols.ckks.parameters import PARAMETER_SETS
from protocols.ckks.slots import slot_exponents

SET = PARAMETER_SETS["latency-2b"]
SCALE = 2.0**24
FLOAT = 2.0**-45


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(SET)


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, count)


@pytest.mark.parametrize("period", [1, 16, SET.slots])
def test_error_of_a_vector_is_that_of_seals_encoder(engine: Engine, period: int) -> None:
    values = np.tile(drawn(period, 1), SET.slots // period)
    found = engine.decode(engine.encode(values, SET.top_level, SCALE)) - values
    assert np.abs(encoding_error(values, SCALE) - found).max() < FLOAT
    assert np.abs(found).max() > 2.0**-30


def test_error_of_a_constant_is_that_of_seals_encoder(engine: Engine) -> None:
    found = engine.decode(engine.encode_constant(0.3, SET.top_level, SCALE)) - 0.3
    assert np.abs(constant_encoding_error(0.3, SCALE) - found).max() < FLOAT
    assert np.abs(encoding_error(np.full(SET.slots, 0.3), SCALE) - found).max() < FLOAT


def test_error_of_real_numbers_has_twice_the_variance_of_independent_roundings() -> None:
    # Parseval: the mean square over slots is that of N / 2 uniform roundings, times N; their squares deviate by sqrt(4 / 5)
    # relatively, the mean of 4096 by a seventieth: six deviations are 9 %, and half the variance is 50 % less.
    measured = float(np.mean((encoding_error(drawn(SET.slots, 2), SCALE) * SCALE) ** 2))
    assert measured == pytest.approx(SET.ring_degree / 12, rel=0.09)


def test_error_of_a_vector_that_repeats_itself_repeats_and_has_fewer_roundings() -> None:
    period = 256
    found = encoding_error(np.tile(drawn(period, 3), SET.slots // period), SCALE)
    assert np.abs(found - np.tile(found[:period], SET.slots // period)).max() < FLOAT
    # 256 coefficients that are rounded, as above: six deviations of their mean square are a third.
    assert float(np.mean((found * SCALE) ** 2)) == pytest.approx(2 * period / 12, rel=1 / 3)


def test_rotation_moves_the_error_with_the_vector() -> None:
    """Rounding commutes with rotations, which only move coefficients and change their signs."""
    values = drawn(SET.slots, 4)
    moved = encoding_error(np.roll(values, -3), SCALE)
    assert np.abs(moved - np.roll(encoding_error(values, SCALE), -3)).max() < FLOAT


def test_slots_and_their_conjugates_are_all_odd_exponents() -> None:
    exponents = slot_exponents(64)
    assert sorted([*exponents, *(128 - exponents)]) == list(range(1, 128, 2))
