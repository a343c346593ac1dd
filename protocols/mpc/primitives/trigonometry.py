"""Sine and cosine in two rounds: one harmonic of a series (docs/protocols/series.md).

The period 2 pi becomes a power of two of ring units by a public factor. Multiplying by it may wrap around, which does no harm:
the period divides 2^64.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.series import WAVE_BITS, fourier_series
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.waves import Series
from protocols.ring import RingArray

RESULT_BITS = 16
MAX_SCALE_BITS = 40
MAX_ERROR = 1.01 * 2.0**-16
_PERIOD_BITS = 64
_WEIGHT_BITS = 27
_SINE = Series((1,), 0, (0,), (1,), 0)
_COSINE = Series((1,), 0, (1,), (0,), 0)
_TURN = Fraction("6.2831853071795864769252867665590057684")  # 2 pi; as a float it would be off by 2^-52


def sin(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the sine at 16 fractional bits.

    The error is at most 1.01 * 2^-16 plus |x| 2^-(62 - scale_bits) for the period's rounding.

    Two rounds, 8.125 bytes an element; corrections 24 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape.
        scale_bits: fractional bits of the value, 0 to 40.

    Raises:
        ConfideError: INTERNAL (ours) for another scale.

    Learns: nobody anything; everything opened is uniform.
    """
    return (yield from _wave(engine, share, scale_bits, _SINE))


def cos(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the cosine at 16 fractional bits; as `sin` in every other respect."""
    return (yield from _wave(engine, share, scale_bits, _COSINE))


def _wave(engine: Engine, share: RingArray, scale_bits: int, series: Series) -> Steps[RingArray]:
    if not 0 <= scale_bits <= MAX_SCALE_BITS:
        raise ConfideError(ErrorCode.INTERNAL, f"a sine of a value with {scale_bits} fractional bits")
    # x / 2^s radians are x 2^(64 - s) / 2 pi units of 2^-64 turns.
    turns = share.reshape(-1) * np.int64(round(2 ** (_PERIOD_BITS - scale_bits) / _TURN))
    wave = yield from fourier_series(engine, turns, series, period_bits=_PERIOD_BITS, weight_bits=_WEIGHT_BITS)
    result = yield from truncate(engine, wave, WAVE_BITS + _WEIGHT_BITS - RESULT_BITS)
    return result.reshape(share.shape)
