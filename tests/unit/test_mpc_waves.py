"""Functions that are one series: hyperbolic tangent, error function, sine and cosine, over dense grids and beyond."""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
from scipy.special import erf as true_erf

from protocols.errors import ConfideError
from protocols.mpc import waves
from protocols.mpc.primitives import error_function, trigonometry
from protocols.mpc.primitives.error_function import erf
from protocols.mpc.primitives.tanh import MAX_ERROR, tanh
from protocols.mpc.primitives.trigonometry import cos, sin
from protocols.ring import packed_size
from tests.support.mpc_world import run_protocol, split
from tests.support.series_errors import grid, rounding_of


@pytest.mark.parametrize(("num_parties", "scale_bits"), [(2, 16), (3, 40), (5, 2)])
def test_hyperbolic_tangent_over_a_dense_grid_keeps_its_error(num_parties: int, scale_bits: int) -> None:
    elements = np.concatenate([grid(-20, 20, scale_bits), np.array([-1000, 1000, 2**20, -(2**20)]) << scale_bits])
    shares = [[share] for share in split(elements, num_parties)]
    run = run_protocol(lambda engine, mine: tanh(engine, mine[0], scale_bits, scale_bits + 20), shares)
    assert np.abs(run.value / 2**16 - np.tanh(elements / 2.0**scale_bits)).max() <= MAX_ERROR
    assert run.value[-4:].tolist() == [-(2**16), 2**16, 2**16, -(2**16)]
    assert run.rounds == 2


def test_error_function_s_stated_error_follows_from_its_series() -> None:
    series = error_function.SERIES
    x = np.linspace(-4, 4, 100_001)
    value = (np.array(series.sines) * 2.0**-series.coefficient_bits) @ np.sin(np.pi / 8 * np.outer(series.harmonics, x))
    error = np.abs(value - true_erf(x)).max()
    # Waves and weights have 28 fractional bits, 2^-29 of rounding for every product, and the coefficients are below 2 in sum.
    rounding = (len(series.harmonics) + 2) * 2.0**-28
    assert 2.0**-16 + error + rounding <= error_function.MAX_ERROR
    assert 1 - true_erf(4) <= 2.0**-25


@pytest.mark.parametrize(("num_parties", "scale_bits"), [(2, 16), (3, 40), (5, 2)])
def test_error_function_over_a_dense_grid_keeps_its_error(num_parties: int, scale_bits: int) -> None:
    elements = np.concatenate([grid(-10, 10, scale_bits), np.array([-1000, 1000, 2**20, -(2**20)]) << scale_bits])
    run = run_protocol(lambda engine, mine: erf(engine, mine[0], scale_bits), [[s] for s in split(elements, num_parties)])
    assert np.abs(run.value / 2**16 - true_erf(elements / 2.0**scale_bits)).max() <= error_function.MAX_ERROR
    assert run.value[-4:].tolist() == [-(2**16), 2**16, 2**16, -(2**16)]
    assert run.rounds == 4


@pytest.mark.parametrize(("num_parties", "scale_bits"), [(2, 16), (3, 40), (5, 0)])
def test_sine_and_cosine_of_small_and_large_numbers_keep_their_error(num_parties: int, scale_bits: int) -> None:
    elements = np.concatenate([grid(-20, 20, scale_bits), np.array([-(10**4), 10**6]) << scale_bits])
    true = elements / 2.0**scale_bits
    for protocol, function in ((sin, np.sin), (cos, np.cos)):
        run = run_protocol(
            lambda engine, mine, p=protocol: p(engine, mine[0], scale_bits), [[s] for s in split(elements, num_parties)]
        )
        bound = trigonometry.MAX_ERROR + np.abs(true) * 2.0 ** (scale_bits - 62)
        assert (np.abs(run.value / 2**16 - function(true)) <= bound).all()
        opened, dealt = (packed_size(elements.size), 8) if num_parties == 2 else (8 * elements.size, 16)
        assert (run.rounds, run.opened_bytes) == (2, 8 * elements.size + opened)
        assert run.correction_bytes == (16 + dealt) * elements.size


def test_sine_s_stated_error_covers_its_rounding() -> None:
    assert 2.0**-16 + rounding_of(trigonometry._SINE, 27) <= trigonometry.MAX_ERROR


@pytest.mark.parametrize("protocol", [erf, sin, cos])
def test_unsupported_scale_is_refused(protocol: object) -> None:
    with pytest.raises(ConfideError):
        run_protocol(lambda engine, mine: protocol(engine, mine[0], 48), [[np.zeros(1, np.int64)]] * 2)


