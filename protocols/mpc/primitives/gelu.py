"""The normal distribution function and the slope of x times it, which GELU is made of (docs/protocols/gelu.md).

Both less a half are odd, so each is a sine series inside [-8, 8], and 0 or 1 outside, where they are that to 1e-14.
"""

from __future__ import annotations

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.clamping import OddSeries, gated_odd_series
from protocols.mpc.waves import Series
from protocols.ring import RingArray

DISTRIBUTION_BITS = 20  # its error is multiplied with numbers up to 8
SLOPE_BITS = 16
LIMIT_LOG2 = 3
# Weighted least squares, near minimax: errors 2^-22.6 and 2^-20.7; the extension by reflection at 8 repeats every 32.
DISTRIBUTION = Series(
    tuple(range(1, 24, 2)),
    0,
    (0,) * 12,
    (
        686607022645, 196161294406, 86460398711, 38883754703, 16320334510, 6176046236, 2071657114, 610034312, 156749940, 35005704,
        6775116, 1154926,
    ),
    40,
)  # fmt: skip
SLOPE = Series(
    tuple(range(1, 26, 2)),
    0,
    (0,) * 13,
    (
        713077880664, 264225003054, 169793399660, 112339210201, 67285548579, 34986871190, 15569499349, 5901751173, 1903234975,
        522205101, 121970742, 24266157, 4189650,
    ),
    40,
)  # fmt: skip
MAX_DISTRIBUTION_ERROR = 1.3 * 2.0**-20
MAX_SLOPE_ERROR = 1.1 * 2.0**-16
_WAVE_BITS = 28
_WEIGHT_BITS = 28


def distribution(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the normal distribution function at 20 fractional bits, within 1.3 * 2^-20 = 1.3e-6.

    Four rounds; bytes and corrections as `gated_odd_series` with 12 harmonics.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the value lies in [-2^62, 2^62) and so does its sum with 8.
        scale_bits: fractional bits of the value, 1 to 46.

    Raises:
        ConfideError: INTERNAL (ours) for another scale.

    Learns: nobody anything; everything opened is uniform.
    """
    return (yield from _sigmoidal(engine, share, scale_bits, DISTRIBUTION, DISTRIBUTION_BITS))


def slope(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the slope of x times the distribution at 16 fractional bits, within 1.1 * 2^-16 = 1.7e-5.

    13 harmonics; in every other respect as `distribution`.
    """
    return (yield from _sigmoidal(engine, share, scale_bits, SLOPE, SLOPE_BITS))


def _sigmoidal(engine: Engine, share: RingArray, scale_bits: int, series: Series, result_bits: int) -> Steps[RingArray]:
    """A half plus an odd series inside the limits, 0 below and 1 above."""
    function = OddSeries(series, LIMIT_LOG2, _WAVE_BITS, _WEIGHT_BITS, _WAVE_BITS + _WEIGHT_BITS - result_bits)
    gated = yield from gated_odd_series(engine, share, scale_bits, function)
    # With g the bits [x >= -8] and [x >= 8]: half of their sum is 0, a half, 1.
    result: RingArray = (gated.bits[0] + gated.bits[1] << result_bits - 1) + gated.products[0] - gated.products[1]
    return result.reshape(share.shape)
