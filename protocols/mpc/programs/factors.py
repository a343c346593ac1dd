"""Multiplies shares with public factors that change, by operations that do not (see `programs.rates`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import UPDATE_LIMIT_BITS
from protocols.mpc.combination import Combination, Form, form_of
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.multiples import floor_log2
from protocols.mpc.primitives.truncation import truncate, truncate_roughly
from protocols.mpc.programs.rates import Factor
from protocols.mpc.values import PartialShare
from protocols.ring import SHORT_BITS, RingArray

MAX_BITS = 24
MIN_BITS = 8
GOOD_BITS = 16
_ENOUGH_BITS = 12  # of a rate: off by 2^-13 of itself at most, in every step alike
_MOST = 61  # a product stays below 2^61, and truncation holds to 2^62


def scale_share(
    engine: Engine,
    share: RingArray | PartialShare,
    *,
    magnitude_bits: int,
    scale_bits: int,
    factor: Factor,
    result_bits: int,
    wanted_bits: int = GOOD_BITS,
) -> Steps[RingArray]:
    """Returns this party's share of a value times a public factor; one round, two for a large value, or none.

    The factor is rounded to a multiple of peak * 2^-b or finer, where b is 24 or what the magnitude leaves below 2^61, at
    least 8, and not more than the wanted bits if the product is cut by 32 bits then: that is cheapest. The product is rounded to
    within two units of the result among two or three parties, and half a unit more for every further one. A value that leaves
    less than the wanted bits is cut first, by bits that do not reach the result.

    Args:
        engine: this party's engine.
        share: int64, secret, absolute value at most 2^magnitude_bits.
        magnitude_bits: see share; public.
        scale_bits: fractional bits of the share.
        factor: the factor at this step and its peak; the operations depend on the peak alone.
        result_bits: fractional bits of the result.
        wanted_bits: the least b that is good enough.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if the value leaves no room for the factor, or the factor is too small.
    """
    scaling = _scaling(factor, magnitude_bits, scale_bits, result_bits, wanted_bits)
    return (yield from _scaled(engine, PartialShare.of(share), scaling))


def _scaled(engine: Engine, partial: PartialShare, scaling: _Scaling) -> Steps[RingArray]:
    if scaling.cut > 0:
        partial = PartialShare((yield from truncate(engine, partial.contiguous(), scaling.cut)))
    # A multiplier that changes is in no plan, so the dealer could not take it in.
    usable = PartialShare(partial.whole()) if scaling.changes else partial
    scaled = usable.times(scaling.multiplier)
    if scaling.shift <= 0:
        return np.asarray(scaled.whole() << np.int64(-scaling.shift))
    return (yield from truncate_roughly(engine, scaled.contiguous(), scaling.shift))


@dataclass(frozen=True)
class _Scaling:
    """How a value is scaled: it is cut by so many bits, multiplied with a whole number, and truncated by so many bits; public.

    The plan has cut and shift, but not a multiplier that changes.
    """

    cut: int
    multiplier: int
    shift: int
    changes: bool


@lru_cache(maxsize=1024)
def _scaling(factor: Factor, magnitude_bits: int, scale_bits: int, result_bits: int, wanted_bits: int) -> _Scaling:
    peak_bits = _bits_above(factor.peak)
    cut = min(wanted_bits - (_MOST - magnitude_bits), scale_bits - result_bits - peak_bits)
    if cut > 0:
        scale_bits, magnitude_bits = scale_bits - cut, max(magnitude_bits - cut, 0) + 1
    bits = min(MAX_BITS, _MOST - magnitude_bits)
    if bits < MIN_BITS:
        raise ConfideError(
            ErrorCode.INVALID_JOB, "a value is too large to be scaled exactly enough", remedy="Use smaller batches."
        )
    # The highest 32 bits are all that a longer cut needs to open, and exactly so long a one needs least of the dealer.
    spare = min(scale_bits + bits - peak_bits - result_bits - SHORT_BITS, bits - wanted_bits)
    bits -= max(spare, 0)
    exponent = bits - peak_bits
    shift = scale_bits + exponent - result_bits
    if shift > _MOST:
        raise ConfideError(ErrorCode.INVALID_JOB, "a public factor is too small to be represented")
    return _Scaling(cut, round(factor.value * Fraction(2) ** exponent), shift, factor.changes)


def scale_terms(engine: Engine, combination: Combination, factor: Factor, *, result_bits: int) -> Steps[RingArray]:
    """Returns this party's share of a combination times a public factor: every term as `scale_share`, all in one round.

    A gradient of a cross-entropy, which is a mean over rows, is declared below 2^UPDATE_LIMIT_BITS, which leaves 12 bits and more
    of the factor beside it (15 for a mean over 128 rows), so that it needs no second round.
    """
    steps = [_scaled(engine, term.view.partial, _term_scaling(form_of(term), factor, result_bits)) for term in combination.terms]
    if len(steps) == 1:
        return (yield from steps[0])
    return add_up((yield from together(*steps)))


@lru_cache(maxsize=1024)
def _term_scaling(form: Form, factor: Factor, result_bits: int) -> _Scaling:
    multiple, scale_bits, magnitude_bits = form
    is_mean = multiple.rows > 1
    if is_mean:
        magnitude_bits = min(magnitude_bits, scale_bits + UPDATE_LIMIT_BITS - floor_log2(multiple.factor))
    pending = multiple.factor
    joint = Factor(pending * factor.value, abs(pending) * factor.peak, factor.changes)
    return _scaling(joint, magnitude_bits, scale_bits, result_bits, _ENOUGH_BITS if is_mean else GOOD_BITS)


def add_up(shares: Sequence[RingArray]) -> RingArray:
    """Returns the sum of shares of one shape."""
    return reduce(np.add, shares)


def _bits_above(value: Fraction) -> int:
    """Returns the least whole t with value <= 2^t, for a positive value."""
    top = value.numerator.bit_length() - value.denominator.bit_length()
    fits = value.numerator <= value.denominator << top if top >= 0 else value.numerator << -top <= value.denominator
    return top if fits else top + 1
