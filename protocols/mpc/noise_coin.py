"""The coin of the noise: what computing parties toss once all draws are shared, and what it chooses.

Every computing party has a part of it, to which it commits before it hears the others' (docs/protocols/noise.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.noise_draws import digest_of, fresh_bytes
from protocols.plan.noise import COIN_BYTES, PlannedNoise
from protocols.prg import AesCtrStream
from protocols.secrets import SecretBytes
from protocols.sharing import draw_ring

_TAG = b"confide.noise-coin/2"


def fresh_part(random: Callable[[int], bytes], *, context: str, party: str) -> bytes:
    """Returns a party's part, secret until it is opened; another one in every attempt, even where `random` gives the same."""
    return fresh_bytes(COIN_BYTES, random, context=context, fields=(_TAG, b"part", party.encode()))


def commitment_to_part(part: bytes, *, context: str, party: str) -> bytes:
    """Returns the 32 bytes by which a party is bound to its part in this attempt; public."""
    return digest_of((_TAG, context.encode(), party.encode(), part))


def coin_of(parts: Iterable[bytes]) -> bytes:
    """Returns the coin of all parts, in the order of the computing parties; public."""
    return digest_of((_TAG, b"coin", *parts))


def opened_index(coin: bytes, owner: str) -> int:
    """Returns which of an owner's two draws is opened."""
    return digest_of((_TAG, b"draw", coin, owner.encode()))[0] & 1


def chosen_spares(coin: bytes, design: PlannedNoise) -> NDArray[np.intp]:
    """Returns the spares in order: `spares` of the `width` coordinates, any choice with the same chance."""
    ranks = draw_ring(AesCtrStream(SecretBytes(digest_of((_TAG, b"spares", coin)))), (design.width,))
    return np.sort(np.argsort(ranks, kind="stable")[: design.spares])
