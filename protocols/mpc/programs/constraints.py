"""What an output's constraint leaves of predictions, computed in shares before anything is opened (docs/protocols/outputs.md).

Order: the largest probabilities are chosen, then clipped, then rounded; a sample without an answer is put out last. What is not
opened is not in the shares either: a probability that is not among the largest is exactly 0 there, a rounded one is the whole
number that the decimals make, and a sample without an answer is -1 throughout.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job_parts import Output, OutputKind
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.maximum import keep_largest, maximum, wins
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.rounding import round_to_decimals
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from protocols.mpc.primitives.staircase import staircase, threshold_bits
from protocols.ring import RingArray

_UNIT = 1 << VALUE_BITS
NO_ANSWER = -1  # is opened for a sample whose largest probability is below the bound


def constrained(engine: Engine, share: RingArray, output: Output) -> Steps[RingArray]:
    """Returns this party's share of what may be opened of predictions: at 16 fractional bits, rounded ones at none.

    Rounds: 4 for clipping, 5 for the largest (clipping runs beside them), 5 for rounding, and for putting out samples without an
    answer 5 for one probability, more for several; the plan states the bytes.

    Args:
        engine: this party's engine.
        share: (rows, columns) int64 at 16 fractional bits, secret: probabilities, one a row or one a class, or values below 2^20.
        output: what is opened; public.

    Learns: nobody anything; everything opened is uniform.
    """
    if output.abstain_below == "0":
        return (yield from _told(engine, share, output))
    told = yield from _told(engine, share, output)
    answered = yield from _answered(engine, share, output)
    unit = -NO_ANSWER * (_UNIT if output.decimals is None else 10**output.decimals)
    return (yield from _put_out(engine, told, answered, unit=unit))


def noisy_labels(engine: Engine, share: RingArray, output: Output) -> Steps[RingArray]:
    """Returns this party's share of the class of every sample, (rows, 1), chosen from probabilities as they are given.

    One probability: the class is [p >= 1/2]; several: the first of the largest. A sample without an answer is -1.

    Args:
        engine: this party's engine.
        share: (rows, columns) int64 at 16 fractional bits, secret: probabilities, with noise or without.
        output: what is opened; public.

    Learns: nobody anything; everything opened is uniform.
    """
    bound, half = _answered_from(output), _UNIT >> 1
    if share.shape[1] == 1:
        # The larger of p and 1 - p is one half or more: below that, a bound puts out nothing.
        doubts = bound > half
        bits = yield from threshold_bits(engine, share, (_UNIT - bound + 1, half, bound) if doubts else (half,))
        label: RingArray = bits[len(bits) // 2]
        answered: RingArray | None = _ones(engine, bits[0]) - bits[0] + bits[2] if doubts else None
    else:
        largest, one_hot = yield from maximum(engine, share)
        label, answered = (one_hot @ np.arange(share.shape[1], dtype=np.int64)).reshape(-1, 1), None
        if bound:
            answered = yield from nonnegative(engine, (largest - bound * _ones(engine, largest)).reshape(-1, 1))
    if answered is not None:
        label = yield from _put_out(engine, label, answered, unit=-NO_ANSWER)
    return label


def opened_scale_bits(output: Output) -> int:
    """Returns the fractional bits of what is opened of predictions; public."""
    return 0 if output.kind is OutputKind.LABEL or output.decimals is not None else VALUE_BITS


def clip_bounds(output: Output) -> tuple[int, int]:
    """Returns the least and the largest probability that are opened, at 16 fractional bits, rounded inwards; public."""
    least = int((Decimal(output.clip) * _UNIT).to_integral_value(ROUND_CEILING))
    return least, _UNIT - least


def _told(engine: Engine, share: RingArray, output: Output) -> Steps[RingArray]:
    if output.top_k:
        share = yield from _largest(engine, share, output)
    else:
        share = yield from _clipped(engine, share, output)
    if output.decimals is None:
        return share
    return (yield from round_to_decimals(engine, share, scale_bits=VALUE_BITS, decimals=output.decimals))


def _answered(engine: Engine, share: RingArray, output: Output) -> Steps[RingArray]:
    """Returns whether a sample's largest probability reaches the bound, (rows, 1) of 0 and 1."""
    bound = _answered_from(output)
    if share.shape[1] > 1:
        largest, _ = yield from maximum(engine, share)
        reached: RingArray = yield from nonnegative(engine, (largest - bound * _ones(engine, largest)).reshape(-1, 1))
        return reached
    if bound <= _UNIT >> 1:  # the larger of p and 1 - p is always at least one half
        return _ones(engine, share)
    bits = yield from threshold_bits(engine, share, (_UNIT - bound + 1, bound))
    inside: RingArray = _ones(engine, bits[0]) - bits[0] + bits[1]
    return inside


def _answered_from(output: Output) -> int:
    """Returns the least largest probability of a sample that has an answer, at 16 fractional bits, rounded up; public."""
    return int((Decimal(output.abstain_below) * _UNIT).to_integral_value(ROUND_CEILING))


def _put_out(engine: Engine, told: RingArray, answered: RingArray, *, unit: int) -> Steps[RingArray]:
    ones = unit * _ones(engine, told)
    kept: RingArray = (yield from multiply(engine, told + ones, np.broadcast_to(answered, told.shape).copy())) - ones
    return kept


def _ones(engine: Engine, like: RingArray) -> RingArray:
    return engine.public(np.ones_like(like))


def _largest(engine: Engine, share: RingArray, output: Output) -> Steps[RingArray]:
    # Chosen before they are clipped: clipping makes ties of what is not equal.
    counts, clipped = yield from together(wins(engine, share), _clipped(engine, share, output))
    return (yield from keep_largest(engine, counts, clipped, count=output.top_k))


def _clipped(engine: Engine, share: RingArray, output: Output) -> Steps[RingArray]:
    if not _is_clipped(output):
        return share
    low, high = clip_bounds(output)
    steps = yield from staircase(engine, share.reshape(-1), (low, high))
    inside = steps.piecewise_linear((0, 1, 0))
    return (inside + steps.piecewise((low, 0, high))).reshape(share.shape)


def _is_clipped(output: Output) -> bool:
    """Whether a clip is asked for, or the sigmoid's error could show as a probability rounded to below 0 or above 1."""
    if output.kind is not OutputKind.PROBABILITY:
        return False
    return Decimal(output.clip) > 0 or (output.decimals is not None and MAX_ERROR * 10**output.decimals >= 0.5)
