"""The sigmoid in four rounds: a sine series inside [-16, 16], 0 or 1 outside (docs/protocols/sigmoid.md).

After Zheng et al., "Secure Softmax/Sigmoid for Machine-learning Computation", ACSAC 2023: with c = x + r public,
sin(w (c - r)) is linear in dealt shares of sin(w r) and cos(w r), so a whole Fourier series costs one opening. Here the period
divides 2^64, so wrapping does no harm; two sign tests of the same opened c clamp the result; and the series is truncated
while the tests run, with its product with the hidden result bits dealt along, so that clamping costs no further round.
"""

from __future__ import annotations

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Opened, Opening, Steps, together
from protocols.mpc.material.sigmoid import SigmoidMaterial
from protocols.mpc.primitives.comparison import hidden_nonnegative, unflip
from protocols.mpc.primitives.truncation import PublicPart, mask_for_truncation, public_part, recombine
from protocols.mpc.waves import LIMIT, PERIOD_LOG2, WAVE_BITS, WEIGHT_BITS, series_weights
from protocols.ring import RingArray

RESULT_BITS = 16
MAX_ERROR = 1e-4  # tests/unit/test_mpc_sigmoid.py computes it: 7.3e-5 of the series, 1.6e-5 of rounding
MAX_SCALE_BITS = 46  # beyond, a phase loses digits in float64
_SHIFT = WAVE_BITS + WEIGHT_BITS + 1 - RESULT_BITS  # the one halves the series


def sigmoid(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the sigmoid at 16 fractional bits, within 1e-4 of the true value.

    Four rounds, 24.75 bytes an element; corrections 346 bytes an element.

    Args:
        engine: this party's engine.
        share: int64, secret, any shape; the value lies in [-2^62, 2^62) and so does its sum with 16.
        scale_bits: fractional bits of the value, 1 to 46.

    Raises:
        ConfideError: INTERNAL (ours) for another scale.

    Learns: nobody anything; everything opened is uniform.
    """
    if not 1 <= scale_bits <= MAX_SCALE_BITS:
        raise ConfideError(ErrorCode.INTERNAL, f"a sigmoid of a value with {scale_bits} fractional bits")
    period_bits = scale_bits + PERIOD_LOG2
    material = engine.deal("sigmoid", share.shape, period_bits, _SHIFT, result=SigmoidMaterial)
    opened = yield Opening("sigmoid", (share + material.mask,))
    masked = opened.numbers[0].reshape(1, -1)
    bound = np.int64(LIMIT << scale_bits)
    thresholds = np.concatenate([masked + bound, masked - bound])
    for_cosines, for_sines = series_weights(masked[0], period_bits)
    series = (for_cosines * material.cosines + for_sines * material.sines).sum(axis=0)
    flipped, cut = yield from _tests_and_truncation(engine, thresholds, series, material)
    return _clamp(engine, flipped, cut, material).reshape(share.shape)


def _tests_and_truncation(
    engine: Engine, thresholds: RingArray, series: RingArray, material: SigmoidMaterial
) -> Steps[tuple[RingArray, PublicPart]]:
    def tests() -> Steps[RingArray]:
        return (yield from hidden_nonnegative(engine, thresholds, material.sign))

    def truncation() -> Steps[RingArray]:
        opened: Opened = yield Opening("truncation", (mask_for_truncation(engine, series, material.truncation),))
        return opened.numbers[0]

    flipped, masked = yield from together(tests(), truncation())
    return flipped, public_part(masked, _SHIFT)


def _clamp(engine: Engine, flipped: RingArray, cut: PublicPart, material: SigmoidMaterial) -> RingArray:
    """With g the bits [x >= -16] and [x >= 16] and h the halved series: (g0 + g1) / 2 + (g0 - g1) h."""
    bits = unflip(engine, flipped, material.sign.flip_number)
    half = engine.public(cut.base) + recombine(cut, material.truncation.high, material.truncation.top)
    flip_times_half = cut.base * material.sign.flip_number + recombine(cut, material.flip_high, material.flip_top)
    gated = flipped * half + (1 - 2 * flipped) * flip_times_half
    share: RingArray = (bits[0] + bits[1]) * np.int64(1 << (RESULT_BITS - 1)) + gated[0] - gated[1]
    return share
