"""Softmax and its logarithm along rows, numerically safe for any logits (docs/protocols/softmax.md).

The largest logit is subtracted, so that exponentials are at most 1 and their sum lies between 1 and the number of classes,
which makes its reciprocal and its logarithm a matter of few thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.exponential import FINE_BITS, exp_nonpositive
from protocols.mpc.primitives.logarithm import log_of_normal
from protocols.mpc.primitives.maximum import maximum
from protocols.mpc.primitives.multiplication import multiply, truncate_and_multiply
from protocols.mpc.primitives.normalisation import WEIGHT_BITS, Normal, Span, mantissa_series, normalise
from protocols.mpc.primitives.reciprocal import SERIES
from protocols.mpc.primitives.series import WAVE_BITS, fourier_series
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.waves import Series
from protocols.ring import RingArray

RESULT_BITS = 16
MAX_SCALE_BITS = 46
MAX_CLASSES = 64
MAX_ERROR = 1.5 * 2.0**-16  # of a probability
MAX_LOG_ERROR = 2.5 * 2.0**-16  # of a logarithm
RECIPROCAL_BITS = 24
SHORT_CLASSES = 16  # up to so many, the sum's reciprocal is one series
# A fit of 1/x on [1, 16] of period 32, error 2^-21.9 there and a hundredth beyond.
# fmt: off
SUM_SERIES = Series(
    tuple(range(1, 27)),
    10743033823845,
    (
        15690392523126, 9254850594402, 10794675853246, 5420348188476, 2476531626899, -285294875396, -6641859780732,
        -6701732743330, -12930862152830, -11737361719547, -12818322331544, -12179556064103, -5027293949319, -4719608897784,
        6192255900707, 9399290263387, 9758810347604, 14831452897493, -2059794434679, -13211413702804, -2568930691887,
        3047570078559, 770777060912, -200354228127, -42196614738, 1679217188,
    ),
    (
        -9404802414681, -8360420277755, -9672841416987, -14137484230543, -11861150353002, -15091662320618, -11711638918275,
        -10307495939434, -7916499349534, -1035410825134, -223315087774, 8548825854267, 9261863925061, 11924000815406,
        13980324822705, 4393320554640, 3906243785934, -7493372145932, -17350114137477, -1731948743632, 7337615807730,
        1747260003161, -933353371986, -228212424959, 26901311851, 3759617727,
    ),
    40,
)
# fmt: on
SUM_PERIOD_BITS = FINE_BITS + 5
SUM_WEIGHT_BITS = 29  # a reciprocal is at most 1, 2^60 in the ring


def softmax(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the softmax of every row at 16 fractional bits, within 1.5 * 2^-16 = 2.3e-5.

    A row's sum is within (k + 1) 2^-16 of 1 for k classes.

    Twelve rounds for up to 16 classes, twenty-two for more.

    Args:
        engine: this party's engine.
        share: (rows, classes) int64, secret, 2 to 64 classes; the ring numbers lie in [-2^61, 2^61).
        scale_bits: fractional bits of the logits, 0 to 46.

    Raises:
        ConfideError: INTERNAL (ours) for another scale or number of classes.

    Learns: nobody anything; everything opened is uniform.
    """
    shifted = yield from _shifted(engine, share, scale_bits)
    if share.shape[1] <= SHORT_CLASSES:
        return (yield from _divided_by_sum(engine, shifted.exponentials))
    total = yield from _normal_sum(engine, shifted.exponentials)

    def numerators() -> Steps[RingArray]:
        power = yield from total.rising_power(engine, 4)
        return (yield from multiply(engine, shifted.exponentials, power[:, None]))

    series = mantissa_series(engine, total, SERIES, weight_bits=WEIGHT_BITS)
    reciprocals, scaled = yield from together(series, numerators())
    cut = WAVE_BITS + WEIGHT_BITS - RECIPROCAL_BITS
    product = yield from truncate_and_multiply(engine, reciprocals[:, None], cut, scaled)
    return (yield from truncate(engine, product, RECIPROCAL_BITS + _span(share.shape[1]).high - RESULT_BITS))


