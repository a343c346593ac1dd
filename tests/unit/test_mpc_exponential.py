"""The exponential's worst error over dense grids, at and beyond the borders of its domain."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from protocols.errors import ConfideError
from protocols.mpc.primitives import exponential
from protocols.mpc.primitives.exponential import MAX_SCALE_BITS, exp, exp_nonpositive
from tests.support.mpc_world import run_protocol, split
from tests.support.series_errors import grid

CASES = pytest.mark.parametrize(("num_parties", "scale_bits"), [(2, 0), (2, 16), (3, 24), (5, 40), (2, MAX_SCALE_BITS)])


def test_stated_errors_follow_from_the_roundings() -> None:
    # Dealt powers of at least 1/e are rounded at `table` bits, weights at `weights` bits, a truncation errs by one unit.
    wide, fine = exponential._WIDE, exponential._FINE
    assert 2.0**-wide.result + 2.0 ** -(wide.weights + 1) <= exponential.MAX_ABSOLUTE_ERROR
    assert np.e * 2.0 ** -(wide.table + 1) <= 0.75 * exponential.MAX_RELATIVE_ERROR
    table_error = np.exp(1 << fine.unit_log2) * 2.0 ** -(fine.table + 1)
    assert 2.0**-fine.result + 2.0 ** -(fine.weights + 1) + table_error <= exponential.MAX_FINE_ERROR
    # The largest value in the domain fits the truncation, what is cut off below it is within the error.
    assert np.exp(exponential.TOP) * 2.0 ** (wide.table + wide.weights) * (1 + 2.0**-20) < 2.0**62
    assert np.exp(exponential.BOTTOM) <= 0.1 * exponential.MAX_FINE_ERROR


@CASES
def test_exponential_over_a_dense_grid_keeps_its_error(num_parties: int, scale_bits: int) -> None:
    elements = grid(-30, 11, scale_bits)
    elements = elements[elements <= 11 << scale_bits]
    run = run_protocol(lambda engine, mine: exp(engine, mine[0], scale_bits), [[s] for s in split(elements, num_parties)])
    true = np.exp(elements / 2.0**scale_bits)
    error = np.abs(run.value / 2**exponential.RESULT_BITS - true)
    assert (error <= exponential.MAX_ABSOLUTE_ERROR + exponential.MAX_RELATIVE_ERROR * true).all()
    assert run.rounds == 4
    # Each of the bit planes is padded to whole bytes.
    assert 24.5 * elements.size <= run.opened_bytes <= 24.5 * elements.size + 35
    assert 364.125 * elements.size <= run.correction_bytes <= 364.125 * elements.size + 120


@CASES
def test_exponential_beyond_its_domain_is_clamped(num_parties: int, scale_bits: int) -> None:
    far = (2**62 - (20 << scale_bits)) >> scale_bits
    elements = np.array([12, 20, 31, 32, 43, 1000, far, -21, -22, -32, -52, -1000, -far]) << scale_bits
    run = run_protocol(lambda engine, mine: exp(engine, mine[0], scale_bits), [[s] for s in split(elements, num_parties)])
    assert (run.value[:7] == round(np.exp(11) * 2**16)).all()
    assert not run.value[7:].any()


@CASES
def test_exponential_of_numbers_that_are_not_positive_keeps_its_finer_error(num_parties: int, scale_bits: int) -> None:
    elements = np.concatenate([grid(-60, 0, scale_bits), [-(2**62)]])
    elements = elements[elements <= 0]
    shares = [[s] for s in split(elements, num_parties)]
    run = run_protocol(lambda engine, mine: exp_nonpositive(engine, mine[0], scale_bits), shares)
    error = np.abs(run.value / 2**exponential.FINE_BITS - np.exp(elements / 2.0**scale_bits))
    assert error.max() <= exponential.MAX_FINE_ERROR
    assert run.rounds == 4


def test_exponential_keeps_the_shape_and_refuses_unsupported_scales() -> None:
    shares = [[np.zeros((3, 2), np.int64)]] * 2
    assert run_protocol(lambda engine, mine: exp(engine, mine[0], 16), shares).value.shape == (3, 2)
    with pytest.raises(ConfideError):
        run_protocol(lambda engine, mine: exp(engine, mine[0], MAX_SCALE_BITS + 1), shares)


def test_public_weights_of_an_exponential_are_the_same_to_the_bit_everywhere() -> None:
    # Two parties whose weights differed in one unit would compute garbage; a change of this digest is a new engine version.
    weights = exponential._weights(np.arange(-5_000, 5_000) * 987_654_321_987, 40, exponential._FINE)
    assert hashlib.sha256(weights.tobytes()).hexdigest() == WEIGHTS_DIGEST


WEIGHTS_DIGEST = "38f2cef5710e037c8b80703d49d81f58ec0f9c41f954f59fba7b55aec9505633"
