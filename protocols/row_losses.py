"""How losses of rows are added up where the owners' noise is added to them: in units of the most that a row may count.

A row's log loss, or squared error, is clipped in shares to what the job declares (`bound`), and the sum over all rows is scaled
so that no row adds more than 1 to it, exactly, on the integers that are opened. So losses have the noise of counts beside them,
and the noise of a mean is smaller for a smaller bound. Public, from the job alone (docs/protocols/evaluation.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from protocols.fixed_point import VALUE_BITS
from protocols.job_parts import Output, OutputKind

_ROOM_BITS = 61  # of a sum times its factor


@dataclass(frozen=True)
class LossScale:
    """From the sum of what rows count to the number that is opened: sum times `factor`, over 2^`shift`; public.

    Attributes:
        limit: the most that a row's loss, or absolute error, may be, at 16 fractional bits.
        factor: a whole number.
        shift: bits.
        unit: what 1 in the opened number stands for in the sum of losses: the most that a row counts, or hardly more.
    """

    limit: int
    factor: int
    shift: int
    unit: Fraction


def loss_scale(output: Output, num_rows: int) -> LossScale:
    """Returns how a loss with noise is scaled.

    Args:
        output: log loss or squared error, with a bound.
        num_rows: over which it is added up.
    """
    limit = int(Fraction(output.bound) * (1 << VALUE_BITS))
    is_squared = output.kind is OutputKind.SQUARED_ERROR
    most, bits = (limit * limit, 2 * VALUE_BITS) if is_squared else (limit, VALUE_BITS)
    # The sum is at most num_rows times the most, and leaves room for its factor.
    shift = _ROOM_BITS - VALUE_BITS - num_rows.bit_length()
    factor = (1 << (VALUE_BITS + shift)) // most
    return LossScale(limit, factor, shift, Fraction(1 << (VALUE_BITS + shift), factor << bits))


def mean_of_opened(value: float, output: Output, num_rows: int) -> float:
    """Returns the mean loss of an opened number, with its noise.

    Args:
        value: as opened: the sum in units of the scale.
        output: as `loss_scale`.
        num_rows: over which it was added up.
    """
    return value * float(loss_scale(output, num_rows).unit) / num_rows
