"""Ciphertexts and keys as they travel: a seed for the uniform half, residues for the other.

Only seeded halves travel to the model owner: whoever sends one cannot choose its uniform part, which several protections rest on.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.seal_format import Residues


@dataclass(frozen=True, eq=False)
class SeededHalf:
    """A pair of polynomials whose second one follows from a seed.

    Attributes:
        seed: 64 bytes, public.
        residues: `(primes, N) uint64` in NTT form; which primes, its place says.
    """

    seed: bytes
    residues: Residues


@dataclass(frozen=True, eq=False)
class SeededCiphertext:
    """A fresh ciphertext under the sender's secret key: level, scale and its seeded halves."""

    level: int
    scale: float
    half: SeededHalf


@dataclass(frozen=True, eq=False)
class KeyMaterial:
    """Evaluation keys and public key, exactly those of a manifest. All of it is public.

    Attributes:
        manifest: which keys these are.
        rotations: per rotation of the manifest its digits.
        relinearise: the digits of the relinearisation key, empty if the manifest has none.
        public_key: the public key, None if the manifest has none.
    """

    manifest: KeyManifest
    rotations: tuple[tuple[SeededHalf, ...], ...]
    relinearise: tuple[SeededHalf, ...]
    public_key: SeededHalf | None
