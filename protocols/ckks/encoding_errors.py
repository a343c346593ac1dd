"""How far off an encoded vector is, whose polynomial's coefficients are rounded to whole numbers.

A vector of real numbers is encoded as a polynomial c with c[N - k] = -c[k], since it is equal to its own conjugate. So it is the
first half of the coefficients that is rounded, and the second half is off by the same numbers with the other sign: nothing of
the error goes into the imaginary halves of slots, and the real halves have the variance N / 12, twice that of N roundings
that do not depend on each other. Between coefficients and slots stands a cosine transform.

A vector that repeats itself is a polynomial in a power of X. Most of its coefficients are zero, which is not rounded, and what
it is off by repeats itself too.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft  # type: ignore[import-untyped]

from protocols.ckks.slots import slot_exponents

Float64 = NDArray[np.float64]


def encoding_error(values: Float64, scale: float) -> Float64:
    """Returns what decoding gives more than was encoded; as secret as the values.

    Args:
        values: one real number for each slot, `(slots,) float64`.
        scale: at which they are encoded, below 2^50 times their inverse size: beyond, a float64 has no digits of what is rounded.

    Returns:
        `(slots,) float64`, of the values' unit.
    """
    places = _cosine_places(2 * values.size)
    ordered = np.empty(values.size)
    ordered[places] = values
    coefficients = fft.dct(ordered, type=2) * (scale / (2 * values.size))
    errors = fft.dct(np.rint(coefficients) - coefficients, type=3)
    return np.asarray(errors[places] / scale, np.float64)


def constant_encoding_error(value: float, scale: float) -> float:
    """Returns the same for one number that stands in all slots: it is the first coefficient, and the only one."""
    return float(np.rint(value * scale) / scale - value)


@lru_cache(maxsize=8)
def _cosine_places(ring_degree: int) -> NDArray[np.int64]:
    """For each slot the number m of its cosine cos(pi k (2m + 1) / N): an exponent and its opposite have the same."""
    exponents = slot_exponents(ring_degree)
    return (np.minimum(exponents, 2 * ring_degree - exponents) - 1) // 2
