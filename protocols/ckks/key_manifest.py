"""Which evaluation keys a model needs, and how many bytes they take: part of the public plan.

Learns: nobody anything; the manifest follows from the architecture and the layout, never from the values of weights.

A key that is used at level l alone needs the digits 0..l and, of each, the residues modulo the primes 0..l and the special
prime: SEAL reads no others at that level (`switch_key_inplace`). So each key states the highest level at which it is used, and
only that part of it is made known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocols.ckks.packing_bits import packed_bytes
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.seal_format import SEED_BYTES
from protocols.ckks.wire_header import HEADER_BYTES
from protocols.errors import ConfideError, ErrorCode

MAX_ROTATIONS = 512


@dataclass(frozen=True)
class KeyManifest:
    """The exact keys that a plan uses. All of it is public.

    Attributes:
        rotations: `(step, level)` in ascending order of the step; a rotation by `step` moves slot i + step to slot i.
        relinearise_level: highest level at which a product of two ciphertexts is relinearised, None if there is none.
        public_key: whether answers are re-randomised under an uploaded public key.
        answer_level: level of the answers, for which the public key is made.
    """

    rotations: tuple[tuple[int, int], ...]
    relinearise_level: int | None
    public_key: bool
    answer_level: int = 0

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.rotations]
        if steps != sorted(set(steps)) or len(steps) > MAX_ROTATIONS:
            raise ValueError(f"rotations must be in ascending order, each step once, at most {MAX_ROTATIONS}")
        levels = [level for _, level in self.rotations] + [self.relinearise_level or 0, self.answer_level]
        if min(steps, default=1) < 1 or min(levels) < 0:
            raise ValueError("steps start at 1 and levels at 0")

    def check(self, parameters: ParameterSet) -> None:
        """Raises ValueError where the manifest does not fit the parameters (its author's fault)."""
        levels = [level for _, level in self.rotations] + [self.relinearise_level or 0, self.answer_level]
        if max(levels) > parameters.top_level or max((step for step, _ in self.rotations), default=1) >= parameters.slots:
            raise ValueError(f"the key manifest names a step or level that {parameters.name} does not have")
        if (self.rotations or self.relinearise_level is not None) and not parameters.switches_keys:
            raise ValueError(f"{parameters.name} is a set for the batch lane, which has no evaluation keys")

    def bytes(self, parameters: ParameterSet) -> int:
        """Returns the exact size of the upload that holds these keys; the public key travels in the same message."""
        size = sum(key_bytes(parameters, level) for _, level in self.rotations)
        if self.relinearise_level is not None:
            size += key_bytes(parameters, self.relinearise_level)
        if self.public_key:
            size += public_key_bytes(parameters, self.answer_level)
        return HEADER_BYTES + size

    def to_document(self) -> dict[str, Any]:
        """Returns the manifest as a document."""
        return {
            "rotations": [[step, level] for step, level in self.rotations],
            "relinearise_level": self.relinearise_level,
            "public_key": self.public_key,
            "answer_level": self.answer_level,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> KeyManifest:
        """Returns the manifest that a document holds.

        Raises:
            ConfideError: INVALID_DOCUMENT (its author's fault): fields or values that are not those of a key manifest.
        """
        try:
            if set(document) != {"rotations", "relinearise_level", "public_key", "answer_level"}:
                raise ValueError("fields that are not those of a key manifest")
            pairs = tuple((_integer(step), _integer(level)) for step, level in document["rotations"])
            level = document["relinearise_level"]
            if not isinstance(document["public_key"], bool):
                raise ValueError("public_key is true or false")
            return cls(
                rotations=pairs,
                relinearise_level=None if level is None else _integer(level),
                public_key=document["public_key"],
                answer_level=_integer(document["answer_level"]),
            )
        except (ValueError, TypeError) as error:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"key manifest: {error}") from error


def key_primes_at(parameters: ParameterSet, level: int) -> tuple[int, ...]:
    """Returns the positions among the key primes whose residues a key for this level holds."""
    return (*range(level + 1), parameters.levels)


def public_key_primes(level: int) -> tuple[int, ...]:
    """Returns the positions among the key primes that a public key for encryptions of zero at this level holds.

    SEAL encrypts one prime higher than asked and divides by that prime, which leaves less noise; above the top level that is
    the special prime.
    """
    return tuple(range(level + 2))


def key_bytes(parameters: ParameterSet, level: int) -> int:
    """Returns the bytes of one key-switching key for use up to a level."""
    primes = key_primes_at(parameters, level)
    return (level + 1) * (SEED_BYTES + residue_bytes(parameters, primes))


def public_key_bytes(parameters: ParameterSet, level: int) -> int:
    """Returns the bytes of the public key for encryptions of zero at a level."""
    return SEED_BYTES + residue_bytes(parameters, public_key_primes(level))


def residue_bytes(parameters: ParameterSet, primes: tuple[int, ...]) -> int:
    """Returns the bytes of one polynomial modulo the key primes at these positions."""
    return sum(packed_bytes(parameters.ring_degree, parameters.key_primes[at].bit_length()) for at in primes)


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not an integer")
    return value
