"""What SEAL holds in its own memory, behind types of ours: only the engine looks inside.

`raw` is an object of SEAL's bindings, which have no types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from protocols.ckks.key_manifest import KeyManifest


class Ciphertext:
    """A ciphertext in SEAL's memory; it may hold two or three parts."""

    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw: Final = raw


class Plaintext:
    """An encoded vector at a level and scale."""

    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw: Final = raw


class SecretKey:
    """A secret key in SEAL's memory. It has no text form and is not pickled."""

    __slots__ = ("decryptor", "encryptor", "generator", "raw")

    def __init__(self, raw: Any, encryptor: Any, decryptor: Any, generator: Any) -> None:
        self.raw: Final = raw
        self.encryptor: Final = encryptor
        self.decryptor: Final = decryptor
        self.generator: Final = generator

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")


class PublicKey:
    """A public key, good for encryptions of zero up to a level."""

    __slots__ = ("encryptor", "level")

    def __init__(self, encryptor: Any, level: int) -> None:
        self.encryptor: Final = encryptor
        self.level: Final = level


class EvaluationKeys:
    """The keys of one manifest, loaded."""

    __slots__ = ("elements", "galois", "manifest", "public_key", "relinearise")

    def __init__(
        self,
        manifest: KeyManifest,
        galois: Any,
        relinearise: Any,
        public_key: PublicKey | None,
        elements: Mapping[int, int],
    ) -> None:
        self.manifest: Final = manifest
        self.galois: Final = galois
        self.relinearise: Final = relinearise
        self.public_key: Final = public_key
        self.elements: Final = elements