def log_softmax(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of the logarithm of every row's softmax at 16 fractional bits, within 2.5 * 2^-16 = 3.9e-5.

    Fifteen rounds for up to 16 classes, twenty-one for more; one more if scale_bits is above 16.

    Args:
        engine: this party's engine.
        share: (rows, classes) int64, secret, 2 to 64 classes; the ring numbers lie in [-2^61, 2^61), the logits in [-2^45, 2^45).
        scale_bits: fractional bits of the logits, 0 to 46.

    Raises:
        ConfideError: INTERNAL (ours) for another scale or number of classes.

    Learns: nobody anything; everything opened is uniform.
    """
    shifted = yield from _shifted(engine, share, scale_bits)
    sum_of_logs, differences = yield from together(
        _log_sum(engine, shifted.exponentials), _at_result_bits(engine, shifted.differences, scale_bits)
    )
    result: RingArray = differences - sum_of_logs[:, None]
    return result


def log_sum_exp(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of log(sum of e^x) of every row at 16 fractional bits, (rows,), within 2.5 * 2^-16.

    Rounds, arguments, errors and leakage as `log_softmax`.
    """
    shifted = yield from _shifted(engine, share, scale_bits)
    sum_of_logs, largest = yield from together(
        _log_sum(engine, shifted.exponentials), _at_result_bits(engine, shifted.largest, scale_bits)
    )
    result: RingArray = largest + sum_of_logs
    return result


@dataclass(frozen=True)
class _Shifted:
    """A row's largest logit, the differences of all to it, and their exponentials at FINE_BITS; secret."""

    largest: RingArray
    differences: RingArray
    exponentials: RingArray


def _shifted(engine: Engine, share: RingArray, scale_bits: int) -> Steps[_Shifted]:
    if not (0 <= scale_bits <= MAX_SCALE_BITS and share.ndim == 2 and 2 <= share.shape[1] <= MAX_CLASSES):
        raise ConfideError(ErrorCode.INTERNAL, f"a softmax of shape {share.shape} with {scale_bits} fractional bits")
    largest, _ = yield from maximum(engine, share)
    differences = share - largest[:, None]
    return _Shifted(largest, differences, (yield from exp_nonpositive(engine, differences, scale_bits)))


def _divided_by_sum(engine: Engine, exponentials: RingArray) -> Steps[RingArray]:
    total = exponentials.sum(axis=1)
    reciprocals = yield from fourier_series(engine, total, SUM_SERIES, period_bits=SUM_PERIOD_BITS, weight_bits=SUM_WEIGHT_BITS)
    cut = WAVE_BITS + SUM_WEIGHT_BITS - RECIPROCAL_BITS
    product = yield from truncate_and_multiply(engine, reciprocals[:, None], cut, exponentials)
    return (yield from truncate(engine, product, RECIPROCAL_BITS + FINE_BITS - RESULT_BITS))


def _span(classes: int) -> Span:
    """What the sum of the exponentials of that many classes lies in: [1, 4^n) at FINE_BITS, clamped there."""
    octaves = 2 * -(-((classes - 1).bit_length()) // 2)
    return Span(FINE_BITS, FINE_BITS + octaves, both_signs=False)


def _normal_sum(engine: Engine, exponentials: RingArray) -> Steps[Normal]:
    return (yield from normalise(engine, exponentials.sum(axis=1), _span(exponentials.shape[1])))


def _log_sum(engine: Engine, exponentials: RingArray) -> Steps[RingArray]:
    normal = yield from _normal_sum(engine, exponentials)
    high = _span(exponentials.shape[1]).high - FINE_BITS
    return (yield from log_of_normal(engine, normal, high, RESULT_BITS))


def _at_result_bits(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    if scale_bits <= RESULT_BITS:
        return np.asarray(share << np.int64(RESULT_BITS - scale_bits))
    return (yield from truncate(engine, share, scale_bits - RESULT_BITS))
