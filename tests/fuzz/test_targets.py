"""Every decoder takes what it should, and a short random walk around it raises nothing but what is declared.

The coverage-guided search is `make fuzz`; this shows that the targets themselves work.
"""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets import TARGETS

INPUTS = 40
_PIECES = (b'"', b"{}", b"9" * 20, b"\0", b"[", b"-1", b"null", b"true", b"1e9", b"\xff", b": ", b"&a [*a]")


def altered(rng: random.Random, seed: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(3):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randint(1, 8)]
            case _:
                data[at:at] = rng.choice(_PIECES)
    return bytes(data)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_target_takes_its_seeds_and_altered_ones_raise_only_what_is_declared(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    assert all(target.is_accepted(seed) for seed in seeds)
    rng = random.Random(name)
    for _ in range(INPUTS):
        target.is_accepted(altered(rng, rng.choice(seeds)))
