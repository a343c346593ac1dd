"""What everybody knows of a one-run audit beforehand; needs no numbers, so commands and policies may read it at their start."""

from __future__ import annotations

CONFIDENCE = 0.999
"""Of a lower bound."""

MAX_EPSILON = 64.0
"""The greatest bound that is looked for."""

MIN_CANARIES = 8
"""Of one owner; fewer show nothing at any confidence worth having."""
