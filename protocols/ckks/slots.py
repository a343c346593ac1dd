"""Which values of a polynomial the slots of CKKS are."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=8)
def slot_exponents(ring_degree: int) -> NDArray[np.int64]:
    """Returns the powers of a 2N-th root of unity at which the slots are a polynomial's values, `(slots,) int64`, read-only.

    Slot j is the value at exponent 3^j (Cheon, Han, Kim, Kim and Song 2018, with 3 for 5); its conjugate is that at -3^j.
    """
    found = np.empty(ring_degree // 2, np.int64)
    exponent = 1
    for slot in range(found.size):
        found[slot], exponent = exponent, exponent * 3 % (2 * ring_degree)
    found.flags.writeable = False
    return found
