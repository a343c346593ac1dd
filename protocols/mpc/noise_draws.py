"""One owner's two draws of noise, and the commitments to them.

    commitment = SHA-256(tag, attempt's nonces, owner, which of the two, seed, salt, draw)

The draw is what `protocols.discrete_gaussian` samples on the key stream of the seed. Seed and salt are

    HKDF-SHA256(fresh bytes of the owner, salt = attempt's nonces, info = tag, owner), 64 bytes of it for each of the two,

so an owner whose generator repeats itself, as on a machine that was set back to an earlier state, still has another draw in every
attempt: else it could open in one what it uses in another. One of the two is opened by seed and salt: whoever samples it again
finds out whether the owner's sampler gave what it must. The other's seed is never opened, for anybody who has it can take the
noise away; its values stay hidden behind the salt.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.discrete_gaussian import num_together, sample_each
from protocols.plan.noise import NUM_DRAWS
from protocols.prefixed import prefixed
from protocols.prg import KEY_BYTES, AesCtrStream
from protocols.ring import RingArray
from protocols.secrets import SecretBytes

SALT_BYTES = 32
OPENING_BYTES = KEY_BYTES + SALT_BYTES
_TAG = b"confide.noise-draw/2"


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


def fresh_draws(count: int, deviation: int, random: Callable[[int], bytes], *, context: str, owner: str) -> list[Draw]:
    """Returns both new draws of an owner, secret; others in every attempt, even where `random` gives the same.

    Args:
        count: integers of each; public.
        deviation: of each integer; public.
        random: gives so many fresh bytes of the owner's own.
        context: fresh in every attempt, known to all (`SessionKeys.handshake`).
        owner: whose draws.
    """
    both = fresh_bytes(NUM_DRAWS * OPENING_BYTES, random, context=context, fields=(_TAG, owner.encode()))
    openings = [both[start : start + OPENING_BYTES] for start in range(0, len(both), OPENING_BYTES)]
    return [*opened_draws(openings, count, deviation)]


def fresh_bytes(count: int, random: Callable[[int], bytes], *, context: str, fields: Iterable[bytes]) -> bytes:
    """Returns new bytes, secret: others in every attempt and for other fields, even where `random` gives the same.

    Args:
        count: how many, at most 255 times 32; public.
        random: gives so many fresh bytes of a party's own.
        context: fresh in every attempt, known to all (`SessionKeys.handshake`).
        fields: what they are for; public.
    """
    return HKDF(algorithm=SHA256(), length=count, salt=context.encode(), info=prefixed(fields)).derive(random(KEY_BYTES))


def opened_draws(openings: Sequence[bytes], count: int, deviation: int) -> Iterator[Draw]:
    """Gives the draws of seeds that were opened, sampled again; where they are short, several at once."""
    at_once = num_together(count)
    for start in range(0, len(openings), at_once):
        opened = [(opening[:KEY_BYTES], opening[KEY_BYTES:]) for opening in openings[start : start + at_once]]
        samples = sample_each([AesCtrStream(SecretBytes(seed)) for seed, _ in opened], count, deviation)
        for (seed, salt), values in zip(opened, samples, strict=True):
            yield Draw(seed, salt, values)


def commitment_to(draw: Draw, *, context: str, owner: str, index: int) -> bytes:
    """Returns the 32 bytes by which an owner is bound to a draw; public.

    Args:
        draw: the draw.
        context: fresh in every attempt, known to all (`SessionKeys.handshake`).
        owner: whose draw.
        index: 0 or 1, which of its two.
    """
    digest = hashlib.sha256(prefixed((_TAG, context.encode(), owner.encode(), bytes([index]), draw.seed, draw.salt)))
    digest.update(np.ascontiguousarray(draw.values, "<i8").data)
    return digest.digest()


def is_committed(draw: Draw, commitment: bytes, *, context: str, owner: str, index: int) -> bool:
    """Whether a draw is the one of a commitment; the other arguments are those of `commitment_to`."""
    return hmac.compare_digest(commitment_to(draw, context=context, owner=owner, index=index), commitment)


def digest_of(fields: Iterable[bytes]) -> bytes:
    """Returns the SHA-256 of fields, each behind its length in 8 bytes: no other fields give the same bytes."""
    return hashlib.sha256(prefixed(fields)).digest()
