"""Pseudo-random byte streams: AES-256 in counter mode, one key and one stream each.

A stream is long-lived and its slices are taken in the order that the plan fixes, so two holders of a key take equal bytes.
A key must feed one stream only: starting it again would repeat every mask.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

KEY_BYTES = 32
BLOCK_BYTES = 16
MAX_BLOCKS = 2**36  # far below where counter mode becomes distinguishable by its lack of repeated blocks
_CHUNK = 1 << 20
_ZEROS = memoryview(bytes(_CHUNK))


class ByteSource(Protocol):
    """Something that gives fresh random bytes, each once."""

    def take(self, count: int) -> NDArray[np.uint8]:
        """Returns the next `count` bytes as a new array."""
        ...


class AesCtrStream:
    """The key stream of AES-256-CTR from counter zero; secret, since the key is.

    Args:
        key: 32 bytes, used for nothing else.

    Raises:
        ConfideError: INTERNAL (ours) for a key of another length.
    """

    __slots__ = ("_cipher", "_left")

    def __init__(self, key: SecretBytes) -> None:
        value = key.reveal()
        if len(value) != KEY_BYTES:
            raise ConfideError(ErrorCode.INTERNAL, "a stream key has 32 bytes")
        self._cipher = Cipher(algorithms.AES(value), modes.CTR(bytes(BLOCK_BYTES))).encryptor()
        self._left = MAX_BLOCKS * BLOCK_BYTES

    def take(self, count: int) -> NDArray[np.uint8]:
        """Returns the next `count` bytes.

        Raises:
            ConfideError: INTERNAL (ours) beyond 2^36 blocks of one key.
        """
        if not 0 <= count <= self._left:
            raise ConfideError(ErrorCode.INTERNAL, "a stream key is used up: more than 2^36 blocks")
        self._left -= count
        out = np.empty(count, np.uint8)
        view = out.data
        if count <= _CHUNK:
            self._cipher.update_into(_ZEROS[:count], view)
            return out
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            self._cipher.update_into(_ZEROS[:size], view[start : start + size])
        return out
