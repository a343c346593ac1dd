"""The natural logarithm over the whole ring (docs/protocols/normalisation.md)."""

from __future__ import annotations

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.normalisation import MANTISSA_BITS, Normal, Span, mantissa_series, normalise
from protocols.mpc.primitives.series import WAVE_BITS
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.waves import Series
from protocols.ring import RingArray

RESULT_BITS = 16
MAX_SCALE_BITS = 46
MAX_RESULT_BITS = 24
SERIES_ERROR = 2.0**-19  # of the series and of its rounding
# A fit of log z on [1/4, 1] of period 2, error 2^-25.5.
SERIES = Series(
    tuple(range(1, 9)),
    -3037873951227,
    (-3393497374880, 636221069235, 1465816658317, 444862481237, -79300097735, -55271853518, -4668577952, 412840124),
    (3025157510000, 2774230644615, 397624563673, -485437473623, -208302835355, -5082325002, 7805662814, 614999777),
    40,
)
WEIGHT_BITS = 23
_TOTAL_BITS = WAVE_BITS + WEIGHT_BITS  # the logarithm of a ring number, below 2^5.5, fits beside them
_LOG_2 = 12486629536330718  # log(2) at 54 bits


def log(engine: Engine, share: RingArray, scale_bits: int, *, result_bits: int = RESULT_BITS) -> Steps[RingArray]:
    """Returns this party's share of the logarithm at `result_bits` fractional bits.

    The error is at most 2^-19 plus one unit of the result, for all positive numbers from 2^-scale_bits on; others count as
    2^-scale_bits.

    Ten rounds, 70.875 bytes an element; corrections 508.25 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the ring number lies in [-2^62, 2^62).
        scale_bits: fractional bits of the value, 0 to 46.
        result_bits: fractional bits of the result, 0 to 24.

    Raises:
        ConfideError: INTERNAL (ours) for other scales.

    Learns: nobody anything; everything opened is uniform.
    """
    if not (0 <= scale_bits <= MAX_SCALE_BITS and 0 <= result_bits <= MAX_RESULT_BITS):
        raise ConfideError(ErrorCode.INTERNAL, f"a logarithm with {scale_bits} and {result_bits} fractional bits")
    span = Span(0, MANTISSA_BITS, both_signs=False)
    normal = yield from normalise(engine, share.reshape(-1), span)
    result = yield from log_of_normal(engine, normal, span.high - scale_bits, result_bits)
    return result.reshape(share.shape)


def log_of_normal(engine: Engine, normal: Normal, high: int, result_bits: int) -> Steps[RingArray]:
    """Returns the share of log(mantissa / 2^62) + log(2) (high - 2 levels); two rounds. Error as `log`."""
    series = yield from mantissa_series(engine, normal, SERIES, weight_bits=WEIGHT_BITS)
    whole = engine.public(np.full(series.shape, high * _LOG_2)) - np.int64(2 * _LOG_2) * normal.levels()
    return (yield from truncate(engine, series + whole, _TOTAL_BITS - result_bits))
