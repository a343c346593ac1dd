"""Sums, products and powers of shared tensors.

Public numbers are multiplied locally; a product of two secret tensors opens each of them once, under its own mask.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import VALUE_BITS
from protocols.mpc.combination import Combination, Term, map_one
from protocols.mpc.multiples import Multiple, times
from protocols.mpc.primitives.products import elementwise, partial_product
from protocols.mpc.tensor.shared_tensor import (
    VALUE_LIMIT_BITS,
    SharedTensor,
    constant_of,
    current_engine,
    refused,
    tensor_of,
    wrapped,
)
from protocols.mpc.values import MAX_MAGNITUDE_BITS, PartialShare, SharedValue, ValueView
from protocols.ring import RingArray, matmul

MAX_POWER = 64
_FACTOR_BITS = 16  # significant bits of the largest number of a public array
_MAX_FACTOR_BITS = 40
_MOST_BITS = 62
_REMEMBERED = 4096
_PRODUCT_LIMITS = ((_MOST_BITS, _MOST_BITS), (_MOST_BITS, VALUE_BITS), (VALUE_BITS, _MOST_BITS), (VALUE_BITS, VALUE_BITS))


def linear(
    tensor: SharedTensor, function: Callable[[RingArray], RingArray], *, growth_bits: int, scale_bits: int = 0
) -> SharedTensor:
    """Returns a linear map with whole coefficients; no round, or one if the value is too large to grow.

    Args:
        tensor: secret.
        function: acts on shares.
        growth_bits: absolute values of ring elements grow by at most 2^growth_bits.
        scale_bits: fractional bits of the coefficients.
    """
    combination = tensor.combination
    if combination.has_room(growth_bits):
        return tensor_of(combination.mapped(function, growth_bits=growth_bits, scale_bits=scale_bits))
    term = tensor.coarse(VALUE_BITS)
    return tensor_of(Combination((map_one(term, function, growth_bits, scale_bits, VALUE_LIMIT_BITS),)))


def add(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns the sum with a tensor or public numbers; no communication."""
    two = wrapped(other)
    return tensor_of(self.combination.plus(two.combination), _both(self, two, np.add))


