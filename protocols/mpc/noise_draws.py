"""One owner's two draws of noise, and the commitments to them.

    commitment = SHA-256(tag, attempt's nonces, owner, which of the two, seed, salt, SHA-256(draw))

The draw is what `protocols.discrete_gaussian.sample` gives on the key stream of the seed. One of the two is opened by seed and
salt: whoever samples it again finds out whether the owner's sampler gave what it must. The other's seed is never opened, for
anybody who has it can take the noise away; the digest of its values stays hidden behind the salt.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from protocols.discrete_gaussian import sample
from protocols.prg import KEY_BYTES, AesCtrStream
from protocols.ring import RingArray
from protocols.secrets import SecretBytes

SALT_BYTES = 32
OPENING_BYTES = KEY_BYTES + SALT_BYTES
_TAG = b"confide.noise-draw/1"


@dataclass(frozen=True, repr=False, eq=False)
class Draw:
    """Noise of one owner for a whole training; secret, unless it is the one that is opened.

    Attributes:
        seed: 32 bytes.
        salt: 32 bytes.
        values: int64, all of the steps after each other.
    """

    seed: bytes
    salt: bytes
    values: RingArray

    @property
    def opening(self) -> bytes:
        """What opens it: seed and salt."""
        return self.seed + self.salt


def fresh_draw(count: int, deviation: int, random: Callable[[int], bytes]) -> Draw:
    """Returns a new draw; `random` gives so many bytes of the owner's own."""
    seed, salt = random(KEY_BYTES), random(SALT_BYTES)
    return Draw(seed, salt, _values(seed, count, deviation))


def opened_draw(opening: bytes, count: int, deviation: int) -> Draw:
    """Returns the draw of a seed that was opened, sampled again."""
    seed, salt = opening[:KEY_BYTES], opening[KEY_BYTES:]
    return Draw(seed, salt, _values(seed, count, deviation))


def commitment_to(draw: Draw, *, context: str, owner: str, index: int) -> bytes:
    """Returns the 32 bytes by which an owner is bound to a draw; public.

    Args:
        draw: the draw.
        context: fresh in every attempt, known to all (`SessionKeys.handshake`).
        owner: whose draw.
        index: 0 or 1, which of its two.
    """
    digest = hashlib.sha256()
    values = hashlib.sha256(np.ascontiguousarray(draw.values, "<i8").data).digest()
    for field in (_TAG, context.encode(), owner.encode(), bytes([index]), draw.seed, draw.salt, values):
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    return digest.digest()


def is_committed(draw: Draw, commitment: bytes, *, context: str, owner: str, index: int) -> bool:
    """Whether a draw is the one of a commitment; the other arguments are those of `commitment_to`."""
    return hmac.compare_digest(commitment_to(draw, context=context, owner=owner, index=index), commitment)


def _values(seed: bytes, count: int, deviation: int) -> RingArray:
    return sample(AesCtrStream(SecretBytes(seed)), count, deviation)
