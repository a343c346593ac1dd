"""1 / x over forty octaves and both signs (docs/protocols/normalisation.md)."""

from __future__ import annotations

from enum import Enum, auto

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.normalisation import Span, normalise, scaled_series
from protocols.mpc.waves import Series
from protocols.ring import RingArray

RESULT_BITS = 16
MAX_SCALE_BITS = 40
MAX_RELATIVE_ERROR = 2.0**-20
OCTAVES = 40
# A fit of 1/z on [1/4, 1] of period 2, relative error 2^-22.2.
SERIES = Series(
    tuple(range(1, 9)),
    33852409919602,
    (33001646729165, -14993383030900, -21904469366368, -6078617039777, 1368834738257, 868742213662, 77657456132, -5970665587),
    (-46126799551223, -36373435530362, -3154869387604, 7845822743374, 3156430088798, 72036123879, -122060298151, -10281737495),
    40,
)
SERIES_BITS = 21  # 1/z <= 4 at 21 bits times 4^19 stays below 2^62


def reciprocal(engine: Engine, share: RingArray, scale_bits: int, *, result_bits: int = RESULT_BITS) -> Steps[RingArray]:
    """Returns this party's share of 1 / x at `result_bits` fractional bits.

    The error is at most 2^-20 of the value plus one unit of the result for 2^-20 <= |x| < 2^20 (at fewer than 20 fractional bits
    s: for 2^-s <= |x| < 2^(40 - s)). Closer to zero the result is that of the nearest such number of the same sign, zero counting
    as positive; beyond, at most that of the largest.

    Eleven rounds, 124.125 bytes an element; corrections 684.25 bytes an element (at up to 20 fractional bits 119.875 and 656.25).

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the ring number lies in [-2^62, 2^62).
        scale_bits: fractional bits of the value, 0 to 40.
        result_bits: fractional bits of the result, 0 to 40.

    Raises:
        ConfideError: INTERNAL (ours) for other scales.

    Learns: nobody anything; everything opened is uniform.
    """
    return (yield from _reciprocal(engine, share, scale_bits, result_bits, _Signs.BOTH))


def reciprocal_of_positive(
    engine: Engine, share: RingArray, scale_bits: int, *, result_bits: int = RESULT_BITS
) -> Steps[RingArray]:
    """Returns this party's share of 1 / x for x > 0 at fewer bytes; numbers that are not positive count as the smallest one.

    Eleven rounds, 94.375 bytes an element; corrections 488.25 bytes an element. Otherwise as `reciprocal`.
    """
    return (yield from _reciprocal(engine, share, scale_bits, result_bits, _Signs.POSITIVE))


class _Signs(Enum):
    BOTH = auto()
    POSITIVE = auto()


def _reciprocal(engine: Engine, share: RingArray, scale_bits: int, result_bits: int, signs: _Signs) -> Steps[RingArray]:
    if not (0 <= scale_bits <= MAX_SCALE_BITS and 0 <= result_bits <= MAX_SCALE_BITS):
        raise ConfideError(ErrorCode.INTERNAL, f"a reciprocal with {scale_bits} and {result_bits} fractional bits")
    low = max(0, scale_bits - OCTAVES // 2)
    span = Span(low, low + OCTAVES, both_signs=signs is _Signs.BOTH)
    normal = yield from normalise(engine, share.reshape(-1), span)
    # 1 / x = (1 / z) 4^levels 2^(s - high).
    shift = SERIES_BITS + span.high - scale_bits - result_bits
    power = normal.rising_power(engine, 4)
    result = yield from scaled_series(engine, normal, SERIES, power, bits=SERIES_BITS, shift=shift)
    return result.reshape(share.shape)
