"""Real numbers as fixed-point ring elements: v is held as round(v * 2^scale_bits) modulo 2^64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.ring import RingArray

VALUE_BITS = 16  # rows, labels, activations
PARAMETER_BITS = 24  # weights: one step of gradient descent is far below 2^-16
_MAX_PROBLEMS = 20


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
