"""What the range check of a training tests: all that is kept, and gradients (docs/protocols/range-check.md).

Fixed-point numbers beyond their declared limits may wrap around, and then nothing says so. The check asks for room to the limits.
It reads gradients from what they left in parameters or optimiser state, since those of a step are gone when it has ended: all of
an epoch's last step, and some of every other, at places that the job's public seed draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

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
from protocols.mpc.tensor.coin import public_places
from protocols.mpc.training_state import MEAN, MOMENTUM, state_key
from protocols.ring import RingArray
from protocols.training import Optimiser, OptimiserKind

REVEALED = "training out of range"
_COEFFICIENT_BITS = 12  # of the optimiser's coefficients, with which a gradient is read back from its state
_ROUNDINGS = 64  # units by which the roundings of one step may move what is compared
SAMPLES = 64  # gradients of each parameter tensor that are kept of a step
MAX_SAMPLED = 1 << 18  # that are kept of an epoch; with more steps, every second or third one gives some


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
    return {
        name: _gradient_limit(optimiser, tuple([term.rows for term in gradient.terms])) for name, gradient in gradients.items()
    }


@lru_cache(maxsize=256)
def _gradient_limit(optimiser: Optimiser, rows: tuple[int, ...]) -> Fraction:
    decay: Fraction = Fraction(optimiser.weight_decay) * 2 ** (PARAMETER_LIMIT_BITS - 1)
    if optimiser.kind is OptimiserKind.ADAM:
        return Fraction(2 ** (GRADIENT_LIMIT_BITS - 1)) + decay
    return sum((_quarter(count) for count in rows), decay)


class GradientSamples:
    """Some gradients of the steps of an epoch, kept as shares until its range check; one party's side.

    Args:
        seed: the job's shuffle seed, hexadecimal; public.
        sizes: of the trained parameters, by name.
        steps: of a whole epoch, without its last.
    """

    def __init__(self, *, seed: str, sizes: Mapping[str, int], steps: int) -> None:
        self._seed = seed
        self._sizes = sizes
        per_step = sum(min(size, SAMPLES) for size in sizes.values())
        self._every = max(-(-per_step * steps // MAX_SAMPLED), 1)
        self._count = per_step * -(-steps // self._every)
        self._shares: list[RingArray] = []
        self._limits: list[int] = []  # of the share in the same place

    def take(self, within: int, step: int, kept: State, last: LastStep) -> None:
        """Keeps some gradients of a step; local.

        Args:
            within: the step's number in its epoch, from 0; public.
            step: its number in the training; public.
            kept: parameters and the optimiser's state after it; secret.
            last: the step.
        """
        if within % self._every:
            return
        places = public_places(self._seed, step, self._sizes, count=SAMPLES)
        for share, limit in _gradients(kept, last, lambda name, values: values.reshape(-1)[places[name]]):
            self._shares.append(share)
            self._limits.append(limit)

    def give(self) -> tuple[RingArray, RingArray]:
        """Returns all shares that were kept, and their limits; then there are none.

        They are as many for every epoch, as the plan needs them: an epoch that was begun in an attempt before ends with zeros.
        """
        share, limits = np.zeros(self._count, np.int64), np.zeros(self._count, np.int64)
        if self._shares:
            taken = np.concatenate(self._shares)
            share[: taken.size] = taken
            limits[: taken.size] = np.repeat(np.array(self._limits, np.int64), [some.size for some in self._shares])
        self._shares, self._limits = [], []
        return share, limits


def is_out_of_range(engine: Engine, kept: State, last: LastStep, samples: GradientSamples) -> bool:
    """Returns whether any number of a training is out of range; eight rounds.

    Args:
        engine: this party's engine.
        kept: parameters, running statistics and the optimiser's state after the last step; secret.
        last: that step.
        samples: of the steps before it in its epoch; they are used up.

    Learns: every computing party the bit, and nothing else.
    """
    tested = [*_kept_within_half(kept), *_gradients(kept, last, lambda _, values: values)]
    sampled, their_limits = samples.give()
    share = np.concatenate([*(values.reshape(-1) for values, _ in tested), sampled])
    limits = np.concatenate([*(np.full(values.size, limit, np.int64) for values, limit in tested), their_limits])
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


def _gradients(kept: State, last: LastStep, seen: Callable[[str, RingArray], RingArray]) -> Iterator[tuple[RingArray, int]]:
    """Yields a multiple of every gradient, as `seen`, as this party's share, and of its limit: local."""
    for name, before in last.parameters.items():
        reading = _reading(last.optimiser, last.rate, last.gradient_limits[name])
        key = state_key(name, reading.part) if reading.part else name
        now, then = seen(name, kept[key].share), seen(name, last.state[key].share if reading.part else before.share)
        if reading.of_now != 1 or reading.of_then != -1:
            yield np.int64(reading.of_now) * now + np.int64(reading.of_then) * then, reading.limit
        else:
            yield now - then, reading.limit


@dataclass(frozen=True)
class _Reading:
    """How a multiple of a gradient is read from what it left; public.

    Attributes:
        part: of the optimiser's state that shows it; "" for the parameter itself.
        of_now: whole factor of that after the step.
        of_then: whole factor of that before the step.
        limit: of the multiple, in units of 2^-24.
    """

    part: str
    of_now: int
    of_then: int
    limit: int


@lru_cache(maxsize=1024)
def _reading(optimiser: Optimiser, rate: Fraction, gradient_limit: Fraction) -> _Reading:
    unit = 1 << _COEFFICIENT_BITS
    limit = gradient_limit * 2**PARAMETER_BITS
    if optimiser.kind is OptimiserKind.ADAM:
        # m = m' + (1 - beta1) (g - m'), so g = m' + (m - m') / (1 - beta1).
        inverse = round(unit / (1 - Fraction(optimiser.beta1)))
        return _Reading(MEAN, inverse, unit - inverse, _limit(limit * unit, inverse))
    momentum = Fraction(optimiser.momentum)
    if momentum:
        # v = momentum v' + g.
        return _Reading(MOMENTUM, unit, -round(unit * momentum), _limit(limit * unit, unit))
    # w = w' - rate g; the sign does not matter.
    return _Reading("", 1, -1, _limit(limit * rate, 1))


def _limit(limit: Fraction, multiple: int) -> int:
    return min(int(limit) + _ROUNDINGS * multiple, MAX_LIMIT)
