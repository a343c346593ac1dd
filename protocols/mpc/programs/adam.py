"""Adam (Kingma and Ba 2015) on shares, as torch computes it.

The mean of squares is held at 40 fractional bits, so that a gradient of 2^-16 still counts; gradients are declared below 32,
so that their squares stay inside the ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np

from protocols.fixed_point import PARAMETER_BITS
from protocols.mpc.combination import Combination, settle_all
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.reciprocal import reciprocal
from protocols.mpc.primitives.roots import sqrt
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.programs.factors import scale_share
from protocols.mpc.programs.optimisers import (
    GRADIENT_MAGNITUDE,
    SQUARE_MAGNITUDE,
    OptimiserSteps,
    State,
    Stepped,
    mean_of,
    parameter_of,
    square_of,
)
from protocols.mpc.programs.rates import BiasCorrection, Factor, LearningRates
from protocols.mpc.training_state import MEAN, SQUARE, SQUARE_BITS, state_key
from protocols.ring import RingArray
from protocols.training import Optimiser

RATIO_LIMIT_BITS = 14  # declared: mean over root of the mean of squares stays below 2^14
_RECIPROCAL_BITS = 16


class AdamSteps(OptimiserSteps):
    """Adam (Kingma and Ba 2015) as torch computes it: m and v are running means of g and g^2, and

        w = w - rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon).

    All parameters run through each round as one vector. The squares are held at 40 fractional bits.

    Args:
        optimiser: public hyper-parameters.
        rates: the learning rate of every step.
        count_before: steps that the shares have behind them at the first step of this training: t counts on from there.
    """

    def __init__(self, optimiser: Optimiser, rates: LearningRates, *, count_before: int) -> None:
        super().__init__(optimiser, rates)
        self._count_before = count_before

    def step(
        self, engine: Engine, parameters: State, gradients: Mapping[str, Combination], state: State, *, step: int
    ) -> Steps[Stepped]:
        """Makes one step; see `OptimiserSteps.step`."""
        beta1, beta2 = Fraction(self._optimiser.beta1), Fraction(self._optimiser.beta2)
        correction, count = BiasCorrection(beta1, beta2), self._count_before + step + 1
        decayed = [self._decayed(gradients[name], parameter) for name, parameter in parameters.items()]
        settled = yield from settle_all(engine, decayed, PARAMETER_BITS, magnitude_bits=GRADIENT_MAGNITUDE)
        gradient = _joined(value.share for value in settled)
        mean = _joined(state[state_key(name, MEAN)].share for name in parameters)
        square = _joined(state[state_key(name, SQUARE)].share for name in parameters)
        mean, square = yield from together(
            _moved(engine, mean, gradient, 1 - beta1, scale_bits=PARAMETER_BITS, magnitude_bits=GRADIENT_MAGNITUDE),
            _moved_square(engine, square, gradient, 1 - beta2),
        )
        ratio = yield from self._ratio(engine, mean, square, correction.of_root(count))
        rate, of_mean = self._rates.at(step), correction.of_mean(count)
        move = yield from scale_share(
            engine,
            ratio,
            magnitude_bits=PARAMETER_BITS + RATIO_LIMIT_BITS,
            scale_bits=PARAMETER_BITS,
            factor=Factor(rate.value * of_mean.value, rate.peak * of_mean.peak),
            result_bits=PARAMETER_BITS,
        )
        shapes = {name: value.shape for name, value in parameters.items()}
        return Stepped(
            {name: parameter_of(parameters[name].share - part) for name, part in _split(move, shapes).items()},
            {
                **{state_key(n, MEAN): mean_of(part) for n, part in _split(mean, shapes).items()},
                **{state_key(n, SQUARE): square_of(part) for n, part in _split(square, shapes).items()},
            },
        )

    def _ratio(self, engine: Engine, mean: RingArray, square: RingArray, of_root: Factor) -> Steps[RingArray]:
        """Returns m / (sqrt(v) * correction + epsilon) at 24 fractional bits."""
        root = yield from sqrt(engine, square, SQUARE_BITS, result_bits=PARAMETER_BITS)
        corrected = yield from scale_share(
            engine,
            root,
            magnitude_bits=GRADIENT_MAGNITUDE + 1,
            scale_bits=PARAMETER_BITS,
            factor=of_root,
            result_bits=PARAMETER_BITS,
        )
        epsilon = round(Fraction(self._optimiser.epsilon) * 2**PARAMETER_BITS)
        divisor = corrected + engine.public(np.full(corrected.shape, epsilon, np.int64))
        inverse = yield from reciprocal(engine, divisor, PARAMETER_BITS)
        product = yield from multiply(engine, mean, inverse)
        return (yield from truncate(engine, product, _RECIPROCAL_BITS))


def _moved(
    engine: Engine, mean: RingArray, value: RingArray, part: Fraction, *, scale_bits: int, magnitude_bits: int
) -> Steps[RingArray]:
    """Returns mean + part * (value - mean): a running mean, moved by a constant part of the difference; one round."""
    moved = yield from scale_share(
        engine,
        value - mean,
        magnitude_bits=magnitude_bits + 1,
        scale_bits=scale_bits,
        factor=Factor(part, part),
        result_bits=scale_bits,
    )
    return mean + moved


def _moved_square(engine: Engine, square: RingArray, gradient: RingArray, part: Fraction) -> Steps[RingArray]:
    product = yield from multiply(engine, gradient, gradient)
    cut = yield from truncate(engine, product, 2 * PARAMETER_BITS - SQUARE_BITS)
    return (yield from _moved(engine, square, cut, part, scale_bits=SQUARE_BITS, magnitude_bits=SQUARE_MAGNITUDE))


def _joined(shares: Iterable[RingArray]) -> RingArray:
    return np.concatenate([share.reshape(-1) for share in shares])


def _split(vector: RingArray, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, RingArray]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    pieces = np.split(vector, ends[:-1])
    return {name: piece.reshape(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
