"""Polynomials of a ciphertext with exact scales, in ceil(log2(degree + 1)) levels; a square in one.

p(x) = A(x) + x^4 B(x) with A and B of degree three at most, each (c0 + c1 x) + x^2 (c2 + c3 x) (Paterson and Stockmeyer 1973).
The scale of every factor is chosen such that each sum meets at the same scale and the result has the one that is asked for.
Arguments should lie in [-1, 1]: powers of larger ones amplify the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from protocols.ckks.arithmetic import Arithmetic
from protocols.ckks.network import SQUARE
from protocols.errors import ConfideError, ErrorCode

C = TypeVar("C")
P = TypeVar("P")
K = TypeVar("K")
Constant = Callable[[float, int, float], P]


def evaluate_polynomial(
    arithmetic: Arithmetic[C, P, K],
    argument: C,
    coefficients: Sequence[float],
    *,
    argument_scale: float,
    scale: float,
    primes: Sequence[int],
    constant: Constant[P],
    keys: K,
) -> C:
    """Returns the polynomial of a ciphertext.

    Args:
        arithmetic: what computes.
        argument: at a level at least `protocols.ckks.program.power_levels` high.
        coefficients: c0, c1, ...; public: where one is zero its product is left out.
        argument_scale: of the argument.
        scale: that the result is to have; a square's follows from the argument's.
        primes: the data primes.
        constant: encodes a number at a level and scale.
        keys: with a relinearisation key.
    """
    top = arithmetic.level_of(argument)

    def rescaled(product: C, to: float) -> C:
        arithmetic.rescale(product)
        arithmetic.set_scale(product, to)
        return product

    def times(value: float, level: int, to: float) -> C:
        """The argument times a number, at the level below `level` and the scale `to`."""
        factor = constant(value, level, to * primes[level] / argument_scale)
        return rescaled(arithmetic.multiply_plain(arithmetic.drop_to(argument, level), factor), to)

    if tuple(coefficients) == SQUARE:
        return rescaled(arithmetic.square(argument, keys), argument_scale**2 / primes[top])

    square_scale = argument_scale**2 / primes[top]
    square = rescaled(arithmetic.square(argument, keys), square_scale)

    def cubic(part: Sequence[float], to: float) -> C | float:
        """(c0 + c1 x) + x^2 (c2 + c3 x) at two levels below the argument, or the number that it is."""
        c0, c1, c2, c3 = (*part, *(0.0,) * (4 - len(part)))
        found: C | None = None
        at = top - 1
        if c3:
            inner_scale = to * primes[at] / square_scale
            inner = times(c3, top, inner_scale)
            if c2:
                arithmetic.add_plain_inplace(inner, constant(c2, at, inner_scale))
            found = rescaled(arithmetic.multiply(square, inner, keys), to)
        elif c2:
            factor = constant(c2, at, to * primes[at] / square_scale)
            found = rescaled(arithmetic.multiply_plain(square, factor), to)
        if c1:
            linear = times(c1, at, to)
            if found is None:
                found = linear
            else:
                arithmetic.add_inplace(found, linear)
        if found is None:
            return c0
        if c0:
            arithmetic.add_plain_inplace(found, constant(c0, at - 1, to))
        return found

    low, high = coefficients[:4], coefficients[4:]
    if not high:
        result = cubic(low, scale)
    else:
        fourth_scale = square_scale**2 / primes[top - 1]
        fourth = rescaled(arithmetic.square(square, keys), fourth_scale)
        factor_scale = scale * primes[top - 2] / fourth_scale
        factor = cubic(high, factor_scale)
        if isinstance(factor, float):
            product = arithmetic.multiply_plain(fourth, constant(factor, top - 2, factor_scale))
        else:
            product = arithmetic.multiply(fourth, factor, keys)
        result = rescaled(product, scale)
        rest = cubic(low, scale)
        if not isinstance(rest, float):
            arithmetic.add_inplace(result, arithmetic.drop_to(rest, top - 3))
        elif rest:
            arithmetic.add_plain_inplace(result, constant(rest, top - 3, scale))
    if isinstance(result, float):
        raise ConfideError(ErrorCode.INVALID_MODEL, "a polynomial activation that is a constant")
    return result
