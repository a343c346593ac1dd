"""Names of what a training keeps beside its parameters: the optimiser's state, one tensor of the parameter's shape each.

A kept model and a checkpoint hold every parameter under its own name and its state as "<parameter>#<state>", so that a later
training can go on from there. All of it is shares; the names are public.
"""

from __future__ import annotations

from fractions import Fraction

from protocols.fixed_point import PARAMETER_BITS
from protocols.training import Optimiser, OptimiserKind

MOMENTUM = "momentum"  # SGD: running sum of gradients
MEAN = "mean"  # Adam: mean of gradients
SQUARE = "square"  # Adam: mean of squared gradients
STATES = (MOMENTUM, MEAN, SQUARE)
SQUARE_BITS = 40  # fractional bits of a mean of squares: the square of a gradient of 2^-16 is 2^8 units


def state_names(optimiser: Optimiser) -> tuple[str, ...]:
    """Returns which state an optimiser keeps for every parameter."""
    if optimiser.kind is OptimiserKind.ADAM:
        return (MEAN, SQUARE)
    return (MOMENTUM,) if Fraction(optimiser.momentum) > 0 else ()


def state_key(parameter: str, state: str) -> str:
    """Returns the name under which a parameter's state is kept."""
    return f"{parameter}#{state}"


def scale_of(name: str) -> int:
    """Returns the fractional bits of a kept tensor."""
    return SQUARE_BITS if name.endswith(f"#{SQUARE}") else PARAMETER_BITS
