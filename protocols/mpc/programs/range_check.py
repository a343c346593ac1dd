"""What the range check of a training tests: all that is kept, and the last step's gradients (docs/protocols/range-check.md).

Fixed-point numbers beyond their declared limits may wrap around, and then nothing says so. The check asks for room to the limits.
It reads gradients from what they left in parameters or optimiser state, since those of a step are gone when it has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import (
    GRADIENT_LIMIT_BITS,
    PARAMETER_BITS,
    PARAMETER_LIMIT_BITS,
    UPDATE_LIMIT_BITS,
    VALUE_LIMIT_BITS,
)
from protocols.mpc.combination import Combination
from protocols.mpc.engine import Engine
from protocols.mpc.primitives.range import MAX_LIMIT, outside_range
from protocols.mpc.programs.optimisers import State
from protocols.mpc.training_state import MEAN, MOMENTUM, state_key
from protocols.ring import RingArray
from protocols.training import Optimiser, OptimiserKind

REVEALED = "training out of range"
_COEFFICIENT_BITS = 12  # of the optimiser's coefficients, with which a gradient is read back from its state
_ROUNDINGS = 64  # units by which the roundings of one step may move what is compared


@dataclass(frozen=True, repr=False)
class LastStep:
    """What the check needs of the last step before it.

    Attributes:
        optimiser: public hyper-parameters.
        rate: the learning rate of the step; public.
        parameters: trained ones before the step, by name; secret.
        state: of the optimiser before the step; secret.
        gradient_limits: largest gradient that passes, as a real number, by parameter; public.
    """

    optimiser: Optimiser
    rate: Fraction
    parameters: State
    state: State
    gradient_limits: Mapping[str, Fraction]


def gradient_limits(optimiser: Optimiser, gradients: Mapping[str, Combination]) -> Mapping[str, Fraction]:
    """Returns the largest gradient that passes, with weight decay, by parameter; public.

    For SGD a quarter of what is declared of each term: below 2^7 for a mean over rows, below 2^20 for any other. For Adam, which
    declares all gradients below 2^5 and whose means wrap no earlier than at 2^14, half of it.
    """
    decay = Fraction(optimiser.weight_decay) * 2 ** (PARAMETER_LIMIT_BITS - 1)
    if optimiser.kind is OptimiserKind.ADAM:
        return dict.fromkeys(gradients, 2 ** (GRADIENT_LIMIT_BITS - 1) + decay)
    return {name: decay + sum(_quarter(term.rows) for term in gradient.terms) for name, gradient in gradients.items()}


def is_out_of_range(engine: Engine, kept: State, last: LastStep) -> bool:
    """Returns whether any number of a training is out of range; eight rounds.

    Args:
        engine: this party's engine.
        kept: parameters, running statistics and the optimiser's state after the last step; secret.
        last: that step.

    Learns: every computing party the bit, and nothing else.
    """
    tested = [*_kept_within_half(kept), *_gradients(kept, last)]
    share = np.concatenate([values.reshape(-1) for values, _ in tested])
    limits = np.concatenate([np.full(values.size, limit, np.int64) for values, limit in tested])
    return engine.reveal_bit(REVEALED, engine.run(outside_range(engine, share, limits)))


def diverged(epoch: int) -> ConfideError:
    """Returns the failure that every computing party raises."""
    what = f"the numbers of the training left their declared range by the end of epoch {epoch}; no model is kept"
    return ConfideError(ErrorCode.TRAINING_DIVERGED, what)


def _quarter(rows: int) -> Fraction:
    return Fraction(2 ** ((UPDATE_LIMIT_BITS if rows > 1 else VALUE_LIMIT_BITS) - 2))


def _kept_within_half(kept: State) -> Iterator[tuple[RingArray, int]]:
    for value in kept.values():
        yield value.share, 1 << (value.magnitude_bits - 1)


def _gradients(kept: State, last: LastStep) -> Iterator[tuple[RingArray, int]]:
    """Yields a multiple of every gradient as this party's share, and of its limit: local."""
    optimiser = last.optimiser
    unit = 1 << _COEFFICIENT_BITS
    for name, before in last.parameters.items():
        limit = last.gradient_limits[name] * 2**PARAMETER_BITS
        if optimiser.kind is OptimiserKind.ADAM:
            # m = m' + (1 - beta1) (g - m'), so g = m' + (m - m') / (1 - beta1).
            key = state_key(name, MEAN)
            inverse = round(unit / (1 - Fraction(optimiser.beta1)))
            moved = kept[key].share - last.state[key].share
            yield np.int64(inverse) * moved + np.int64(unit) * last.state[key].share, _limit(limit * unit, inverse)
        elif Fraction(optimiser.momentum):
            # v = momentum v' + g.
            key = state_key(name, MOMENTUM)
            part = round(unit * Fraction(optimiser.momentum))
            yield np.int64(unit) * kept[key].share - np.int64(part) * last.state[key].share, _limit(limit * unit, unit)
        else:
            yield kept[name].share - before.share, _limit(limit * last.rate, 1)


def _limit(limit: Fraction, multiple: int) -> int:
    return min(int(limit) + _ROUNDINGS * multiple, MAX_LIMIT)
