"""Sums, products and powers of shared tensors.

Public numbers are multiplied locally; a product of two secret tensors opens each of them once, under its own mask.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import VALUE_BITS
from protocols.mpc.combination import Combination, Term, bounded, map_one, times
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
    return tensor_of(self.combination.plus(two.combination.times(Fraction(-1))), _both(self, two, np.subtract))


def rsub(self: SharedTensor, other: Any) -> Any:
    """Returns other minus self; no communication."""
    return self.neg().add(other)


def neg(self: SharedTensor) -> SharedTensor:
    """Returns the negative; no communication."""
    return _scaled(self, Fraction(-1))


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
    shape = np.broadcast_shapes(self.size(), other.size())
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
        return self.mul(1 / _fraction(values.reshape(-1)[0])).expand(np.broadcast_shapes(self.size(), values.shape))
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
    left, right, magnitude = fitted(self, other, inner=int(self.size(-1)))
    share = current_engine().run(partial_product(current_engine(), left.view, right.view))
    return product_of(left, right, share, magnitude)


def power(self: SharedTensor, exponent: Any) -> SharedTensor:
    """Returns a whole power from -64 to 64, by repeated squaring; a negative one through the reciprocal."""
    if not is_number(exponent) or int(exponent) != exponent or abs(exponent) > MAX_POWER:
        raise refused(f"pow with an exponent that is no whole number from -{MAX_POWER} to {MAX_POWER}")
    count = abs(int(exponent))
    if count == 0:
        return SharedTensor(np.ones(tuple(self.size())))
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
    factor = _joint_factor(one, two)
    for first, second in _PRODUCT_LIMITS:
        magnitude = _product_bound(_cut(one, first), _cut(two, second), factor, growth)
        if magnitude <= MAX_MAGNITUDE_BITS and not (_is_cut_for_session(one, first) or _is_cut_for_session(two, second)):
            return left.coarse(first), right.coarse(second), magnitude
    # A small pending factor stands for a large value; multiplied in, both are below the declared limit at 16 bits each.
    one = one if _is_cut_for_session(one, VALUE_BITS) else left.folded()
    two = two if _is_cut_for_session(two, VALUE_BITS) else right.folded()
    return one, two, _product_bound(_cut(one, _MOST_BITS), _cut(two, _MOST_BITS), _joint_factor(one, two), growth)


def _is_cut_for_session(term: Term, scale_bits: int) -> bool:
    """Whether bits would be cut off a value whose mask serves the session: it would be opened anew in every segment."""
    return term.view.value.for_session and term.view.value.scale_bits > scale_bits


def _joint_factor(one: Term, two: Term) -> Fraction:
    """The factor of a product for which its declared limit holds."""
    factor, rows = times(one.factor, two.factor), one.rows * two.rows
    return factor if rows == 1 else factor * rows


def _cut(term: Term, scale_bits: int) -> tuple[int, int]:
    """Scale and magnitude of a term after it is brought to at most so many fractional bits."""
    value = term.view.value
    removed = value.scale_bits - scale_bits
    if removed <= 0:
        return value.scale_bits, value.magnitude_bits
    return scale_bits, max(value.magnitude_bits - removed, 0) + 1


def _product_bound(one: tuple[int, int], two: tuple[int, int], factor: Fraction, growth: int) -> int:
    return bounded(factor, one[1] + two[1] + growth, scale_bits=one[0] + two[0], limit_bits=VALUE_LIMIT_BITS)


def product_of(left: Term, right: Term, share: RingArray | PartialShare, magnitude_bits: int) -> SharedTensor:
    """Returns a product of two terms as a tensor, from this party's share of the product of their values."""
    scale = left.view.value.scale_bits + right.view.value.scale_bits
    value = SharedValue(share, scale_bits=scale, magnitude_bits=magnitude_bits)
    return tensor_of(Combination((Term(ValueView(value), times(left.factor, right.factor), left.rows * right.rows),)))


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
