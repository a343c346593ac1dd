"""How a gradient becomes a step, in float64 and by torch's rules; part of the plaintext oracle.

The state is one mapping: every parameter by its name, and beside it what the optimiser keeps, named as in a model that the
parties keep: `<parameter>#momentum` for SGD, `<parameter>#mean` and `<parameter>#square` for Adam.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.model.plain_layers import Float64
from protocols.training import Optimiser, OptimiserKind

State = dict[str, Float64]
MOMENTUM = "#momentum"
MEAN = "#mean"
SQUARE = "#square"


def state_suffixes(optimiser: Optimiser) -> tuple[str, ...]:
    """Returns what an optimiser keeps beside every parameter; SGD without momentum keeps nothing."""
    match optimiser.kind:
        case OptimiserKind.SGD:
            return (MOMENTUM,) if float(optimiser.momentum) > 0 else ()
        case OptimiserKind.ADAM:
            return (MEAN, SQUARE)


def make_step(state: State, gradients: Mapping[str, Float64], *, optimiser: Optimiser, learning_rate: float, step: int) -> None:
    """Makes one step and changes the state in place.

    Args:
        state: parameters and what the optimiser keeps.
        gradients: of the loss, by parameter name.
        optimiser: its hyper-parameters.
        learning_rate: of this step, after the schedule.
        step: counted from 1 over all steps that the state has behind it; corrects the bias of Adam's means.
    """
    decay = float(optimiser.weight_decay)
    for name, gradient in gradients.items():
        slope = gradient + decay * state[name]
        match optimiser.kind:
            case OptimiserKind.SGD:
                change = _momentum(state, name, slope, float(optimiser.momentum))
            case OptimiserKind.ADAM:
                change = _adam(state, name, slope, optimiser, step)
        state[name] = state[name] - learning_rate * change


def _momentum(state: State, name: str, slope: Float64, momentum: float) -> Float64:
    """Momentum without dampening: v = momentum * v + g, with v = 0 before the first step."""
    if momentum == 0:
        return slope
    state[name + MOMENTUM] = momentum * state[name + MOMENTUM] + slope
    return state[name + MOMENTUM]


def _adam(state: State, name: str, slope: Float64, optimiser: Optimiser, step: int) -> Float64:
    """Kingma and Ba 2015, algorithm 1; epsilon is added to the corrected root."""
    beta1, beta2 = float(optimiser.beta1), float(optimiser.beta2)
    mean = state[name + MEAN] = beta1 * state[name + MEAN] + (1 - beta1) * slope
    square = state[name + SQUARE] = beta2 * state[name + SQUARE] + (1 - beta2) * slope**2
    root = np.sqrt(square / (1 - beta2**step)) + float(optimiser.epsilon)
    result: Float64 = mean / (1 - beta1**step) / root
    return result
