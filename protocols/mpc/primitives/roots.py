"""Square roots and their reciprocals over the whole ring (docs/protocols/normalisation.md)."""

from __future__ import annotations

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.normalisation import MANTISSA_BITS, Normal, Span, normalise, scaled_series
from protocols.mpc.waves import Series
from protocols.ring import RingArray

RESULT_BITS = 16
MAX_SCALE_BITS = 40
MAX_RESULT_BITS = 27
MAX_RELATIVE_ERROR = 2.0**-22
# Fits on [1/4, 1] of period 2 of the root (relative error 2^-28.6) and of its reciprocal (2^-24.8).
ROOT = Series(
    tuple(range(1, 9)),
    606908973142,
    (-615329036168, -36904889599, 140139485677, 54744213847, -4256324600, -5234015461, -516734955, 34733205),
    (178077161721, 329132817762, 82125199998, -38831087593, -21611482612, -1195214994, 695177770, 60471206),
    40,
)
INVERSE_ROOT = Series(
    tuple(range(1, 9)),
    6162988659757,
    (5282747639377, -1898472355213, -3058464602285, -861772848594, 186522403953, 118485820833, 10042620187, -869550810),
    (-6519833542772, -5300315629430, -543910022841, 1071388285497, 433691506334, 8313796722, -16843490991, -1349979808),
    40,
)
SERIES_BITS = 28  # at most 2 at 28 bits times 2^31 stays below 2^62
_TOP = 31  # of the levels


def sqrt(engine: Engine, share: RingArray, scale_bits: int, *, result_bits: int = RESULT_BITS) -> Steps[RingArray]:
    """Returns this party's share of the square root at `result_bits` fractional bits.

    The error is at most 2^-22 of the value plus one unit of the result, for all positive numbers from 2^-scale_bits on. The root
    of zero and of negative numbers is exactly 0.

    Eleven rounds, 102.875 bytes an element; corrections 540.25 bytes an element at most (odd scales: 107.125 and 568.25).

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the ring number lies in [-2^62, 2^62), for odd scales below 2^61.
        scale_bits: fractional bits of the value, 0 to 40.
        result_bits: fractional bits of the result, 0 to 27.

    Raises:
        ConfideError: INTERNAL (ours) for other scales.

    Learns: nobody anything; everything opened is uniform.
    """
    normal, high = yield from _normal(engine, share, scale_bits, result_bits)
    # sqrt(x) = sqrt(z) 2^((high - s) / 2 - levels).
    shift = SERIES_BITS + _TOP - (high - scale_bits) // 2 - result_bits
    power = normal.falling_power(engine, 2)
    result = yield from scaled_series(engine, normal, ROOT, power, bits=SERIES_BITS, shift=shift)
    return result.reshape(share.shape)


def inverse_sqrt(engine: Engine, share: RingArray, scale_bits: int, *, result_bits: int = RESULT_BITS) -> Steps[RingArray]:
    """Returns this party's share of 1 / sqrt(x) at `result_bits` fractional bits.

    The error is at most 2^-22 of the value plus one unit of the result, for all positive numbers from 2^-scale_bits on; others
    count as 2^-scale_bits, so the result never exceeds 2^(scale_bits / 2).

    Rounds, bytes, arguments, errors and leakage as `sqrt`.
    """
    normal, high = yield from _normal(engine, share, scale_bits, result_bits)
    # 1 / sqrt(x) = (1 / sqrt(z)) 2^(levels - (high - s) / 2).
    shift = SERIES_BITS + (high - scale_bits) // 2 - result_bits
    power = normal.rising_power(engine, 2)
    result = yield from scaled_series(engine, normal, INVERSE_ROOT, power, bits=SERIES_BITS, shift=shift)
    return result.reshape(share.shape)


def _normal(engine: Engine, share: RingArray, scale_bits: int, result_bits: int) -> Steps[tuple[Normal, int]]:
    """The number with an exponent whose half is whole, and the top of its range."""
    if not (0 <= scale_bits <= MAX_SCALE_BITS and 0 <= result_bits <= MAX_RESULT_BITS):
        raise ConfideError(ErrorCode.INTERNAL, f"a square root with {scale_bits} and {result_bits} fractional bits")
    high = MANTISSA_BITS - scale_bits % 2
    normal = yield from normalise(engine, share.reshape(-1), Span(0, high, both_signs=False))
    return normal, high