def sub(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns the difference with a tensor or public numbers; no communication."""
    two = wrapped(other)
    return tensor_of(self.combination.plus(two.combination.negated()), _both(self, two, np.subtract))


def rsub(self: SharedTensor, other: Any) -> Any:
    """Returns other minus self; no communication."""
    return self.neg().add(other)


def neg(self: SharedTensor) -> SharedTensor:
    """Returns the negative; no communication."""
    return tensor_of(self.combination.negated(), None if self.constant is None else np.asarray(-self.constant))


def mul(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns the elementwise product: with public numbers for free, with a secret tensor in one round."""
    if not isinstance(other, SharedTensor) and is_number(other):
        return _scaled(self, _fraction(other))
    for secret, public in ((self, other), (other, self)):
        values = constant_of(public)
        if values is not None:
            return _times_public(wrapped(secret), values)
    left, right, magnitude = fitted(_at_least_1d(self), _at_least_1d(other), inner=1)
    share = current_engine().run(elementwise(current_engine(), left.view, right.view))
    shape = np.broadcast_shapes(self.shape, other.shape)
    return product_of(left, right, share.reshape(shape), magnitude)


def div(self: SharedTensor, other: Any) -> Any:
    """Returns the quotient: by public numbers exact until it is settled, by a secret tensor through its reciprocal."""
    if is_number(other):
        if other == 0:
            raise refused("div by zero")
        return self.mul(1 / _fraction(other))
    values = constant_of(other)
    if values is None:
        return self.mul(other.reciprocal())
    if not values.all():
        raise refused("div by zero")
    if values.size == 1:
        return self.mul(1 / _fraction(values.reshape(-1)[0])).expand(np.broadcast_shapes(self.shape, values.shape))
    return self.mul(1.0 / values)


def mean_over(self: SharedTensor, rows: int) -> SharedTensor:
    """Returns a gradient divided by the number of rows that it is summed over; declared limits hold for the sum."""
    return SharedTensor(combination=self.combination.mean_over(rows))


def rdiv(self: SharedTensor, other: Any) -> Any:
    """Returns other divided by self, through the reciprocal."""
    return self.reciprocal().mul(other)


def square(self: SharedTensor) -> SharedTensor:
    """Returns the square; one round."""
    return mul(self, self)


def multiply_matrices(self: SharedTensor, other: Any) -> SharedTensor:
    """Returns the matrix product over the last two dimensions, leading ones broadcast; one round, none with public numbers."""
    values = constant_of(other)
    if values is not None:
        return _times_public_matrix(wrapped(self), values)
    if self.constant is not None:
        return _turned(multiply_matrices(_turned(other), np.swapaxes(self.constant, -1, -2)))
    left, right, magnitude = fitted(self, other, inner=self.shape[-1])
    engine = current_engine()
    share = engine.run(partial_product(engine, left.view, right.view))
    return product_of(left, right, share, magnitude)


def affine(self: SharedTensor, weight: SharedTensor, bias: SharedTensor | None = None) -> SharedTensor:
    """Returns (rows, outputs) of (rows, inputs) times the transpose of (outputs, inputs), plus (outputs,); one round."""
    product = multiply_matrices(self, weight.turned())
    return product if bias is None else add(product, bias)


def power(self: SharedTensor, exponent: Any) -> SharedTensor:
    """Returns a whole power from -64 to 64, by repeated squaring; a negative one through the reciprocal."""
    if not is_number(exponent) or int(exponent) != exponent or abs(exponent) > MAX_POWER:
        raise refused(f"pow with an exponent that is no whole number from -{MAX_POWER} to {MAX_POWER}")
    count = abs(int(exponent))
    if count == 0:
        return SharedTensor(np.ones(self.shape))
    base: Any = self if exponent > 0 else self.reciprocal()
    result: Any = None
    while True:
        if count & 1:
            result = base if result is None else result.mul(base)
        count >>= 1
        if not count:
            return wrapped(result).clone()
        base = base.square()


def is_number(value: Any) -> bool:
    """Whether a value is one public number."""
    return isinstance(value, int | float | Fraction | np.number) and not isinstance(value, np.ndarray)


def _turned(tensor: SharedTensor) -> SharedTensor:
    result: SharedTensor = wrapped(tensor).transpose(-1, -2)
    return result


def _at_least_1d(tensor: SharedTensor) -> SharedTensor:
    result: SharedTensor = tensor if tensor.dim() else tensor.reshape(1)
    return result


def fitted(left: SharedTensor, right: SharedTensor, *, inner: int) -> tuple[Term, Term, int]:
    """Returns operands whose product stays in its domain, with as many of their fractional bits as that allows."""
    one, two = left.operand(), right.operand()
    growth = (inner - 1).bit_length()
    fit = _fit(_operand(one), _operand(two), growth)
    if fit is not None:
        first, second, magnitude = fit
        one = one if one.view.value.scale_bits <= first else left.coarse(first)
        two = two if two.view.value.scale_bits <= second else right.coarse(second)
        return one, two, magnitude
    # A small pending factor stands for a large value; multiplied in, both are below the declared limit at 16 bits each.
    one = one if _is_cut_for_session(_operand(one), VALUE_BITS) else left.folded()
    two = two if _is_cut_for_session(_operand(two), VALUE_BITS) else right.folded()
    return one, two, _product_bound(_cut(_operand(one), _MOST_BITS), _cut(_operand(two), _MOST_BITS), growth)


# Of an operand: its factor, the fractional bits and the bound of its value, and whether the value's mask serves the session.
_Operand = tuple[Multiple, int, int, bool]


def _operand(term: Term) -> _Operand:
    value = term.view.value
    return term.multiple, value.scale_bits, value.magnitude_bits, value.for_session


@lru_cache(maxsize=_REMEMBERED)
def _fit(one: _Operand, two: _Operand, growth: int) -> tuple[int, int, int] | None:
    """The most fractional bits of two operands for which their product stays in its domain, and its bound; None if none do."""
    for first, second in _PRODUCT_LIMITS:
        magnitude = _product_bound(_cut(one, first), _cut(two, second), growth)
        if magnitude <= MAX_MAGNITUDE_BITS and not (_is_cut_for_session(one, first) or _is_cut_for_session(two, second)):
            return first, second, magnitude
    return None


def _is_cut_for_session(operand: _Operand, scale_bits: int) -> bool:
    """Whether bits would be cut off a value whose mask serves the session: it would be opened anew in every segment."""
    _, scale, _, for_session = operand
    return for_session and scale > scale_bits


def _cut(operand: _Operand, scale_bits: int) -> _Operand:
    """An operand after it is brought to at most so many fractional bits."""
    multiple, scale, magnitude, for_session = operand
    removed = scale - scale_bits
    if removed <= 0:
        return operand
    return multiple, scale_bits, max(magnitude - removed, 0) + 1, for_session


def _product_bound(one: _Operand, two: _Operand, growth: int) -> int:
    """The smaller of the proven bound and of what follows from the limit that is declared of the product."""
    limit = one[1] + two[1] + VALUE_LIMIT_BITS - times(one[0], two[0]).limit_log2
    return min(one[2] + two[2] + growth, limit)


def product_of(left: Term, right: Term, share: RingArray | PartialShare, magnitude_bits: int) -> SharedTensor:
    """Returns a product of two terms as a tensor, from this party's share of the product of their values."""
    scale = left.view.value.scale_bits + right.view.value.scale_bits
    value = SharedValue(share, scale_bits=scale, magnitude_bits=magnitude_bits)
    return tensor_of(Combination((Term(ValueView(value), times(left.multiple, right.multiple)),)))


def _scaled(tensor: SharedTensor, factor: Fraction) -> SharedTensor:
    constant = None if tensor.constant is None else np.asarray(tensor.constant * float(factor))
    return tensor_of(tensor.combination.times(factor), constant)


def _both(
    one: SharedTensor, two: SharedTensor, function: Callable[[Any, Any], NDArray[np.float64]]
) -> NDArray[np.float64] | None:
    return None if one.constant is None or two.constant is None else np.asarray(function(one.constant, two.constant))


def _times_public(tensor: SharedTensor, values: NDArray[np.float64]) -> SharedTensor:
    if values.size == 1 or (values.size > 0 and bool((values == values.flat[0]).all())):
        shape = np.broadcast_shapes(tensor.combination.shape, values.shape)
        constant = None if tensor.constant is None else np.asarray(tensor.constant * values)
        return tensor_of(tensor.combination.times(_fraction(values.flat[0])).broadcast(shape), constant)
    coefficients, scale, growth = encoded(values)
    return linear(tensor, lambda share: np.asarray(share * coefficients), growth_bits=growth, scale_bits=scale)


def _times_public_matrix(tensor: SharedTensor, values: NDArray[np.float64]) -> SharedTensor:
    coefficients, scale, growth = encoded(values)
    growth += (values.shape[-2] - 1).bit_length()
    return linear(tensor, lambda share: matmul(share, coefficients), growth_bits=growth, scale_bits=scale)


def encoded(values: NDArray[np.float64]) -> tuple[RingArray, int, int]:
    """Returns public coefficients as ring elements, their fractional bits and the bits they may reach.

    Whole numbers stay whole; others have 16 fractional bits, or more where all are small.
    """
    if not bool((np.abs(values) <= 2.0**VALUE_LIMIT_BITS).all()):  # False for NaN
        raise refused("a product with public numbers beyond 2^20")
    scale = 0
    if not bool((values == np.rint(values)).all()):
        # The exponent of the largest: below 2^top.
        top = int(np.frexp(np.abs(values).max())[1])
        scale = min(max(_FACTOR_BITS, _FACTOR_BITS - top), _MAX_FACTOR_BITS)
    coefficients = np.rint(values * 2.0**scale).astype(np.int64)
    largest = int(np.abs(coefficients).max(initial=1))
    return coefficients, scale, max(largest - 1, 0).bit_length()


def _fraction(value: Any) -> Fraction:
    if isinstance(value, Fraction):
        return value
    if not np.isfinite(value):
        raise refused("a product with a public number that is not finite")
    return Fraction(int(value)) if isinstance(value, int | np.integer) else Fraction(float(value))
