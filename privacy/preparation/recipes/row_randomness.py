"""Randomness of single rows: what a row gets follows from the recipe's seed, the step and the row's number alone.

So a recipe gives the same rows again whatever the size of its batches, whichever rows were dropped before, on any machine.
AES-256 under a key of the step is the pseudo-random function, its input the row's number and the number of the draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

SEED_BYTES = 32
_DOMAIN = b"confide.recipe-step/1\x00"
_UNIT = 2.0**-53


class RowRandomness:
    """Draws for rows; secret, since who knows them can take noise away again.

    Args:
        seed: 32 bytes, of one recipe on one table.
        step: what tells steps apart, for example `3:jitter`; at most 255 bytes.

    Raises:
        ConfideError: INTERNAL (ours) for a seed of another length.
    """

    def __init__(self, seed: SecretBytes, step: str) -> None:
        value = seed.reveal()
        if len(value) != SEED_BYTES:
            raise ConfideError(ErrorCode.INTERNAL, f"the seed of a recipe has {SEED_BYTES} bytes")
        key = HKDF(SHA256(), 32, salt=None, info=_DOMAIN + step.encode()).derive(value)
        self._cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  # single distinct blocks: a PRF, no encryption

    def words(self, rows: NDArray[np.int64], draw: int = 0) -> NDArray[np.uint64]:
        """Returns two random words a row: (rows, 2) uint64.

        Args:
            rows: (rows,) numbers of the rows, from 1.
            draw: which draw of the row; another number gives independent words.
        """
        blocks = np.empty((len(rows), 2), "<u8")
        blocks[:, 0], blocks[:, 1] = rows, draw
        encrypted = self._cipher.encryptor().update(blocks.tobytes())
        return np.frombuffer(encrypted, "<u8").astype(np.uint64).reshape(-1, 2)

    def uniform_of(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Returns one draw a text: (texts,) float64 in [0, 1); a text draws the same wherever it stands.

        Args:
            texts: what rows have in common, for example who they are about; secret.
        """
        # Half of a SHA-256 is the block: two of n texts draw the same block with a probability of n^2 / 2^129.
        blocks = b"".join(hashlib.sha256(text.encode()).digest()[:16] for text in texts)
        encrypted = self._cipher.encryptor().update(blocks)
        return (np.frombuffer(encrypted, "<u8")[::2] >> np.uint64(11)).astype(np.float64) * _UNIT

    def uniform(self, rows: NDArray[np.int64], draw: int = 0) -> NDArray[np.float64]:
        """Returns (rows,) float64 in [0, 1), multiples of 2^-53; arguments as for `words`."""
        return (self.words(rows, draw)[:, 0] >> np.uint64(11)).astype(np.float64) * _UNIT
