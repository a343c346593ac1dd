"""The sigmoid in four rounds: a sine series inside [-16, 16], 0 or 1 outside (docs/protocols/sigmoid.md).

After Zheng et al., "Secure Softmax/Sigmoid for Machine-learning Computation", ACSAC 2023: with c = x + r public,
sin(w (c - r)) is linear in dealt shares of sin(w r) and cos(w r), so a whole Fourier series costs one opening. Here the period
divides 2^64, so wrapping does no harm; two sign tests of the same opened c clamp the result; and the series is truncated
while the tests run, with its product with the hidden result bits dealt along, so that clamping costs no further round.
"""

from __future__ import annotations

import numpy as np

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives import clamping
from protocols.mpc.primitives.clamping import OddSeries, gated_odd_series
from protocols.mpc.waves import Series
from protocols.ring import RingArray

# On -16 <= x <= 16 the sigmoid is 1/2 + S(x)/2 with S(x) = sum over odd k of b_k sin(2 pi k x / 64); the coefficients are a
# minimax fit of tanh(x/2), whose extension by reflection at 16 repeats every 64.
LIMIT = 16  # beyond, the sigmoid is 0 or 1 to 1.2e-7
HARMONICS = tuple(range(1, 28, 2))
COEFFICIENTS = (21026465, 6197517, 2954048, 1541719, 824086, 443486, 239132, 129015, 69618, 37567, 20273, 10940, 5904, 4495)
SERIES = Series(HARMONICS, 0, (0,) * len(HARMONICS), COEFFICIENTS, 24)
RESULT_BITS = 16
MAX_ERROR = 1e-4  # tests/unit/test_mpc_sigmoid.py computes it: 7.3e-5 of the series, 1.6e-5 of rounding
MAX_SCALE_BITS = clamping.MAX_SCALE_BITS
_HALF_SERIES = OddSeries(SERIES, 4, 24, 24, 24 + 24 + 1 - RESULT_BITS)  # the one halves the series


def sigmoid(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the sigmoid at 16 fractional bits, within 1e-4 of the true value.

    Four rounds, 24.5 bytes an element; corrections 344.125 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the value lies in [-2^62, 2^62) and so does its sum with 16.
        scale_bits: fractional bits of the value, 1 to 46.

    Raises:
        ConfideError: INTERNAL (ours) for another scale.

    Learns: nobody anything; everything opened is uniform.
    """
    gated = yield from gated_odd_series(engine, share, scale_bits, _HALF_SERIES)
    # With g the bits [x >= -16] and [x >= 16] and h the halved series: (g0 + g1) / 2 + (g0 - g1) h.
    outside = (gated.bits[0] + gated.bits[1]) * np.int64(1 << (RESULT_BITS - 1))
    result: RingArray = outside + gated.products[0] - gated.products[1]
    return result.reshape(share.shape)
