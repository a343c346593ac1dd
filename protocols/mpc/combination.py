"""Linear combinations of shared values whose scaling waits until it must be paid for.

Adding, and multiplying by a public number, cost nothing on shares, but a public number that is no integer needs a truncation,
hence a round. A combination keeps its factors exactly, as fractions, and `settle` pays for all of them at once: every term is
multiplied by 16 significant bits of its factor and truncated, all terms of all tensors of a step in one round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.values import MAX_MAGNITUDE_BITS, SharedValue, ValueView
from protocols.ring import RingArray

FACTOR_BITS = 16
_MAX_EXACT_BITS = 8  # a longer factor is cheaper to round than to carry
_ONE = Fraction(1)


@dataclass(frozen=True)
class Term:
    """`factor` times a shared value seen through a linear view."""

    view: ValueView
    factor: Fraction


@dataclass(frozen=True)
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
        shape = np.broadcast_shapes(self.shape, other.shape)
        terms: list[Term] = []
        for term in (*self.broadcast(shape).terms, *other.broadcast(shape).terms):
            _merge(terms, term)
        return Combination(tuple(terms))

    def times(self, factor: Fraction) -> Combination:
        """Returns the product with a public number."""
        if factor == 0:
            return self.mapped(np.zeros_like, growth_bits=0)
        return Combination(tuple(Term(term.view, term.factor * factor) for term in self.terms))

    def transpose(self) -> Combination:
        """Returns the transpose; masks are shared with it."""
        return Combination(tuple(Term(term.view.transpose, term.factor) for term in self.terms))

    def mapped(self, function: Callable[[RingArray], RingArray], *, growth_bits: int) -> Combination:
        """Returns a linear map of the shares; absolute values grow by at most 2^growth_bits."""
        return Combination(tuple(Term(_mapped(term.view, function, growth_bits), term.factor) for term in self.terms))

    def single(self) -> Term | None:
        """Returns the combination as one term if that is exact and costs nothing, else None."""
        if len(self.terms) == 1:
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
        share = np.zeros(self.shape, np.int64)
        for item in known:
            share += item.share() << np.int64(scale - item.scale_bits)
        return Term(ValueView(SharedValue(share, scale_bits=scale, magnitude_bits=magnitude)), _ONE)

    def is_settled(self, scale_bits: int) -> bool:
        """Whether this is one value at that scale already."""
        term = self.terms[0]
        return len(self.terms) == 1 and term.factor == 1 and term.view.value.scale_bits == scale_bits

    def settle(self, engine: Engine, scale_bits: int, *, magnitude_bits: int) -> Steps[SharedValue]:
        """Returns the value at one scale, each term within 1 unit; one round, or none if no term needs truncation.

        Args:
            engine: this party's engine.
            scale_bits: the result's fractional bits.
            magnitude_bits: the declared bound on the result as a ring element.
        """
        shares = yield from together(*(_settle_term(engine, term, scale_bits) for term in self.terms))
        total = np.zeros(self.shape, np.int64)
        for share in shares:
            total = total + share
        return SharedValue(total, scale_bits=scale_bits, magnitude_bits=magnitude_bits)

    def broadcast(self, shape: tuple[int, ...]) -> Combination:
        """Returns the combination repeated to a shape."""
        if self.shape == shape:
            return self
        return self.mapped(lambda share: np.broadcast_to(share, shape).copy(), growth_bits=0)


@dataclass(frozen=True)
class _Exact:
    """A whole multiple of a value, at another scale."""

    view: ValueView
    multiplier: int
    scale_bits: int
    magnitude_bits: int

    def share(self) -> RingArray:
        share: RingArray = self.view.share * np.int64(self.multiplier)
        return share


def settle_all(
    engine: Engine, combinations: Sequence[Combination], scale_bits: int, *, magnitude_bits: int
) -> Steps[list[SharedValue]]:
    """Settles several combinations in one round."""
    settled = yield from together(
        *(combination.settle(engine, scale_bits, magnitude_bits=magnitude_bits) for combination in combinations)
    )
    return settled


def _settle_term(engine: Engine, term: Term, scale_bits: int) -> Steps[RingArray]:
    value = term.view.value
    exact = _exact(term)
    if exact is not None:
        share, scale = exact.share(), exact.scale_bits
    else:
        multiplier, fraction_bits = _mantissa(term.factor, value.magnitude_bits)
        share, scale = term.view.share * np.int64(multiplier), value.scale_bits + fraction_bits
    shift = scale - scale_bits
    if shift <= 0:
        return share << np.int64(-shift)
    if shift > MAX_MAGNITUDE_BITS:
        raise ConfideError(ErrorCode.INVALID_JOB, "a public factor is too small to be represented")
    return (yield from truncate(engine, np.ascontiguousarray(share), shift))


def _mantissa(factor: Fraction, magnitude_bits: int) -> tuple[int, int]:
    """Returns (m, e) with m / 2^e close to the factor, as many bits in m as fit beside the value, at most 16."""
    bits = min(FACTOR_BITS, MAX_MAGNITUDE_BITS - 1 - magnitude_bits)
    if bits < FACTOR_BITS // 2:
        raise ConfideError(
            ErrorCode.INVALID_JOB, "a value is too large to be scaled exactly enough", remedy="Use smaller batches."
        )
    # |factor| is in [2^(top - 1), 2^top) or, for numerators just below the next power, one more.
    top = abs(factor.numerator).bit_length() - factor.denominator.bit_length() + 1
    fraction_bits = bits - top
    return round(factor * Fraction(2) ** fraction_bits), fraction_bits


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


def _mapped(view: ValueView, function: Callable[[RingArray], RingArray], growth_bits: int) -> ValueView:
    value = view.value
    share = np.asarray(function(view.share))
    return ValueView(SharedValue(share, scale_bits=value.scale_bits, magnitude_bits=value.magnitude_bits + growth_bits))


def _merge(terms: list[Term], term: Term) -> None:
    """Adds a term to a list, into one of the same scale and factor (up to sign) if there is one."""
    for index, other in enumerate(terms):
        mine, its = term.view.value, other.view.value
        if abs(term.factor) == abs(other.factor) and mine.scale_bits == its.scale_bits:
            magnitude = max(mine.magnitude_bits, its.magnitude_bits) + 1
            if magnitude > MAX_MAGNITUDE_BITS:
                break
            sign = 1 if term.factor == other.factor else -1
            share = other.view.share + sign * term.view.share
            merged = SharedValue(share, scale_bits=mine.scale_bits, magnitude_bits=magnitude)
            terms[index] = Term(ValueView(merged), other.factor)
            return
    terms.append(term)
