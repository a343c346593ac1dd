"""What a term multiplies its value with.

Every step of a training has the same factors, and what follows from one takes longer to work out than to look up. So there is one
object for each factor, which finds it at once in what was worked out before: it is hashed by its identity.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

_REMEMBERED = 4096  # of each kind; a program has some dozens, unless its factors change from step to step


class Multiple:
    """A public factor, and for how many rows its product is a mean; made by `multiple_of` alone, and never changed.

    Attributes:
        factor: exact.
        rows: the product is the mean over so many rows, as a gradient is, and the declared limits hold for the sum; 1 otherwise.
        is_unit: whether the factor is 1.
        numerator: of the factor.
        denominator: of the factor.
        limit_log2: the largest whole t with 2^t <= |factor| * rows; the declared limits hold for that many values.
    """

    __slots__ = ("denominator", "factor", "is_unit", "limit_log2", "numerator", "rows")

    def __init__(self, factor: Fraction, rows: int) -> None:
        self.factor = factor
        self.rows = rows
        self.is_unit = factor == 1
        self.numerator, self.denominator = factor.numerator, factor.denominator
        self.limit_log2 = floor_log2(factor * rows)

    def __repr__(self) -> str:
        return f"Multiple({self.factor}, rows={self.rows})"


def multiple_of(factor: Fraction, rows: int = 1) -> Multiple:
    """Returns the object of a factor, which is not 0, and a number of rows."""
    return _multiple(factor.numerator, factor.denominator, rows)


@lru_cache(maxsize=_REMEMBERED)
def times(one: Multiple, two: Multiple) -> Multiple:
    """Returns the factor of a product of two terms; its rows are the product of theirs."""
    return multiple_of(one.factor * two.factor, one.rows * two.rows)


def floor_log2(factor: Fraction) -> int:
    """Returns the largest whole t with 2^t <= |factor|, for a factor that is not 0."""
    numerator, denominator = abs(factor.numerator), factor.denominator
    close = numerator.bit_length() - denominator.bit_length()
    reaches = numerator >= denominator << close if close >= 0 else numerator << -close >= denominator
    return close if reaches else close - 1


@lru_cache(maxsize=_REMEMBERED)
def _multiple(numerator: int, denominator: int, rows: int) -> Multiple:
    return Multiple(Fraction(numerator, denominator), rows)


ONE = multiple_of(Fraction(1))
MINUS_ONE = multiple_of(Fraction(-1))
