"""Real numbers as fixed-point ring elements: v is held as round(v * 2^scale_bits) modulo 2^64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.ring import RingArray

_MAX_PROBLEMS = 20


@dataclass(frozen=True)
class FixedPoint:
    """How numbers are held, and what is declared of them, since no bound can be proven through several layers.

    Part of every plan, so that parties which compute differently refuse each other before anything is shared. A number beyond
    its limit may wrap around; `protocols.model.ranges` says before a run where that can happen, and a training tests at the end
    of every epoch whether it did (docs/protocols/range-check.md).

    Attributes:
        value_bits: fractional bits of rows, labels and what layers give.
        parameter_bits: of parameters and momenta: one step of gradient descent is far below 2^-16.
        value_limit_bits: every tensor and every gradient stays below 2^value_limit_bits in absolute value.
        parameter_limit_bits: every parameter and momentum stays below 2^parameter_limit_bits.
        update_limit_bits: for SGD: every gradient of a parameter by a cross-entropy stays below 2^update_limit_bits.
        gradient_limit_bits: for Adam, which squares them: every gradient of a parameter stays below 2^gradient_limit_bits.
    """

    value_bits: int = 16
    parameter_bits: int = 24
    value_limit_bits: int = 20
    parameter_limit_bits: int = 10
    update_limit_bits: int = 7
    gradient_limit_bits: int = 5

    def to_document(self) -> dict[str, Any]:
        """Returns the settings as a document."""
        return dict(vars(self))

    @staticmethod
    def from_document(document: Any) -> FixedPoint:
        """Reads settings.

        Raises:
            ValueError: not exactly these settings, each a whole number from 0 to 63.
        """
        names = [field.name for field in fields(FixedPoint)]
        if not isinstance(document, Mapping) or set(document) != set(names):
            raise ValueError(f"fixed-point settings are exactly: {', '.join(names)}")
        if any(type(value) is not int or not 0 <= value <= 63 for value in document.values()):
            raise ValueError("fixed-point settings are whole numbers from 0 to 63")
        return FixedPoint(**{name: document[name] for name in names})


FIXED_POINT = FixedPoint()  # what this version computes with
VALUE_BITS = FIXED_POINT.value_bits
PARAMETER_BITS = FIXED_POINT.parameter_bits
VALUE_LIMIT_BITS = FIXED_POINT.value_limit_bits
PARAMETER_LIMIT_BITS = FIXED_POINT.parameter_limit_bits
UPDATE_LIMIT_BITS = FIXED_POINT.update_limit_bits
GRADIENT_LIMIT_BITS = FIXED_POINT.gradient_limit_bits


def encode(values: NDArray[np.float64], *, scale_bits: int, limit: float) -> RingArray:
    """Encodes real numbers.

    Args:
        values: any shape, float64; may be secret.
        scale_bits: fractional bits, 0 to 52.
        limit: largest absolute value that is accepted; at most 2^(62 - scale_bits).

    Returns:
        int64 ring elements of the same shape, each within 2^-(scale_bits+1) of its value.

    Raises:
        ConfideError: INVALID_DATA (the rows' owner) naming the positions, never the values, of NaN, infinity and numbers
            beyond the limit; INTERNAL (ours) if scale and limit do not fit the ring.
    """
    if not 0 <= scale_bits <= 52 or not 0 < limit <= 2.0 ** (62 - scale_bits):
        raise ConfideError(ErrorCode.INTERNAL, f"no encoding with {scale_bits} fractional bits reaches {limit}")
    with np.errstate(invalid="ignore"):
        fits = np.abs(values) <= limit  # False for NaN
    if not fits.all():
        raise ConfideError(ErrorCode.INVALID_DATA, "values that cannot be encoded", problems=_problems(values, fits, limit))
    return np.asarray(np.rint(values * 2.0**scale_bits), dtype=np.int64)


def decode(elements: RingArray, *, scale_bits: int) -> NDArray[np.float64]:
    """Decodes ring elements of a given scale; exact while the element is below 2^53."""
    return np.asarray(elements.astype(np.float64) / 2.0**scale_bits, dtype=np.float64)


def _problems(values: NDArray[np.float64], fits: NDArray[np.bool_], limit: float) -> list[Problem]:
    wrong = np.argwhere(~fits)
    found = []
    for position in wrong[:_MAX_PROBLEMS]:
        finite = bool(np.isfinite(values[tuple(position)]))
        what = f"outside -{limit:g} to {limit:g}" if finite else "not a finite number"
        where = "position " + ", ".join(str(int(index)) for index in position)
        found.append(Problem(where, what, "bring the value into the range, or leave the row out"))
    if len(wrong) > _MAX_PROBLEMS:
        found.append(Problem("", f"{len(wrong) - _MAX_PROBLEMS} more", ""))
    return found
