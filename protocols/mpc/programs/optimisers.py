"""Optimisers on shares, with torch's formulae: SGD with momentum here, Adam in `programs.adam`.

Parameters, momenta and means are held at 24 fractional bits and declared below 2^10; only the learning rate and Adam's
corrections change from step to step, as factors (`programs.rates`), so that every step does the same operations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from protocols.fixed_point import GRADIENT_LIMIT_BITS, PARAMETER_BITS, PARAMETER_LIMIT_BITS
from protocols.mpc.combination import Combination
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.programs.factors import scale_terms
from protocols.mpc.programs.rates import Factor, LearningRates
from protocols.mpc.training_state import MEAN, MOMENTUM, SQUARE, SQUARE_BITS, state_key, state_names
from protocols.mpc.values import SharedValue
from protocols.ring import RingArray
from protocols.training import Optimiser

PARAMETER_MAGNITUDE = PARAMETER_BITS + PARAMETER_LIMIT_BITS
GRADIENT_MAGNITUDE = PARAMETER_BITS + GRADIENT_LIMIT_BITS
SQUARE_MAGNITUDE = SQUARE_BITS + 2 * GRADIENT_LIMIT_BITS
UNIT = Factor(Fraction(1), Fraction(1), changes=False)

State = Mapping[str, SharedValue]


@dataclass(frozen=True, repr=False)
class Stepped:
    """What one step leaves: the parameters and the optimiser's state, both by name."""

    parameters: State
    state: State


class OptimiserSteps(ABC):
    """An optimiser's step on shares.

    Args:
        optimiser: public hyper-parameters.
        rates: the learning rate of every step.
    """

    def __init__(self, optimiser: Optimiser, rates: LearningRates) -> None:
        self._optimiser = optimiser
        self._rates = rates
        self._decay = Fraction(optimiser.weight_decay)
        self._momentum = Fraction(optimiser.momentum)

    @abstractmethod
    def step(
        self, engine: Engine, parameters: State, gradients: Mapping[str, Combination], state: State, *, step: int
    ) -> Steps[Stepped]:
        """Makes one step.

        Args:
            engine: this party's engine.
            parameters: by name, at 24 fractional bits; secret.
            gradients: of every parameter; secret.
            state: the optimiser's, by kept name; secret.
            step: counted from 0 over all attempts of this training; public.

        Learns: nobody anything; everything opened is uniform.
        """

    def _decayed(self, gradient: Combination, parameter: SharedValue) -> Combination:
        """Returns the gradient with weight decay, added to it as torch does."""
        return gradient.plus(Combination.of(parameter).times(self._decay)) if self._decay else gradient


class SgdSteps(OptimiserSteps):
    """v = momentum * v + g + decay * w; w = w - rate * v, both in one round (two for gradients that need cutting first)."""

    def step(
        self, engine: Engine, parameters: State, gradients: Mapping[str, Combination], state: State, *, step: int
    ) -> Steps[Stepped]:
        """Makes one step; see `OptimiserSteps.step`."""
        momentum = self._momentum
        rate = self._rates.at(step)
        directions = {}
        for name, parameter in parameters.items():
            direction = self._decayed(gradients[name], parameter)
            if momentum:
                direction = direction.plus(Combination.of(state[state_key(name, MOMENTUM)]).times(momentum))
            directions[name] = direction
        whole = list(directions.values())
        kept_whole = whole if momentum else []
        both = [scale_terms(engine, direction, rate, result_bits=PARAMETER_BITS) for direction in whole]
        both += [scale_terms(engine, direction, UNIT, result_bits=PARAMETER_BITS) for direction in kept_whole]
        shares = yield from together(*both)
        moved, kept = shares[: len(whole)], shares[len(whole) :]
        names = list(parameters)
        return Stepped(
            {name: parameter_of(parameters[name].share - move) for name, move in zip(names, moved, strict=True)},
            {state_key(name, MOMENTUM): parameter_of(share) for name, share in zip(names, kept, strict=False)},
        )


def kept_value(name: str, share: RingArray) -> SharedValue:
    """Returns a kept tensor, by its name, as a shared value of its scale and declared magnitude."""
    if name.endswith(f"#{SQUARE}"):
        return square_of(share)
    return mean_of(share) if name.endswith(f"#{MEAN}") else parameter_of(share)


def zero_state(optimiser: Optimiser, shapes: Mapping[str, tuple[int, ...]]) -> State:
    """Returns the state before the first step, for parameters of these shapes: shares of zero."""
    keys = [(state_key(name, kept), shape) for name, shape in shapes.items() for kept in state_names(optimiser)]
    return {key: kept_value(key, np.zeros(shape, np.int64)) for key, shape in keys}


def parameter_of(share: RingArray) -> SharedValue:
    """Returns a parameter or a momentum."""
    return SharedValue(share, scale_bits=PARAMETER_BITS, magnitude_bits=PARAMETER_MAGNITUDE)


def mean_of(share: RingArray) -> SharedValue:
    """Returns Adam's mean of gradients."""
    return SharedValue(share, scale_bits=PARAMETER_BITS, magnitude_bits=GRADIENT_MAGNITUDE)


def square_of(share: RingArray) -> SharedValue:
    """Returns Adam's mean of squared gradients."""
    return SharedValue(share, scale_bits=SQUARE_BITS, magnitude_bits=SQUARE_MAGNITUDE)
