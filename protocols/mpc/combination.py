"""Linear combinations of shared values whose scaling waits until it must be paid for.

Adding, and multiplying by a public number, cost nothing on shares, but a public number that is no integer needs a truncation,
hence a round. A combination keeps its factors exactly, as fractions, and `settle` pays for all of them at once: every term is
multiplied by 16 significant bits of its factor and truncated, all terms of all tensors of a step in one round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.values import MAX_MAGNITUDE_BITS, PartialShare, SharedValue, ValueView
from protocols.ring import RingArray

FACTOR_BITS = 16
_MAX_EXACT_BITS = 8  # a longer factor is cheaper to round than to carry
_ONE = Fraction(1)


# Made for every operation of every step, hence not frozen, which costs more than all else about them; never changed.
@dataclass(slots=True, eq=False)
class Term:
    """`factor` times a shared value seen through a linear view.

    Attributes:
        view: the value; secret.
        factor: public.
        rows: the term is the mean over so many rows, as a gradient is, and the declared limits hold for the sum; 1 otherwise.
    """

    view: ValueView
    factor: Fraction
    rows: int = 1

    def bounded(self, proven_bits: int, *, scale_bits: int, limit_bits: int) -> int:
        """Returns the smaller of a proven bound on the ring element and what follows from a declared limit on the term."""
        factor = self.factor if self.rows == 1 else self.factor * self.rows
        return bounded(factor, proven_bits, scale_bits=scale_bits, limit_bits=limit_bits)

    def seen(self, view: ValueView) -> Term:
        """Returns the same multiple of another value."""
        return Term(view, self.factor, self.rows)


@dataclass(slots=True, eq=False)
class Combination:
    """A sum of terms of one shape; secret, except for shapes, scales and factors."""

    terms: tuple[Term, ...]

    @staticmethod
    def of(value: SharedValue | ValueView, factor: Fraction = _ONE) -> Combination:
        """Returns a combination of one term."""
        return Combination((Term(value if isinstance(value, ValueView) else ValueView(value), factor),))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor; public."""
        return self.terms[0].view.shape

    def plus(self, other: Combination) -> Combination:
        """Returns the sum, with the shapes broadcast as usual."""
        mine, its = self.shape, other.shape
        shape = mine if mine == its else np.broadcast_shapes(mine, its)
        terms: list[Term] = []
        for term in (*self.broadcast(shape).terms, *other.broadcast(shape).terms):
            _merge(terms, term)
        return Combination(tuple(terms))

    def times(self, factor: Fraction) -> Combination:
        """Returns the product with a public number."""
        if factor == 1:
            return self
        if factor == 0:
            return self.mapped(np.zeros_like, growth_bits=0)
        return Combination(tuple([Term(term.view, times(term.factor, factor), term.rows) for term in self.terms]))

    def mean_over(self, rows: int) -> Combination:
        """Returns the quotient by a number of rows, for whose sum the declared limits hold from now on."""
        return Combination(tuple([Term(term.view, term.factor / rows, term.rows * rows) for term in self.terms]))

    def transpose(self) -> Combination:
        """Returns the transpose; masks are shared with it."""
        return Combination(tuple([term.seen(term.view.transpose) for term in self.terms]))

    def folded(self, shape: tuple[int, ...]) -> Combination:
        """Returns the same elements in another shape; masks are shared with it, but for transposed views."""
        return Combination(tuple([term.seen(term.view.folded(shape)) for term in self.terms]))

    def mapped(self, function: Callable[[RingArray], RingArray], *, growth_bits: int, scale_bits: int = 0) -> Combination:
        """Returns a linear map of the shares.

        Args:
            function: the map, with whole coefficients.
            growth_bits: absolute values of ring elements grow by at most 2^growth_bits.
            scale_bits: fractional bits of the map's coefficients.
        """
        return Combination(tuple([_mapped(term, function, growth_bits, scale_bits, None) for term in self.terms]))

    def has_room(self, growth_bits: int) -> bool:
        """Whether all terms may grow by 2^growth_bits and still be truncated and compared."""
        return max([term.view.value.magnitude_bits for term in self.terms]) + growth_bits <= MAX_MAGNITUDE_BITS

    def single(self) -> Term | None:
        """Returns the combination as one term if that is exact and costs nothing, else None."""
        return self.terms[0] if len(self.terms) == 1 else self.whole()

    def whole(self) -> Term | None:
        """Returns the combination as one value with factor 1 if that is exact and costs nothing, else None."""
        if len(self.terms) == 1 and self.terms[0].factor == 1:
            return self.terms[0]
        exact = [_exact(term) for term in self.terms]
        known = [item for item in exact if item is not None]
        if len(known) < len(exact):
            return None
        scale = max(item.scale_bits for item in known)
        magnitudes = [item.magnitude_bits + scale - item.scale_bits for item in known]
        magnitude = max(magnitudes) + (len(magnitudes) - 1).bit_length()
        if magnitude > MAX_MAGNITUDE_BITS:
            return None
        parts = [item.partial().times(1 << (scale - item.scale_bits)) for item in known]
        share = reduce(PartialShare.plus, parts)
        return Term(ValueView(SharedValue(share, scale_bits=scale, magnitude_bits=magnitude)), _ONE)

    def is_settled(self, scale_bits: int) -> bool:
        """Whether this is one value at that scale already."""
        term = self.terms[0]
        return len(self.terms) == 1 and term.factor == 1 and term.view.value.scale_bits == scale_bits

    def settle(self, engine: Engine, scale_bits: int, *, magnitude_bits: int) -> Steps[SharedValue]:
        """Returns the value at one scale; one round, two where a term is too large for its factor, none if all is exact.

        Each term is within 2 units of the result, or of 2^-16 times its factor if it is too large for its factor, and within
        2^-16 of itself (2^-7 in the worst case that is not refused).

        Args:
            engine: this party's engine.
            scale_bits: the result's fractional bits.
            magnitude_bits: the declared bound on the result as a ring element; a smaller one that is proven is kept instead.

        Raises:
            ConfideError: INVALID_JOB (the querier's fault) if a term cannot be scaled exactly enough.
        """
        settled = yield from together(*(_settle_term(engine, term, scale_bits) for term in self.terms))
        total = reduce(np.add, (share.reshape(self.shape) for share, _ in settled))
        proven = max(bound for _, bound in settled) + (len(settled) - 1).bit_length()
        return SharedValue(total, scale_bits=scale_bits, magnitude_bits=min(magnitude_bits, proven))

    def broadcast(self, shape: tuple[int, ...]) -> Combination:
        """Returns the combination repeated to a shape."""
        if self.shape == shape:
            return self
        return self.mapped(lambda share: np.broadcast_to(share, shape).copy(), growth_bits=0)


