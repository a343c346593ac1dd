"""Linear combinations of shared values whose scaling waits until it must be paid for.

Adding, and multiplying by a public number, cost nothing on shares, but a public number that is no integer needs a truncation,
hence a round. A combination keeps its factors exactly, as fractions, and `settle` pays for all of them at once: every term is
multiplied by 16 significant bits of its factor and truncated, all terms of all tensors of a step in one round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.multiples import MINUS_ONE, ONE, Multiple, multiple_of, times
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.values import MAX_MAGNITUDE_BITS, PartialShare, SharedValue, ValueView
from protocols.ring import RingArray

FACTOR_BITS = 16
_MAX_EXACT_BITS = 8  # a longer factor is cheaper to round than to carry
_REMEMBERED = 4096  # of each thing that follows from scales, bounds and factors alone


# Of a term: its factor, and the fractional bits and the bound of its value; all that decides how it is brought to a scale.
Form = tuple[Multiple, int, int]


# Made for every operation of every step, hence not frozen, which costs more than all else about them; never changed.
@dataclass(slots=True, eq=False)
class Term:
    """A public factor times a shared value seen through a linear view.

    Attributes:
        view: the value; secret.
        multiple: the factor; public.
    """

    view: ValueView
    multiple: Multiple = ONE

    @property
    def factor(self) -> Fraction:
        """The factor; public."""
        return self.multiple.factor

    @property
    def rows(self) -> int:
        """Over how many rows the term is a mean; 1 if it is none."""
        return self.multiple.rows

    def bounded(self, proven_bits: int, *, scale_bits: int, limit_bits: int) -> int:
        """Returns the smaller of a proven bound on a ring element and what follows from a declared limit on the term.

        Args:
            proven_bits: the value is at most 2^proven_bits as a ring element.
            scale_bits: its fractional bits.
            limit_bits: declared: the term, or the sum that it is the mean of, is below 2^limit_bits as a real number.
        """
        return min(proven_bits, scale_bits + limit_bits - self.multiple.limit_log2)

    def seen(self, view: ValueView) -> Term:
        """Returns the same multiple of another value."""
        return Term(view, self.multiple)


class Combination:
    """A sum of terms of one shape; secret, except for shapes, scales and factors. It is never changed.

    Args:
        terms: at least one.

    Attributes:
        terms: see the arguments.
        shape: of the tensor; public.
    """

    __slots__ = ("shape", "terms")

    def __init__(self, terms: tuple[Term, ...]) -> None:
        self.terms = terms
        self.shape = terms[0].view.shape

    @staticmethod
    def of(value: SharedValue | ValueView) -> Combination:
        """Returns a combination of one term."""
        return Combination((Term(value if isinstance(value, ValueView) else ValueView(value)),))

    def plus(self, other: Combination) -> Combination:
        """Returns the sum, with the shapes broadcast as usual."""
        one, two = self, other
        if one.shape != two.shape:
            shape = np.broadcast_shapes(one.shape, two.shape)
            one, two = one.broadcast(shape), two.broadcast(shape)
        terms = list(one.terms)
        if len(terms) > 1:
            terms = []
            for term in one.terms:
                _merge(terms, term)
        for term in two.terms:
            _merge(terms, term)
        return Combination(tuple(terms))

    def times(self, factor: Fraction) -> Combination:
        """Returns the product with a public number."""
        if factor == 1:
            return self
        if factor == 0:
            return self.mapped(np.zeros_like, growth_bits=0)
        return self._multiplied(multiple_of(factor))

    def negated(self) -> Combination:
        """Returns the negative."""
        return self._multiplied(MINUS_ONE)

    def mean_over(self, rows: int) -> Combination:
        """Returns the quotient by a number of rows, for whose sum the declared limits hold from now on."""
        return self._multiplied(multiple_of(Fraction(1, rows), rows))

    def _multiplied(self, multiple: Multiple) -> Combination:
        return Combination(tuple([Term(term.view, times(term.multiple, multiple)) for term in self.terms]))

    def transpose(self) -> Combination:
        """Returns the transpose; masks are shared with it."""
        return Combination(tuple([Term(term.view.transpose, term.multiple) for term in self.terms]))

    def folded(self, shape: tuple[int, ...]) -> Combination:
        """Returns the same elements in another shape; masks are shared with it, but for transposed views."""
        return Combination(tuple([Term(term.view.folded(shape), term.multiple) for term in self.terms]))

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
        terms = self.terms
        if len(terms) == 1 and terms[0].multiple.is_unit:
            return terms[0]
        joint = _joint_form(tuple([form_of(term) for term in terms]))
        if joint is None:
            return None
        parts = [term.view.partial.times(factor) for term, factor in zip(terms, joint.multipliers, strict=True)]
        value = SharedValue(reduce(PartialShare.plus, parts), scale_bits=joint.scale_bits, magnitude_bits=joint.magnitude_bits)
        return Term(ValueView(value))

    def is_settled(self, scale_bits: int) -> bool:
        """Whether this is one value at that scale already."""
        term = self.terms[0]
        return len(self.terms) == 1 and term.multiple.is_unit and term.view.value.scale_bits == scale_bits

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


@dataclass(frozen=True)
class _Exact:
    """A term without any rounding: a whole multiple of the value, at another scale; public."""

    multiplier: int
    scale_bits: int
    magnitude_bits: int


@dataclass(frozen=True)
class _JointForm:
    """Terms without any rounding at one scale: a whole multiplier for each; public."""

    multipliers: tuple[int, ...]
    scale_bits: int
    magnitude_bits: int


@dataclass(frozen=True)
class _Settling:
    """How a term is brought to a scale: cut by some bits, multiplied, truncated by more (or shifted up, if negative); public.

    Attributes:
        cut: bits that go before the multiplication; not positive if none do.
        multiplier: a whole number.
        shift: bits that go after it.
        magnitude_bits: what comes of it is at most 2^magnitude_bits.
    """

    cut: int
    multiplier: int
    shift: int
    magnitude_bits: int


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
    settling, share = _settling(form_of(term), scale_bits), term.view.partial
    if settling.cut > 0:
        share = PartialShare((yield from truncate(engine, share.contiguous(), settling.cut)))
    share = share.times(settling.multiplier)
    if settling.shift <= 0:
        return np.asarray(share.whole() << np.int64(-settling.shift)), settling.magnitude_bits
    return (yield from truncate(engine, share.contiguous(), settling.shift)), settling.magnitude_bits


@lru_cache(maxsize=_REMEMBERED)
def _settling(form: Form, scale_bits: int) -> _Settling:
    multiple, scale, bound = form
    exact, cut = _exact(form), 0
    if exact is not None:
        multiplier, scale, bound = exact.multiplier, exact.scale_bits, exact.magnitude_bits
    else:
        cut = _cut_before_scaling(form, scale_bits)
        if cut > 0:
            scale, bound = scale - cut, bound - cut
        multiplier, fraction_bits = _mantissa(multiple.factor, bound)
        scale, bound = scale + fraction_bits, bound + abs(multiplier).bit_length()
    shift = scale - scale_bits
    if shift > MAX_MAGNITUDE_BITS:
        raise ConfideError(ErrorCode.INVALID_JOB, "a public factor is too small to be represented")
    # One bit more for the unit that rounding may add.
    return _Settling(cut, multiplier, shift, bound - shift if shift <= 0 else max(bound - shift, 0) + 1)


def form_of(term: Term) -> Form:
    """Returns all that decides how a term is brought to a scale; public."""
    value = term.view.value
    return term.multiple, value.scale_bits, value.magnitude_bits


def _cut_before_scaling(form: Form, scale_bits: int) -> int:
    """How many low bits of a value go first, so that 16 bits of its factor fit beside it.

    Those that the result does not show, and those below 16 fractional bits: a rough factor would do more harm.
    """
    multiple, scale, magnitude = form
    missing = FACTOR_BITS - (MAX_MAGNITUDE_BITS - 1 - magnitude)
    unseen = scale - scale_bits - _top(multiple.factor)
    return min(missing, max(unseen, scale - VALUE_BITS))


def _top(factor: Fraction) -> int:
    """The least whole t with |factor| < 2^t, or one more."""
    return abs(factor.numerator).bit_length() - factor.denominator.bit_length() + 1


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


@lru_cache(maxsize=_REMEMBERED)
def _joint_form(forms: tuple[Form, ...]) -> _JointForm | None:
    """How terms become one value without any rounding; None if one of them cannot, or the sum had no room."""
    known = [item for item in map(_exact, forms) if item is not None]
    if len(known) < len(forms):
        return None
    scale = max(item.scale_bits for item in known)
    magnitudes = [item.magnitude_bits + scale - item.scale_bits for item in known]
    magnitude = max(magnitudes) + (len(magnitudes) - 1).bit_length()
    if magnitude > MAX_MAGNITUDE_BITS:
        return None
    return _JointForm(tuple([item.multiplier << (scale - item.scale_bits) for item in known]), scale, magnitude)


def _exact(form: Form) -> _Exact | None:
    """The term without any rounding, if its factor is a small integer over a power of two."""
    multiple, scale_bits, magnitude_bits = form
    numerator, denominator = multiple.numerator, multiple.denominator
    # An even numerator has denominator 1; taking out its powers of two costs scale instead of magnitude.
    twos = (numerator & -numerator).bit_length() - 1
    odd = numerator >> twos
    growth = (abs(odd) - 1).bit_length()
    if denominator & (denominator - 1) or growth > _MAX_EXACT_BITS or magnitude_bits + growth > MAX_MAGNITUDE_BITS:
        return None
    return _Exact(odd, scale_bits + denominator.bit_length() - 1 - twos, magnitude_bits + growth)


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


def _is_like(term: Term, other: Term) -> bool:
    """Whether two terms have the same scale and factor, up to its sign."""
    if term.view.value.scale_bits != other.view.value.scale_bits:
        return False
    one, two = term.multiple, other.multiple
    return one is two or (
        one.rows == two.rows and one.denominator == two.denominator and abs(one.numerator) == abs(two.numerator)
    )


def _merge(terms: list[Term], term: Term) -> None:
    """Adds a term to a list, into one of the same scale and factor (up to sign) if there is one."""
    for index, other in enumerate(terms):
        if _is_like(term, other):
            mine, its = term.view.value, other.view.value
            magnitude = max(mine.magnitude_bits, its.magnitude_bits) + 1
            if magnitude > MAX_MAGNITUDE_BITS:
                break
            combine = np.add if term.multiple.numerator == other.multiple.numerator else np.subtract
            share = np.asarray(combine(other.view.share, term.view.share))
            merged = SharedValue(share, scale_bits=mine.scale_bits, magnitude_bits=magnitude)
            terms[index] = other.seen(ValueView(merged))
            return
    terms.append(term)
