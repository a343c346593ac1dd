"""A measured figure with its interval, and named sets of them: how reports of risk and utility reach people and the gate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocols.errors import ConfideError, ErrorCode

PLACES = 6  # of a figure in a document
MAX_FIGURES = 200
_MAX_NAME = 64


@dataclass(frozen=True)
class Figure:
    """A figure and the interval in which it lies with the stated confidence, or the figure alone three times.

    Attributes:
        value: the estimate.
        low: of the interval.
        high: of the interval.
    """

    value: float
    low: float
    high: float

    def to_document(self) -> list[str]:
        """Returns value, low and high as decimals; a document that is signed holds no floating-point numbers."""
        return [f"{number:.{PLACES}f}" for number in (self.value, self.low, self.high)]


Figures = Mapping[str, Figure]


def figures_document(figures: Figures) -> dict[str, list[str]]:
    """Returns figures by name as a document."""
    return {name: figure.to_document() for name, figure in sorted(figures.items())}


def read_figures(entry: Any) -> dict[str, Figure]:
    """Reads what `figures_document` returned.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault).
    """
    if not isinstance(entry, dict) or len(entry) > MAX_FIGURES:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"an object of at most {MAX_FIGURES} figures is expected")
    found = {}
    for name, numbers in entry.items():
        texts = numbers if isinstance(numbers, list) else []
        if len(name) > _MAX_NAME or len(texts) != 3 or not all(isinstance(text, str) and len(text) <= 32 for text in texts):
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a figure has a name and three decimals: value, low and high")
        try:
            value, low, high = (float(text) for text in texts)
        except ValueError:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{name}: not a decimal") from None
        if not all(map(math.isfinite, (value, low, high))) or not low <= value <= high:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{name}: a finite figure within its interval is expected")
        found[name] = Figure(value, low, high)
        if found[name].to_document() != texts:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{name}: a figure is written with {PLACES} places")
    return found