@dataclass(slots=True, eq=False)
class _Exact:
    """A whole multiple of a value, at another scale."""

    view: ValueView
    multiplier: int
    scale_bits: int
    magnitude_bits: int

    def partial(self) -> PartialShare:
        return self.view.partial.times(self.multiplier)


def settle_all(
    engine: Engine, combinations: Sequence[Combination], scale_bits: int, *, magnitude_bits: int
) -> Steps[list[SharedValue]]:
    """Settles several combinations in one round."""
    settled = yield from together(
        *(combination.settle(engine, scale_bits, magnitude_bits=magnitude_bits) for combination in combinations)
    )
    return settled


def _settle_term(engine: Engine, term: Term, scale_bits: int) -> Steps[tuple[RingArray, int]]:
    """Returns the share of a term at one scale, and the bits that bound it."""
    value = term.view.value
    exact = _exact(term)
    if exact is not None:
        share, scale, bound = exact.partial(), exact.scale_bits, exact.magnitude_bits
    else:
        share, scale, bound = term.view.partial, value.scale_bits, value.magnitude_bits
        cut = _cut_before_scaling(term, scale_bits)
        if cut > 0:
            truncated = yield from truncate(engine, share.contiguous(), cut)
            share, scale, bound = PartialShare(truncated), scale - cut, bound - cut
        multiplier, fraction_bits = _mantissa(term.factor, bound)
        share, scale = share.times(multiplier), scale + fraction_bits
        bound += abs(multiplier).bit_length()
    shift = scale - scale_bits
    if shift <= 0:
        return np.asarray(share.whole() << np.int64(-shift)), bound - shift
    if shift > MAX_MAGNITUDE_BITS:
        raise ConfideError(ErrorCode.INVALID_JOB, "a public factor is too small to be represented")
    # One bit more for the unit that rounding may add.
    return (yield from truncate(engine, share.contiguous(), shift)), max(bound - shift, 0) + 1


def _cut_before_scaling(term: Term, scale_bits: int) -> int:
    """How many low bits of a value go first, so that 16 bits of its factor fit beside it.

    Those that the result does not show, and those below 16 fractional bits: a rough factor would do more harm.
    """
    value = term.view.value
    missing = FACTOR_BITS - (MAX_MAGNITUDE_BITS - 1 - value.magnitude_bits)
    unseen = value.scale_bits - scale_bits - _top(term.factor)
    return min(missing, max(unseen, value.scale_bits - VALUE_BITS))


