"""The sigmoid's worst error over a dense grid and around its window, and sines that are the same to the bit."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from protocols.errors import ConfideError
from protocols.mpc.material.window import digit_bits
from protocols.mpc.primitives.sigmoid import (
    COEFFICIENTS,
    HARMONICS,
    LIMIT,
    MARGIN,
    MAX_ERROR,
    MAX_SCALE_BITS,
    RESULT_BITS,
    SERIES,
    WAVE_BITS,
    WEIGHT_BITS,
    sigmoid,
)
from protocols.mpc.waves import series_weights
from protocols.plan.operations import Deal
from tests.support.mpc_world import ProtocolRun, run_protocol, split
from tests.support.plain_training import logistic

# Parties, fractional bits, magnitude: the widest and the narrowest range, the least and the most fractional bits.
SHAPES = [
    (2, 16, 36),
    (2, 16, 37),
    (2, 40, 60),
    (3, 40, 60),
    (5, 16, 30),
    (2, MAX_SCALE_BITS, 62),
    (2, 16, 22),
    (2, 16, 17),
    (2, 1, 22),
]


def _run(elements: np.ndarray, scale_bits: int, magnitude_bits: int, *, num_parties: int = 2, seed: int = 7) -> ProtocolRun:
    shares = [[share] for share in split(elements, num_parties, seed)]
    return run_protocol(lambda engine, mine: sigmoid(engine, mine[0], scale_bits, magnitude_bits), shares)


def _error(run: ProtocolRun, elements: np.ndarray, scale_bits: int) -> float:
    return float(np.abs(run.value / 2**RESULT_BITS - logistic(elements / 2.0**scale_bits)).max())


def test_series_and_its_window_are_within_their_stated_error() -> None:
    step = 2.0**-14
    # Where a bound falls is not known, so the series must be good on both sides of it, and so must 0 and 1.
    x = np.arange(-(LIMIT + MARGIN), LIMIT + MARGIN, step)
    series = sum(b / 2**24 * np.sin(2 * np.pi * k * x / 64) for b, k in zip(COEFFICIENTS, HARMONICS, strict=True))
    error = np.abs(0.5 + series / 2 - logistic(x)).max()
    # Between grid points the error changes by at most half a step times the derivatives' difference, below 1e-3.
    assert error + step / 2 * 1e-3 <= 7.4e-5
    # Truncation adds up to one unit of 2^-16; each of 28 products the rounding of a dealt wave, times a coefficient, and of a
    # public weight, half a unit each; and the series is halved.
    coefficients = sum(COEFFICIENTS) / 2**24
    rounding = 2.0**-RESULT_BITS + (2 * coefficients * 2.0**-WAVE_BITS + 2 * len(HARMONICS) * 2.0**-WEIGHT_BITS) / 4
    assert rounding <= 1.8e-5
    assert 7.4e-5 + rounding <= MAX_ERROR
    assert 1 / (1 + np.exp(LIMIT - MARGIN)) <= MAX_ERROR


@pytest.mark.parametrize(("num_parties", "scale_bits", "magnitude_bits"), SHAPES)
def test_sigmoid_over_its_whole_range_keeps_its_error(num_parties: int, scale_bits: int, magnitude_bits: int) -> None:
    top = 2.0 ** (magnitude_bits - scale_bits)
    unit = 2.0**-scale_bits
    borders = [sign * place + off for place in (0, 12, 16, 20, 32, 48, 64, top) for sign in (-1, 1) for off in (-unit, 0, unit)]
    x = np.concatenate([np.linspace(-40, 40, 40_001), np.linspace(-top, top, 5_001), borders])
    elements = np.rint(x[np.abs(x) <= top] * 2.0**scale_bits).astype(np.int64)
    run = _run(elements, scale_bits, magnitude_bits, num_parties=num_parties)
    assert _error(run, elements, scale_bits) <= MAX_ERROR
    far = elements[np.abs(elements) >= (LIMIT + MARGIN) << scale_bits]
    assert np.array_equal(
        run.value[np.abs(elements) >= (LIMIT + MARGIN) << scale_bits], (far > 0).astype(np.int64) << RESULT_BITS
    )
    assert run.rounds == 2


def test_sigmoid_near_its_bounds_keeps_its_error_whatever_the_mask() -> None:
    # Which side of a bound a value falls on is drawn with the mask: 64 masks at values a sixteenth apart.
    elements = np.rint(np.concatenate([np.arange(11, 21, 1 / 16), -np.arange(11, 21, 1 / 16)]) * 2.0**16).astype(np.int64)
    repeated = np.repeat(elements, 64)
    run = _run(repeated, 16, 36)
    assert _error(run, repeated, 16) <= MAX_ERROR
    outside = (run.value == 0) | (run.value == 1 << RESULT_BITS)
    both = outside.reshape(-1, 64)
    # It is drawn: in the middle of a bound's range masks fall on both sides, before and behind it they do not.
    assert not both[(np.abs(elements) < 11.75 * 2**16)].any()
    assert both[np.abs(elements) >= 20 << 16].all()


def test_sigmoid_far_outside_is_exactly_zero_or_one() -> None:
    elements = np.array([-1000, -20, 20, 1000, 2**20, -(2**20)]) << 40
    assert _run(elements, 40, 60).value.tolist() == [0, 0, 2**16, 2**16, 2**16, 0]


def test_sigmoid_opens_and_deals_what_its_page_says() -> None:
    count = 64
    run = _run(np.zeros(count, np.int64), 16, 36)
    assert run.opened_bytes == 16.75 * count
    assert run.correction_bytes == 572 * count
    (dealt,) = [operation for operation in run.operations if isinstance(operation, Deal)]
    assert digit_bits(dealt.parameters[-1]) == (10, 9)


@pytest.mark.parametrize(("scale_bits", "magnitude_bits"), [(16, 38), (0, 20), (60, 62)])
def test_sigmoid_of_an_unsupported_scale_or_magnitude_is_refused(scale_bits: int, magnitude_bits: int) -> None:
    with pytest.raises(ConfideError):
        _run(np.zeros(1, np.int64), scale_bits, magnitude_bits)


def test_public_weights_are_the_same_to_the_bit_everywhere() -> None:
    # Two parties whose weights differed in one unit would compute garbage; a change of this digest is a new engine version.
    weights = series_weights(SERIES, np.arange(-50_000, 50_000) * 987_654_321, period_bits=46, weight_bits=24)
    assert hashlib.sha256(weights[0].tobytes() + weights[1].tobytes()).hexdigest() == WEIGHTS_DIGEST


WEIGHTS_DIGEST = "c2517fc10552e1a12fd56928c3e34b90ff65b5840f305c32f5e27304f494328d"
