"""What an output's constraint leaves of predictions, computed in shares before anything is opened (docs/protocols/outputs.md).

Order: the largest probabilities are chosen, then clipped, then rounded; a sample without an answer is put out last. What is not
opened is not in the shares either: a probability that is not among the largest is exactly 0 there, a rounded one is the whole
number that the decimals make, and a sample without an answer is -1 throughout, or a number that no score or value reaches.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.job_parts import Output, OutputKind, Task
from protocols.mpc.combination import Term
from protocols.mpc.engine import Engine, Steps, alongside, together
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.maximum import keep_largest, maximum, wins
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.rounding import round_to_decimals
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from protocols.mpc.primitives.staircase import staircase, threshold_bits
from protocols.mpc.programs.distance import objections
from protocols.mpc.programs.predict import predicted_classes
from protocols.mpc.values import SharedValue
from protocols.no_answer import no_answer
from protocols.ring import RingArray

_UNIT = 1 << VALUE_BITS


def constrained(engine: Engine, share: RingArray, output: Output, rows: SharedValue | None = None) -> Steps[RingArray]:
    """Returns this party's share of what may be opened of predictions: at 16 fractional bits, rounded ones at none.

    Rounds: 4 for clipping, 5 for the largest (clipping runs beside them), 5 for rounding. Which samples have an answer is found
    beside these, in 4 rounds for one probability, more for several, and 8 or 9 for their distance; one more puts the others
    out. The plan states the bytes.

    Args:
        engine: this party's engine.
        share: (rows, columns) int64 at 16 fractional bits, secret: probabilities, one a row or one a class, or values below 2^20.
        output: what is opened; public.
        rows: (rows, features), secret: the samples; None where their distance does not matter.

    Raises:
        ConfideError: INTERNAL (ours) if distances matter, and there are no samples.

    Learns: nobody anything; everything opened is uniform.
    """
    if not output.abstains:
        return (yield from _told(engine, share, output))
    told, answered = yield from together(_told(engine, share, output), _answered(engine, share, output, rows))
    return (yield from _put_out(engine, told, answered, output))


def plain_labels(engine: Engine, task: Task, logits: Term, output: Output, rows: SharedValue | None = None) -> Steps[RingArray]:
    """Returns this party's share of the class of every sample, (rows, 1), chosen from its logits; -1 for one that is too far.

    Args:
        engine: this party's engine.
        task: binary or classes.
        logits: as for `predicted_classes`.
        output: what is opened, whatever the probability; public.
        rows: as for `constrained`.

    Raises:
        ConfideError: as `constrained`.

    Learns: nobody anything; everything opened is uniform.
    """
    if not output.abstains:
        return (yield from predicted_classes(engine, task, logits)).labels
    classes, count = yield from alongside(predicted_classes(engine, task, logits), _objections(engine, rows, output))
    answered = yield from _none(engine, count)
    return (yield from _put_out(engine, classes.labels, answered, output))


def noisy_labels(engine: Engine, share: RingArray, output: Output, rows: SharedValue | None = None) -> Steps[RingArray]:
    """Returns this party's share of the class of every sample, (rows, 1), chosen from probabilities as they are given.

    One probability: the class is [p >= 1/2]; several: the first of the largest. A sample without an answer is -1.

    Args:
        engine: this party's engine.
        share: (rows, columns) int64 at 16 fractional bits, secret: probabilities, with noise or without.
        output: what is opened; public.
        rows: as for `constrained`.

    Raises:
        ConfideError: as `constrained`.

    Learns: nobody anything; everything opened is uniform.
    """
    if output.abstain_beyond == "0":
        label, unsure = yield from _label(engine, share, output)
        if output.abstain_below == "0":
            return label
        answered = _ones(engine, unsure) - unsure
    else:
        (label, unsure), count = yield from alongside(_label(engine, share, output), _objections(engine, rows, output))
        answered = yield from _none(engine, count + unsure)
    return (yield from _put_out(engine, label, answered, output))


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


def _label(engine: Engine, share: RingArray, output: Output) -> Steps[tuple[RingArray, RingArray]]:
    """Returns the class of every sample, and whether its largest probability misses the bound, (rows, 1) each."""
    bound, half = _answered_from(output), _UNIT >> 1
    if share.shape[1] > 1:
        largest, one_hot = yield from maximum(engine, share)
        label: RingArray = (one_hot @ np.arange(share.shape[1], dtype=np.int64)).reshape(-1, 1)
        if not bound:
            return label, np.zeros_like(label)
        return label, (yield from _below(engine, largest, bound))
    if bound <= half:  # the larger of p and 1 - p is always at least one half
        (label,) = yield from threshold_bits(engine, share, (half,))
        return label, np.zeros_like(label)
    bits = yield from threshold_bits(engine, share, (_UNIT - bound + 1, half, bound))
    return bits[1], bits[0] - bits[2]


def _answered(engine: Engine, share: RingArray, output: Output, rows: SharedValue | None) -> Steps[RingArray]:
    """Returns whether a sample has an answer, (rows, 1) of 0 and 1."""
    counts = [_unsure(engine, share, output)] if output.abstain_below != "0" else []
    if output.abstain_beyond == "0":
        (unsure,) = yield from together(*counts)
        return _ones(engine, unsure) - unsure
    found = yield from together(*counts, _objections(engine, rows, output))
    return (yield from _none(engine, np.sum(found, axis=0)))


def _unsure(engine: Engine, share: RingArray, output: Output) -> Steps[RingArray]:
    """Returns whether a sample's largest probability misses the bound, (rows, 1) of 0 and 1."""
    bound = _answered_from(output)
    if share.shape[1] > 1:
        largest, _ = yield from maximum(engine, share)
        return (yield from _below(engine, largest, bound))
    if bound <= _UNIT >> 1:  # the larger of p and 1 - p is always at least one half
        return np.zeros_like(share)
    bits = yield from threshold_bits(engine, share, (_UNIT - bound + 1, bound))
    between: RingArray = bits[0] - bits[1]
    return between


def _below(engine: Engine, largest: RingArray, bound: int) -> Steps[RingArray]:
    reached = yield from nonnegative(engine, (largest - bound * _ones(engine, largest)).reshape(-1, 1))
    missed: RingArray = _ones(engine, reached) - reached
    return missed


def _objections(engine: Engine, rows: SharedValue | None, output: Output) -> Steps[RingArray]:
    if rows is None:
        raise ConfideError(ErrorCode.INTERNAL, "an output whose samples have a largest distance, and no samples")
    return (yield from objections(engine, rows, output))


def _none(engine: Engine, counts: RingArray) -> Steps[RingArray]:
    """Returns whether a count from 0 on is 0."""
    return (yield from nonnegative(engine, -counts))


def _answered_from(output: Output) -> int:
    """Returns the least largest probability of a sample that has an answer, at 16 fractional bits, rounded up; public."""
    return int((Decimal(output.abstain_below) * _UNIT).to_integral_value(ROUND_CEILING))


def _put_out(engine: Engine, told: RingArray, answered: RingArray, output: Output) -> Steps[RingArray]:
    factor = 10**output.decimals if output.decimals is not None else 1 << opened_scale_bits(output)
    marked = -no_answer(output) * factor * _ones(engine, told)
    kept: RingArray = (yield from multiply(engine, told + marked, np.broadcast_to(answered, told.shape).copy())) - marked
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