def _top(factor: Fraction) -> int:
    """The least whole t with |factor| < 2^t, or one more."""
    return abs(factor.numerator).bit_length() - factor.denominator.bit_length() + 1


def floor_log2(factor: Fraction) -> int:
    """Returns the largest whole t with 2^t <= |factor|."""
    numerator, denominator = abs(factor.numerator), factor.denominator
    close = numerator.bit_length() - denominator.bit_length()
    reaches = numerator >= denominator << close if close >= 0 else numerator << -close >= denominator
    return close if reaches else close - 1


def _mantissa(factor: Fraction, magnitude_bits: int) -> tuple[int, int]:
    """Returns (m, e) with m / 2^e close to the factor, as many bits in m as fit beside the value, at most 16."""
    bits = min(FACTOR_BITS, MAX_MAGNITUDE_BITS - 1 - magnitude_bits)
    if bits < FACTOR_BITS // 2:
        raise ConfideError(
            ErrorCode.INVALID_JOB, "a value is too large to be scaled exactly enough", remedy="Use smaller batches."
        )
    fraction_bits = bits - _top(factor)
    return round(factor * _power_of_two(fraction_bits)), fraction_bits


def _power_of_two(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def _exact(term: Term) -> _Exact | None:
    """The term without any rounding, if its factor is a small integer over a power of two."""
    numerator, denominator = term.factor.numerator, term.factor.denominator
    value = term.view.value
    # An even numerator has denominator 1; taking out its powers of two costs scale instead of magnitude.
    twos = (numerator & -numerator).bit_length() - 1
    odd = numerator >> twos
    growth = (abs(odd) - 1).bit_length()
    if denominator & (denominator - 1) or growth > _MAX_EXACT_BITS or value.magnitude_bits + growth > MAX_MAGNITUDE_BITS:
        return None
    scale = value.scale_bits + denominator.bit_length() - 1 - twos
    return _Exact(term.view, odd, scale, value.magnitude_bits + growth)


def bounded(factor: Fraction, proven_bits: int, *, scale_bits: int, limit_bits: int) -> int:
    """Returns the smaller of a proven bound on a ring element and the one that follows from the declared limit of tensors.

    Args:
        factor: what the value is multiplied with, exactly.
        proven_bits: the value is at most 2^proven_bits as a ring element.
        scale_bits: its fractional bits.
        limit_bits: declared: factor times value is below 2^limit_bits as a real number.
    """
    return min(proven_bits, scale_bits + limit_bits - floor_log2(factor))


def map_one(term: Term, function: Callable[[RingArray], RingArray], growth_bits: int, scale_bits: int, limit_bits: int) -> Term:
    """Returns a linear map of one term whose result is declared to be below 2^limit_bits; see `Combination.mapped`."""
    return _mapped(term, function, growth_bits, scale_bits, limit_bits)


def _mapped(
    term: Term, function: Callable[[RingArray], RingArray], growth_bits: int, scale_bits: int, limit_bits: int | None
) -> Term:
    value = term.view.value
    share = np.asarray(function(term.view.share))
    scale = value.scale_bits + scale_bits
    magnitude = value.magnitude_bits + growth_bits
    if limit_bits is not None:
        magnitude = term.bounded(magnitude, scale_bits=scale, limit_bits=limit_bits)
    return term.seen(ValueView(SharedValue(share, scale_bits=scale, magnitude_bits=magnitude)))


def times(one: Fraction, two: Fraction) -> Fraction:
    """Returns the product; what it is with 1 is most of all products of factors."""
    if one == 1:
        return two
    return one if two == 1 else one * two


def _same_size(one: Fraction, two: Fraction) -> bool:
    return one.denominator == two.denominator and abs(one.numerator) == abs(two.numerator)


def _merge(terms: list[Term], term: Term) -> None:
    """Adds a term to a list, into one of the same scale and factor (up to sign) if there is one."""
    for index, other in enumerate(terms):
        mine, its = term.view.value, other.view.value
        if mine.scale_bits == its.scale_bits and term.rows == other.rows and _same_size(term.factor, other.factor):
            magnitude = max(mine.magnitude_bits, its.magnitude_bits) + 1
            if magnitude > MAX_MAGNITUDE_BITS:
                break
            combine = np.add if term.factor == other.factor else np.subtract
            share = np.asarray(combine(other.view.share, term.view.share))
            merged = SharedValue(share, scale_bits=mine.scale_bits, magnitude_bits=magnitude)
            terms[index] = other.seen(ValueView(merged))
            return
    terms.append(term)
