"""The sigmoid in two rounds: a sine series inside [-16, 16], 0 or 1 outside (docs/protocols/sigmoid.md).

After Zheng et al., "Secure Softmax/Sigmoid for Machine-learning Computation", ACSAC 2023: with c = x + r public,
sin(w (c - r)) is linear in dealt shares of sin(w r) and cos(w r), so a whole Fourier series costs one opening. Here the period
divides 2^64, so wrapping does no harm; and the same c tells on which side of the interval x lies. The series is as good as 0 or 1
from 12 to 20, so the bounds need not be exact: few bits are compared, in the round of the series' truncation.
"""

from __future__ import annotations

import numpy as np

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.window import WindowedSeries, windowed_series
from protocols.mpc.waves import Series
from protocols.ring import RingArray

# On -16 <= x <= 16 the sigmoid is 1/2 + S(x)/2 with S(x) = sum over odd k of b_k sin(2 pi k x / 64); the coefficients are a
# minimax fit of tanh(x/2), whose extension by reflection at 16 repeats every 64.
LIMIT = 16
HARMONICS = tuple(range(1, 28, 2))
COEFFICIENTS = (21026465, 6197517, 2954048, 1541719, 824086, 443486, 239132, 129015, 69618, 37567, 20273, 10940, 5904, 4495)
SERIES = Series(HARMONICS, 0, (0,) * len(HARMONICS), COEFFICIENTS, 24)
RESULT_BITS = 16
MAX_ERROR = 1e-4  # tests/unit/test_mpc_sigmoid.py computes it: 7.4e-5 of the series and its bounds, 1.8e-5 of rounding
MAX_SCALE_BITS = 46
MARGIN = 4  # from 12 to 20 either is right: the bounds are multiples of 8
WAVE_BITS, WEIGHT_BITS = 24, 23
_HALF_SERIES = WindowedSeries(SERIES, 4, 3, WAVE_BITS, WEIGHT_BITS, WAVE_BITS + WEIGHT_BITS + 1 - RESULT_BITS)  # + 1 halves it


def sigmoid(engine: Engine, share: RingArray, scale_bits: int, magnitude_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the sigmoid at 16 fractional bits, within 1e-4 of the true value.

    Two rounds, 16.75 bytes an element; corrections 572 bytes an element for values up to 2^20, less for smaller ones.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; absolute value at most 2^magnitude_bits.
        scale_bits: fractional bits of the value, 1 to 46.
        magnitude_bits: at most 21 more than the fractional bits; public.

    Raises:
        ConfideError: INTERNAL (ours) for another scale or magnitude.

    Learns: nobody anything; everything opened is uniform.
    """
    windowed = yield from windowed_series(engine, share, scale_bits, magnitude_bits, _HALF_SERIES)
    # Above the window 1; inside 1/2 + S/2; below 0.
    whole = windowed.above << np.int64(RESULT_BITS)
    half = windowed.inside << np.int64(RESULT_BITS - 1)
    return (whole + half + windowed.value).reshape(share.shape)
