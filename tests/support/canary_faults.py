"""What the canaries of a training by noisy sums would show, simulated: of a sound mechanism, and of one with a fault.

A canary that is planted takes part in every step with the sampling rate, as a row does, and adds its bound to a coordinate of its
own; the noise of every step lies on all coordinates. Its score is the sum of its coordinate over the steps. Nothing else of a
training reaches these coordinates, so no model is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Fault(Enum):
    """What a mechanism does wrong."""

    NONE = "none"
    NO_CLIPPING = "clipping is not applied"  # a canary adds four times its bound
    NO_SAMPLING = "every row takes part in every step"
    LITTLE_NOISE = "the noise is ten times too small"


@dataclass(frozen=True)
class SimulatedTraining:
    """The public numbers of a training: sampling rate, steps, noise multiplier."""

    rate: float
    steps: int
    noise_multiplier: float


def simulated_scores(
    training: SimulatedTraining, fault: Fault, canaries: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns scores and coins of canaries, in units of the bound.

    Args:
        training: the mechanism.
        fault: its fault.
        canaries: how many.
        rng: of the simulation; nothing here is secret.
    """
    included = rng.random(canaries) < 0.5
    rate = 1.0 if fault is Fault.NO_SAMPLING else training.rate
    size = 4.0 if fault is Fault.NO_CLIPPING else 1.0
    deviation = training.noise_multiplier * (0.1 if fault is Fault.LITTLE_NOISE else 1.0)
    taken = included * rng.binomial(training.steps, rate, canaries)
    # The noise of the steps adds up to normal noise of their variances' sum.
    return size * taken + deviation * np.sqrt(training.steps) * rng.standard_normal(canaries), included
