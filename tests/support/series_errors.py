"""Grids on which a function of one number is tested, and bounds on the rounding of a Fourier series."""

from __future__ import annotations

import numpy as np

from protocols.mpc.primitives.series import WAVE_BITS
from protocols.mpc.waves import Series


def rounding_of(series: Series, weight_bits: int) -> float:
    """Of dealt waves and public weights, as `fourier_series` states it."""
    size = sum(abs(part) for part in (*series.cosines, *series.sines)) / 2.0**series.coefficient_bits
    return size * 2.0**-WAVE_BITS + len(series.harmonics) * 2.0**-weight_bits


def grid(low: float, high: float, scale_bits: int) -> np.ndarray:
    """Ring numbers of a dense grid and of both sides of every whole number in it."""
    whole = np.arange(np.ceil(low), np.floor(high) + 1)
    dense = np.rint(np.concatenate([np.linspace(low, high, 8_001), whole]) * 2.0**scale_bits).astype(np.int64)
    return np.concatenate([dense, dense[-whole.size :] - 1, dense[-whole.size :] + 1])