def test_coefficients_of_the_sine_are_rounded_alike_everywhere() -> None:
    # One unit in the last place at one party, and the parties' weights differ. Decimal numbers are the same on every machine.
    with localcontext(Context(prec=120)):
        turn = 2 * Decimal(math.pi)
        exact = [float(Decimal(-1) ** i * turn ** (2 * i + 1) / math.factorial(2 * i + 1)) for i in range(10)]
    assert list(waves._TAYLOR) == exact


def _sine_by_hand(phase: int) -> float:
    """The sine of phase / 2^64 turns by single float64 operations, in the order that every party must keep to."""
    turns = float(phase) * 2.0**-64
    folded = 0.5 - turns if turns > 0.25 else -0.5 - turns if turns < -0.25 else turns
    square = folded * folded
    total = waves._TAYLOR[-1]
    for coefficient in reversed(waves._TAYLOR[:-1]):
        total = total * square + coefficient
    return total * folded


def _waves_by_hand(value: int, period_bits: int, harmonics: tuple[int, ...]) -> list[tuple[float, float]]:
    """Sine and cosine of every harmonic, likewise."""

    def wave(harmonic: int, quarter: int) -> float:
        phase = value * 2 ** (64 - period_bits) * harmonic + quarter * 2**62
        return _sine_by_hand((phase + 2**63) % 2**64 - 2**63)

    step = harmonics[1] - harmonics[0] if len(harmonics) > 1 else 1
    before, last = ((wave(harmonic, 0), wave(harmonic, 1)) for harmonic in (harmonics[0] - step, harmonics[0]))
    twice, found = 2.0 * wave(step, 1), [last]
    for _ in harmonics[1:]:
        before, last = last, (last[0] * twice - before[0], last[1] * twice - before[1])
        found.append(last)
    return found


@pytest.mark.parametrize("count", [1, 8, 9000])
@pytest.mark.parametrize("period_bits", [20, 46, 64])
@pytest.mark.parametrize("harmonics", [(1,), (1, 2, 3), (1, 3, 5, 7), (5, 9)])
def test_waves_are_equal_to_the_bit_however_many_are_computed_at_once(
    count: int, period_bits: int, harmonics: tuple[int, ...]
) -> None:
    numbers = np.random.default_rng(count).integers(-(2**63), 2**63, count, dtype=np.int64)
    numbers[:1] = 2 ** (period_bits - 2)
    sines, cosines = waves.waves_of(numbers, period_bits, harmonics)
    by_hand = [_waves_by_hand(int(number), period_bits, harmonics) for number in numbers]
    assert sines.T.tolist() == [[sine for sine, _ in row] for row in by_hand]
    assert cosines.T.tolist() == [[cosine for _, cosine in row] for row in by_hand]


@pytest.mark.parametrize("step", [1, 2])
def test_waves_of_the_most_harmonics_are_within_their_stated_error(step: int) -> None:
    harmonics = tuple(range(1, 1 + 28 * step, step))
    # Random angles, and those at which the recurrence is worst: close to where 2 cos(d x) is 2 or -2.
    near = np.arange(-200, 201, dtype=np.int64)
    numbers = np.concatenate([np.random.default_rng(0).integers(-(2**39), 2**39, 20_000), near, near + 2**38, near + 2**39])
    turns = (np.array(harmonics)[:, None] * numbers[None, :]) % 2**40 / 2.0**40  # exact
    for found, expected in zip(
        waves.waves_of(numbers, 40, harmonics), (np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)), strict=True
    ):
        # The reference's angle is rounded, too: below 2 pi, by 2^-51.
        assert np.abs(found - expected).max() <= 2.0**-40 + 2.0**-50


@pytest.mark.parametrize("of_cosines", [(0, 0), (7, -9), (0, 5)])
def test_series_weights_follow_from_the_waves_whichever_coefficients_are_zero(of_cosines: tuple[int, int]) -> None:
    series = waves.Series((1, 3), 5, of_cosines, (1 << 20, -(3 << 18)), 20)
    opened = np.random.default_rng(1).integers(-(2**40), 2**40, 500, dtype=np.int64)
    sine, cosine = waves.waves_of(opened, 40, series.harmonics)
    a, b = (np.array(numbers, np.float64)[:, None] * 2.0**4 for numbers in (series.cosines, series.sines))
    for_cosines, for_sines = waves.series_weights(series, opened, period_bits=40, weight_bits=24)
    assert np.array_equal(for_cosines, np.rint(a * cosine + b * sine).astype(np.int64))
    assert np.array_equal(for_sines, np.rint(a * sine - b * cosine).astype(np.int64))
