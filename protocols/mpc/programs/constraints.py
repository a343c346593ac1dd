"""What an output's constraint leaves of predictions, computed in shares before anything is opened (docs/protocols/outputs.md).

Order: the largest probabilities are chosen, then clipped, then rounded. What is not opened is not in the shares either: a
probability that is not among the largest is exactly 0 there, and a rounded one is the whole number that the decimals make.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from protocols.fixed_point import VALUE_BITS
from protocols.job_parts import Output, OutputKind
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.maximum import keep_largest, wins
from protocols.mpc.primitives.rounding import round_to_decimals
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from protocols.mpc.primitives.staircase import staircase
from protocols.ring import RingArray

_UNIT = 1 << VALUE_BITS


def constrained(engine: Engine, share: RingArray, output: Output) -> Steps[RingArray]:
    """Returns this party's share of what may be opened of predictions: at 16 fractional bits, rounded ones at none.

    Rounds: 4 for clipping, 5 for the largest (clipping runs beside them), 5 for rounding; the plan states the bytes.

    Args:
        engine: this party's engine.
        share: (rows, columns) int64 at 16 fractional bits, secret: probabilities, one a row or one a class, or values below 2^20.
        output: what is opened; public.

    Learns: nobody anything; everything opened is uniform.
    """
    if output.top_k:
        share = yield from _largest(engine, share, output)
    else:
        share = yield from _clipped(engine, share, output)
    if output.decimals is None:
        return share
    return (yield from round_to_decimals(engine, share, scale_bits=VALUE_BITS, decimals=output.decimals))


def opened_scale_bits(output: Output) -> int:
    """Returns the fractional bits of what is opened of predictions; public."""
    return 0 if output.kind is OutputKind.LABEL or output.decimals is not None else VALUE_BITS


def clip_bounds(output: Output) -> tuple[int, int]:
    """Returns the least and the largest probability that are opened, at 16 fractional bits, rounded inwards; public."""
    least = int((Decimal(output.clip) * _UNIT).to_integral_value(ROUND_CEILING))
    return least, _UNIT - least


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
