"""The coin of the noise: what computing parties toss once all draws are shared, and what it chooses.

Every computing party has a part of it, to which it commits before it hears the others' (docs/protocols/noise.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.mpc.noise_draws import digest_of, fresh_bytes
from protocols.plan.noise import COIN_BYTES, PlannedNoise

_TAG = b"confide.noise-coin/3"


def fresh_part(random: Callable[[int], bytes], *, context: str, party: str) -> bytes:
    """Returns a party's part, secret until it is opened; another one in every attempt, even where `random` gives the same."""
    return fresh_bytes(COIN_BYTES, random, context=context, fields=(_TAG, b"part", party.encode()))


def commitment_to_part(part: bytes, *, context: str, party: str) -> bytes:
    """Returns the 32 bytes by which a party is bound to its part in this attempt; public."""
    return digest_of((_TAG, context.encode(), party.encode(), part))


def coin_of(parts: Iterable[bytes]) -> bytes:
    """Returns the coin of all parts, in the order of the computing parties; public."""
    return digest_of((_TAG, b"coin", *parts))


@dataclass(frozen=True, eq=False)
class Choice:
    """What a coin chooses; public.

    Attributes:
        opened: of every owner, which of its two draws is opened.
        spares: in order, `spares` of the `width` coordinates of a step, any of them with the same chance.
        used: in order, the other coordinates.
    """

    opened: Mapping[str, int]
    spares: NDArray[np.intp]
    used: NDArray[np.intp]


def choice_of(coin: bytes, design: PlannedNoise) -> Choice:
    """Returns what a coin chooses: a bit of a byte for every owner, and a rank of 64 bits for every coordinate."""
    owners = design.owners
    drawn = hashlib.shake_256(digest_of((_TAG, b"choice", coin))).digest(len(owners) + 8 * design.width)
    ranks = np.frombuffer(drawn, "<u8", offset=len(owners))
    opened = {owner: byte & 1 for owner, byte in zip(owners, drawn[: len(owners)], strict=True)}
    order = ranks.argsort(kind="stable")
    spares, used = order[: design.spares], order[design.spares :]
    spares.sort()
    used.sort()
    return Choice(opened, spares, used)
