"""Errors of libraries for differential privacy that no figure shows, as far as no other test stands for them.

docs/differential-privacy.md names all of them with their tests.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from protocols.discrete_gaussian import sample
from protocols.mpc.noisy_sums_design import SCALE_BITS
from tests.support.mpc_world import stream

_BITS = 4
_COUNT = 1 << 16
# One run of these fixed streams: sound noise would be beyond with this chance.
_LIMIT = float(chi2.isf(1e-6, (1 << _BITS) - 1))


def low_bits_statistic(noisy: np.ndarray) -> float:
    """Pearson's statistic of the low bits of integers against equally probable ones."""
    found = np.bincount(noisy & ((1 << _BITS) - 1), minlength=1 << _BITS)
    expected = len(noisy) / (1 << _BITS)
    return float(((found - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("value", [0, 1 << SCALE_BITS, 3 << (SCALE_BITS - 1), 12_345])
def test_low_bits_of_a_noisy_number_tell_nothing_of_the_number(value: int) -> None:
    noise = sample(stream(f"low bits of {value}"), _COUNT, 1 << SCALE_BITS)
    assert low_bits_statistic(value + noise) < _LIMIT


def test_low_bits_of_noise_in_floating_point_tell_whether_a_row_is_there() -> None:
    """What the test above would find: beside 1 a number has no room for the low bits that it has beside 0."""
    noise = np.random.default_rng(3).normal(0, 2.0**-7, _COUNT).astype(np.float32)
    without, beside_one = (np.floor(np.float64(number) * 2.0**26).astype(np.int64) for number in (noise, np.float32(1) + noise))
    assert low_bits_statistic(without) < _LIMIT < low_bits_statistic(beside_one)
