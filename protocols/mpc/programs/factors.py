"""Multiplies shares with public factors that change, by operations that do not (see `programs.rates`)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.combination import Combination
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.programs.rates import Factor
from protocols.ring import RingArray

MAX_BITS = 24
MIN_BITS = 8
_GOOD_BITS = 16
_MOST = 61  # a product stays below 2^61, and truncation holds to 2^62


def scale_share(
    engine: Engine, share: RingArray, *, magnitude_bits: int, scale_bits: int, factor: Factor, result_bits: int
) -> Steps[RingArray]:
    """Returns this party's share of a value times a public factor; one round, two for a large value, or none.

    The factor is rounded to a multiple of peak * 2^-b or finer, where b is 24 or what the magnitude leaves below 2^61, at
    least 8; the product to within two units of the result. A value that leaves less than 16 bits is cut first, by bits that
    do not reach the result.

    Args:
        engine: this party's engine.
        share: int64, secret, absolute value at most 2^magnitude_bits.
        magnitude_bits: see share; public.
        scale_bits: fractional bits of the share.
        factor: the factor at this step and its peak; the operations depend on the peak alone.
        result_bits: fractional bits of the result.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault) if the value leaves no room for the factor, or the factor is too small.
    """
    wanted = _GOOD_BITS - (_MOST - magnitude_bits)
    cut = min(wanted, scale_bits - result_bits - _bits_above(factor.peak))
    if cut > 0:
        share = yield from truncate(engine, np.ascontiguousarray(share), cut)
        scale_bits, magnitude_bits = scale_bits - cut, max(magnitude_bits - cut, 0) + 1
    bits = min(MAX_BITS, _MOST - magnitude_bits)
    if bits < MIN_BITS:
        raise ConfideError(
            ErrorCode.INVALID_JOB, "a value is too large to be scaled exactly enough", remedy="Use smaller batches."
        )
    exponent = bits - _bits_above(factor.peak)
    scaled = share * np.int64(round(factor.value * Fraction(2) ** exponent))
    shift = scale_bits + exponent - result_bits
    if shift <= 0:
        return scaled << np.int64(-shift)
    if shift > _MOST:
        raise ConfideError(ErrorCode.INVALID_JOB, "a public factor is too small to be represented")
    return (yield from truncate(engine, np.ascontiguousarray(scaled), shift))


def scale_terms(engine: Engine, combination: Combination, factor: Factor, *, result_bits: int) -> Steps[RingArray]:
    """Returns this party's share of a combination times a public factor: every term as `scale_share`, all in one round."""
    scaled = yield from together(
        *(
            scale_share(
                engine,
                term.view.share,
                magnitude_bits=term.view.value.magnitude_bits,
                scale_bits=term.view.value.scale_bits,
                factor=Factor(term.factor * factor.value, abs(term.factor) * factor.peak),
                result_bits=result_bits,
            )
            for term in combination.terms
        )
    )
    return add_up(scaled)


def add_up(shares: Sequence[RingArray]) -> RingArray:
    """Returns the sum of shares of one shape."""
    total = np.zeros_like(shares[0])
    for share in shares:
        total = total + share
    return total


def _bits_above(value: Fraction) -> int:
    """Returns the least whole t with value <= 2^t, for a positive value."""
    top = value.numerator.bit_length() - value.denominator.bit_length()
    return top if value <= Fraction(2) ** top else top + 1
