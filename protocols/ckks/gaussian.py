"""Gaussian noise from a stream of random bytes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.prg import KEY_BYTES as KEY_BYTES
from protocols.prg import AesCtrStream
from protocols.secrets import SecretBytes

_MANTISSA = 53
MAX_DEVIATIONS = math.sqrt(2 * (_MANTISSA + 1) * math.log(2))
"""No number that is drawn exceeds this many standard deviations (8.65); a true Gaussian does with probability 2^-56."""


def complex_gaussian(key: bytes, count: int) -> NDArray[np.complex128]:
    """Returns `(count,)` complex numbers whose real and imaginary parts are independent standard Gaussians; secret.

    Box-Muller over the AES-256-CTR stream of a key that is used for nothing else, with uniforms of 53 bits.

    Args:
        key: 32 fresh random bytes.
        count: how many numbers.
    """
    words = AesCtrStream(SecretBytes(key)).take(16 * count).view("<u8").reshape(2, count)
    uniform = ((words >> np.uint64(64 - _MANTISSA)).astype(np.float64) + 0.5) * 2.0**-_MANTISSA
    radius = np.sqrt(-2.0 * np.log(uniform[0]))
    return np.asarray(radius * np.exp(2j * np.pi * uniform[1]), np.complex128)
