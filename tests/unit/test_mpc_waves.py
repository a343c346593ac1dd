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
from tests.support.mpc_world import run_protocol, split
from tests.support.series_errors import grid, rounding_of


@pytest.mark.parametrize(("num_parties", "scale_bits"), [(2, 16), (3, 40), (5, 2)])
def test_hyperbolic_tangent_over_a_dense_grid_keeps_its_error(num_parties: int, scale_bits: int) -> None:
    elements = np.concatenate([grid(-20, 20, scale_bits), np.array([-1000, 1000, 2**20, -(2**20)]) << scale_bits])
    run = run_protocol(lambda engine, mine: tanh(engine, mine[0], scale_bits), [[s] for s in split(elements, num_parties)])
    assert np.abs(run.value / 2**16 - np.tanh(elements / 2.0**scale_bits)).max() <= MAX_ERROR
    assert run.value[-4:].tolist() == [-(2**16), 2**16, 2**16, -(2**16)]
    assert run.rounds == 4


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
        assert (run.rounds, run.opened_bytes, run.correction_bytes) == (2, 16 * elements.size, 32 * elements.size)


def test_sine_s_stated_error_covers_its_rounding() -> None:
    assert 2.0**-16 + rounding_of(trigonometry._SINE, 27) <= trigonometry.MAX_ERROR


@pytest.mark.parametrize("protocol", [erf, sin, cos, tanh])
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


@pytest.mark.parametrize("count", [1, 8, 3000])
@pytest.mark.parametrize("period_bits", [20, 46, 64])
def test_waves_are_equal_to_the_bit_however_many_are_computed_at_once(count: int, period_bits: int) -> None:
    harmonics = (1, 2, 27)
    numbers = np.random.default_rng(count).integers(-(2**63), 2**63, count, dtype=np.int64)
    numbers[:1] = 2 ** (period_bits - 2)
    for found, shift in (
        (waves.sines(numbers, period_bits, harmonics), 0),
        (waves.cosines(numbers, period_bits, harmonics), 2**62),
    ):
        phases = [[(int(v) * 2 ** (64 - period_bits) * h + shift + 2**63) % 2**64 - 2**63 for v in numbers] for h in harmonics]
        assert found.tolist() == [[_sine_by_hand(phase) for phase in row] for row in phases]


@pytest.mark.parametrize("of_cosines", [(0, 0), (7, -9), (0, 5)])
def test_series_weights_follow_from_the_waves_whichever_coefficients_are_zero(of_cosines: tuple[int, int]) -> None:
    series = waves.Series((1, 3), 5, of_cosines, (1 << 20, -(3 << 18)), 20)
    opened = np.random.default_rng(1).integers(-(2**40), 2**40, 500, dtype=np.int64)
    sine, cosine = waves.sines(opened, 40, series.harmonics), waves.cosines(opened, 40, series.harmonics)
    a, b = (np.array(numbers, np.float64)[:, None] * 2.0**4 for numbers in (series.cosines, series.sines))
    for_cosines, for_sines = waves.series_weights(series, opened, period_bits=40, weight_bits=24)
    assert np.array_equal(for_cosines, np.rint(a * cosine + b * sine).astype(np.int64))
    assert np.array_equal(for_sines, np.rint(a * sine - b * cosine).astype(np.int64))
