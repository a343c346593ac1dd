"""Public factors that change from epoch to epoch or from step to step: the learning rate and Adam's bias corrections.

Only factors change, never the operations: a factor is applied as a whole number over a power of two that is fixed for the
whole training by the factor's largest value (`peak`), so one segment of the plan serves every step. All of it is integer
arithmetic, equal to the bit at every party.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import isqrt

from protocols.training import ScheduleKind, Training

_FINE = 64  # rates are exact to 2^-64 before they become factors
_POWER_BITS = 128


@dataclass(frozen=True)
class Factor:
    """A public number that may change with the step.

    Attributes:
        value: at this step.
        peak: the largest absolute value in the whole training.
        changes: whether it ever changes.
    """

    value: Fraction
    peak: Fraction
    changes: bool = True

    def __post_init__(self) -> None:
        # Made once: to hash a fraction takes longer than what is looked up by it.
        object.__setattr__(self, "_hash", hash((self.value, self.peak, self.changes)))

    def __hash__(self) -> int:
        result: int = self.__dict__["_hash"]
        return result


class LearningRates:
    """The learning rate of every step.

    Args:
        training: hyper-parameters.
        steps_per_epoch: of this training.
    """

    def __init__(self, training: Training, steps_per_epoch: int) -> None:
        base = Fraction(training.optimiser.learning_rate)
        self._steps_per_epoch = steps_per_epoch
        self._peak = base  # multipliers never exceed 1
        self._changes = training.schedule.kind is not ScheduleKind.CONSTANT
        self._at: Callable[[int], Factor] = lru_cache(maxsize=2)(
            lambda epoch: _factor(_fine(base * training.schedule.multiplier(epoch, training.epochs)), self._peak, self._changes)
        )

    def at(self, step: int) -> Factor:
        """Returns the rate of a step, counted from 0 over all attempts."""
        # A rate that does not change is that of every epoch.
        return self._at(step // self._steps_per_epoch if self._changes else 0)


@dataclass(frozen=True)
class BiasCorrection:
    """Adam's corrections for the zeros that its means start from (Kingma and Ba 2015, section 3)."""

    beta1: Fraction
    beta2: Fraction

    def of_mean(self, count: int) -> Factor:
        """Returns 1 / (1 - beta1^count); largest at the first step."""
        one = 1 << _POWER_BITS
        return Factor(_fine(Fraction(one, one - _power(self.beta1, count))), 1 / (1 - self.beta1))

    def of_root(self, count: int) -> Factor:
        """Returns 1 / sqrt(1 - beta2^count); largest at the first step."""
        return Factor(self._inverse_root(count), self._inverse_root(1))

    def _inverse_root(self, count: int) -> Fraction:
        one = 1 << _POWER_BITS
        root = isqrt((one - _power(self.beta2, count)) << _POWER_BITS)
        return _fine(Fraction(one, root))


@lru_cache(maxsize=64)
def _factor(value: Fraction, peak: Fraction, changes: bool) -> Factor:
    # The plan and the session have one object for the same rate: what is cached by it is found without comparing fractions.
    return Factor(value, peak, changes)


def _power(base: Fraction, exponent: int) -> int:
    """Returns base^exponent at 128 fractional bits, rounded down at every multiplication."""
    result, square = 1 << _POWER_BITS, (base.numerator << _POWER_BITS) // base.denominator
    while exponent:
        if exponent & 1:
            result = result * square >> _POWER_BITS
        square = square * square >> _POWER_BITS
        exponent >>= 1
    return result


def _fine(value: Fraction) -> Fraction:
    return Fraction(round(value * (1 << _FINE)), 1 << _FINE)
