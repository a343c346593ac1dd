"""Reciprocal, roots and logarithm over their whole domains, in which powers of two are the borders, and beyond."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from protocols.errors import ConfideError
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives import logarithm, reciprocal, roots
from protocols.mpc.primitives.normalisation import WEIGHT_BITS, Span, first_segments, normalise
from protocols.mpc.waves import Series
from tests.support.mpc_world import ProtocolRun, run_protocol, split
from tests.support.series_errors import rounding_of

Protocol = Callable[[Engine, np.ndarray, int], Steps[np.ndarray]]
PARTIES_AND_SCALES = pytest.mark.parametrize(("num_parties", "scale_bits"), [(2, 0), (2, 16), (3, 25), (5, 40)])


def ring_numbers(low: int, high: int) -> np.ndarray:
    """Powers of two from 2^low to below 2^high, their neighbours, and numbers spread evenly over the octaves."""
    powers = 2 ** np.arange(low, high)
    spread = np.floor(2.0 ** np.random.default_rng(low).uniform(low, high, 4_000)).astype(np.int64)
    every = np.concatenate([powers, powers + 1, powers - 1, [2**high - 1], spread])
    return every[(every >= 2**low) & (every < 2**high)]


def evaluate(protocol: Protocol, elements: np.ndarray, scale_bits: int, num_parties: int) -> ProtocolRun:
    return run_protocol(lambda engine, mine: protocol(engine, mine[0], scale_bits), [[s] for s in split(elements, num_parties)])


@pytest.mark.parametrize(
    ("series", "function", "is_relative", "series_error", "weight_bits", "cut_bits", "stated"),
    [
        (
            reciprocal.SERIES,
            lambda z: 1 / z,
            True,
            2.0**-22.2,
            WEIGHT_BITS,
            reciprocal.SERIES_BITS,
            reciprocal.MAX_RELATIVE_ERROR,
        ),
        (roots.ROOT, np.sqrt, True, 2.0**-28.6, WEIGHT_BITS, roots.SERIES_BITS, roots.MAX_RELATIVE_ERROR),
        (roots.INVERSE_ROOT, lambda z: z**-0.5, True, 2.0**-24.8, WEIGHT_BITS, roots.SERIES_BITS, roots.MAX_RELATIVE_ERROR),
        (logarithm.SERIES, np.log, False, 2.0**-25.5, logarithm.WEIGHT_BITS, 60, logarithm.SERIES_ERROR),
    ],
    ids=["reciprocal", "root", "inverse root", "logarithm"],
)
def test_series_on_its_interval_is_within_its_stated_error(
    series: Series,
    function: Callable[[np.ndarray], np.ndarray],
    is_relative: bool,
    series_error: float,
    weight_bits: int,
    cut_bits: int,
    stated: float,
) -> None:
    z = np.linspace(0.25, 1, 200_001)
    turns = np.pi * np.outer(series.harmonics, z)
    unit = 2.0**-series.coefficient_bits
    value = unit * (series.constant + np.array(series.cosines) @ np.cos(turns) + np.array(series.sines) @ np.sin(turns))
    true = function(z)
    weight = 1 / true if is_relative else np.ones_like(z)
    error = np.abs((value - true) * weight).max()
    assert error <= series_error
    # With roundings and the cut to `cut_bits` it is the stated one.
    assert series_error + (rounding_of(series, weight_bits) + 2.0**-cut_bits) * weight.max() <= stated


@PARTIES_AND_SCALES
def test_reciprocal_over_its_domain_and_both_signs_keeps_its_error(num_parties: int, scale_bits: int) -> None:
    low = max(0, scale_bits - 20)
    positive = ring_numbers(low, low + 40)
    elements = np.concatenate([positive, -positive])
    for result_bits in (16, 30):

        def protocol(engine: Engine, share: np.ndarray, scale: int, bits: int = result_bits) -> Steps[np.ndarray]:
            return reciprocal.reciprocal(engine, share, scale, result_bits=bits)

        run = evaluate(protocol, elements, scale_bits, num_parties)
        true = 2.0**scale_bits / elements
        error = np.abs(run.value * 2.0**-result_bits - true)
        assert (error <= reciprocal.MAX_RELATIVE_ERROR * np.abs(true) + 2.0**-result_bits).all()
        assert run.rounds == 11


@PARTIES_AND_SCALES
def test_reciprocal_beyond_its_domain_is_the_nearest_inside(num_parties: int, scale_bits: int) -> None:
    low = max(0, scale_bits - 20)
    border = 2 ** (scale_bits - low)
    elements = np.array([0, 2**low - 1, -(2**low) + 1, 2 ** (low + 40), -(2 ** (low + 40)), 2**62 - 1, -(2**62)])
    run = evaluate(reciprocal.reciprocal, elements, scale_bits, num_parties)
    # For scales up to 20 fractional bits low is 0, and no number but zero is too small.
    expected = np.array([1, 1, 1 if low == 0 else -1, 0, 0, 0, 0]) * border
    error = np.abs(run.value / 2.0**16 - expected)
    assert (error <= reciprocal.MAX_RELATIVE_ERROR * np.abs(expected) + 2.0**-16 + 2.0 ** (scale_bits - low - 40)).all()


@pytest.mark.parametrize(("num_parties", "scale_bits"), [(2, 24), (3, 16)])
def test_reciprocal_of_positive_numbers_keeps_its_error_and_clamps_others(num_parties: int, scale_bits: int) -> None:
    low = max(0, scale_bits - 20)
    positive = ring_numbers(low, low + 40)
    run = evaluate(reciprocal.reciprocal_of_positive, np.concatenate([[0, -1, -(2**62)], positive]), scale_bits, num_parties)
    true = 2.0**scale_bits / np.concatenate([[2**low] * 3, positive])
    assert (np.abs(run.value / 2.0**16 - true) <= reciprocal.MAX_RELATIVE_ERROR * true + 2.0**-16).all()


@PARTIES_AND_SCALES
def test_roots_of_all_positive_numbers_keep_their_errors(num_parties: int, scale_bits: int) -> None:
    elements = ring_numbers(0, 62 - scale_bits % 2)
    true = np.sqrt(elements / 2.0**scale_bits)
    bound = roots.MAX_RELATIVE_ERROR
    root = evaluate(roots.sqrt, elements, scale_bits, num_parties)
    assert (np.abs(root.value / 2.0**16 - true) <= bound * true + 2.0**-16).all()
    inverse = evaluate(roots.inverse_sqrt, elements, scale_bits, num_parties)
    assert (np.abs(inverse.value / 2.0**16 - 1 / true) <= bound / true + 2.0**-16).all()
    assert root.rounds == inverse.rounds == 11


@pytest.mark.parametrize("scale_bits", [16, 25, 40])
def test_roots_of_numbers_that_are_not_positive_are_clamped(scale_bits: int) -> None:
    elements = np.array([0, -1, -(2**62), -5])
    assert not evaluate(roots.sqrt, elements, scale_bits, 2).value.any()
    inverse = evaluate(roots.inverse_sqrt, elements, scale_bits, 2).value / 2.0**16
    largest = 2.0 ** (scale_bits / 2)
    assert (np.abs(inverse - largest) <= roots.MAX_RELATIVE_ERROR * largest + 2.0**-16).all()


def test_inverse_root_of_a_tiny_mean_of_squares_is_right_to_six_digits() -> None:
    # What Adam divides by: 1e-10 at 40 fractional bits has a root of 1e-5.
    elements = np.rint(np.array([1e-10, 3e-9, 1e-6]) * 2.0**40).astype(np.int64)
    run = evaluate(roots.inverse_sqrt, elements, 40, 2)
    assert np.abs(run.value / 2.0**16 * np.sqrt(elements / 2.0**40) - 1).max() <= 1e-6


def test_root_at_finer_result_bits_keeps_its_error() -> None:
    elements = ring_numbers(0, 40)

    def protocol(engine: Engine, share: np.ndarray, scale: int) -> Steps[np.ndarray]:
        return roots.sqrt(engine, share, scale, result_bits=27)

    true = np.sqrt(elements / 2.0**40)
    error = np.abs(evaluate(protocol, elements, 40, 2).value / 2.0**27 - true)
    assert (error <= roots.MAX_RELATIVE_ERROR * true + 2.0**-27).all()


@PARTIES_AND_SCALES
def test_logarithm_of_all_positive_numbers_keeps_its_error(num_parties: int, scale_bits: int) -> None:
    elements = ring_numbers(0, 62)
    true = np.log(elements / 2.0**scale_bits)
    for result_bits in (16, 24):

        def protocol(engine: Engine, share: np.ndarray, scale: int, bits: int = result_bits) -> Steps[np.ndarray]:
            return logarithm.log(engine, share, scale, result_bits=bits)

        run = evaluate(protocol, elements, scale_bits, num_parties)
        assert np.abs(run.value * 2.0**-result_bits - true).max() <= logarithm.SERIES_ERROR + 2.0**-result_bits
        assert run.rounds == 10


def test_logarithm_of_numbers_that_are_not_positive_is_that_of_the_smallest() -> None:
    run = evaluate(logarithm.log, np.array([0, -1, -(2**62), 1]), 16, 2)
    assert np.abs(run.value / 2.0**16 - np.log(2.0**-16)).max() <= logarithm.SERIES_ERROR + 2.0**-16


@pytest.mark.parametrize(
    "span",
    [Span(24, 26, both_signs=False), Span(24, 30, both_signs=True), Span(4, 44, both_signs=True), Span(0, 62, both_signs=False)],
)
def test_mantissa_and_levels_give_the_number_back_exactly(span: Span) -> None:
    positive = ring_numbers(span.low, span.high)
    elements = np.concatenate([positive, -positive]) if span.both_signs else positive

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        normal = yield from normalise(engine, mine[0], span)
        return np.stack([normal.mantissa, normal.levels(), (yield from normal.rising_power(engine, 2))])

    mantissa, levels, power = run_protocol(protocol, [[s] for s in split(elements, 3)]).value
    assert mantissa.min() >= 2**60
    assert mantissa.max() < 2**62
    back = [int(m) * 2**span.high // (4 ** int(level) * 2**62) for m, level in zip(mantissa, levels, strict=True)]
    assert back == np.abs(elements).tolist()
    assert np.array_equal(power, np.sign(elements) * 2**levels)


def test_thresholds_ascend_and_pieces_meet_the_mantissa_s_range() -> None:
    for low, high in [(0, 40), (20, 60), (7, 47), (24, 26), (0, 61), (0, 62)]:
        for both_signs in (False, True):
            pieces = first_segments(Span(low, high, both_signs=both_signs), 8)
            starts = [piece.start for piece in pieces[1:]]
            assert starts == sorted(set(starts))
            for piece, end in zip(pieces[1:], [*starts[1:], None], strict=True):
                if piece.factor and end is not None:
                    ends = sorted(piece.factor * x + piece.offset for x in (piece.start, end - 1))
                    assert 2**54 <= ends[0] <= ends[1] < 2**62


@pytest.mark.parametrize(
    "protocol",
    [reciprocal.reciprocal, reciprocal.reciprocal_of_positive, roots.sqrt, roots.inverse_sqrt, logarithm.log],
    ids=lambda function: function.__name__,
)
def test_unsupported_scale_is_refused_and_the_shape_is_kept(protocol: Protocol) -> None:
    ones = np.full((2, 3), 2**16)
    assert evaluate(protocol, ones, 16, 2).value.shape == (2, 3)
    with pytest.raises(ConfideError):
        evaluate(protocol, ones, 47, 2)


@pytest.mark.parametrize(
    ("protocol", "opened", "corrections"),
    [
        (reciprocal.reciprocal, 119.875, 656.25),
        (reciprocal.reciprocal_of_positive, 94.375, 488.25),
        (roots.sqrt, 102.875, 536.25),
        (roots.inverse_sqrt, 102.875, 540.25),
        (logarithm.log, 70.875, 508.25),
    ],
)
def test_costs_are_as_stated(protocol: Protocol, opened: float, corrections: float) -> None:
    run = evaluate(protocol, np.full(800, 2**16), 16, 2)
    assert (run.opened_bytes, run.correction_bytes) == (opened * 800, corrections * 800)
