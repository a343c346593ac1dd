"""Numbers of two digits: what a plan tells of a figure that depends on weights, and steps that people read."""

from __future__ import annotations

import math
from decimal import Decimal


def rounded_up(value: float, digits: int = 2) -> float:
    """Returns a number of so many digits that is not smaller."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.{digits + 2}g}")


def digits_after_point(step: float) -> int:
    """Returns with how many digits after the point every multiple of a step is written exactly."""
    exponent = Decimal(repr(step)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
