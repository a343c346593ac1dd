"""The operations that an evaluation is written with, and a rehearsal that counts them instead of computing.

One piece of code says what is done: run with SEAL it computes, run with `Rehearsal` it says what it will cost and which keys it
needs. So a manifest never lacks a key, and never has one too many.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol, TypeVar

from protocols.ckks.costs import Counts, Primitive
from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.parameters import ParameterSet

C = TypeVar("C")
P = TypeVar("P")
K = TypeVar("K", contravariant=True)


class Arithmetic(Protocol[C, P, K]):
    """What `protocols.ckks.engine.Engine` offers to an evaluation; see there."""

    def multiply_plain(self, __ciphertext: C, __plaintext: P) -> C:
        """See `Engine`."""
        ...

    def add_inplace(self, __left: C, __right: C) -> None:
        """See `Engine`."""
        ...

    def add_plain_inplace(self, __ciphertext: C, __plaintext: P) -> None:
        """See `Engine`."""
        ...

    def rotate(self, __ciphertext: C, __step: int, __keys: K) -> C:
        """See `Engine`."""
        ...

    def square(self, __ciphertext: C, __keys: K) -> C:
        """See `Engine`."""
        ...

    def multiply(self, __left: C, __right: C, __keys: K) -> C:
        """See `Engine`."""
        ...

    def rescale(self, __ciphertext: C) -> None:
        """See `Engine`."""
        ...

    def drop_to(self, __ciphertext: C, __level: int) -> C:
        """See `Engine`."""
        ...

    def level_of(self, __ciphertext: C) -> int:
        """See `Engine`."""
        ...

    def set_scale(self, __ciphertext: C, __scale: float) -> None:
        """See `Engine`."""
        ...

    def encode_constant(self, __value: float, __level: int, __scale: float) -> P:
        """See `Engine`."""
        ...


@dataclass
class Standing:
    """A ciphertext of a rehearsal: its level and scale."""

    level: int
    scale: float


@dataclass(frozen=True)
class Token:
    """A plaintext of a rehearsal."""

    level: int
    scale: float


class Rehearsal:
    """Counts what is done, and checks levels and scales as SEAL does."""

    def __init__(self, parameters: ParameterSet) -> None:
        self.parameters = parameters
        self.counts: Counts = Counter()
        self.rotations: dict[int, int] = {}
        self.relinearise_level: int | None = None

    def keys(self) -> KeyManifest:
        """Returns the keys that were used, with a public key, under which answers are re-randomised."""
        return KeyManifest(
            rotations=tuple(sorted(self.rotations.items())), relinearise_level=self.relinearise_level, public_key=True
        )

    def multiply_plain(self, ciphertext: Standing, plaintext: Token, /) -> Standing:
        """See `Engine`."""
        self._same(ciphertext.level, plaintext.level)
        self.counts[Primitive.MULTIPLY_PLAIN, ciphertext.level] += 1
        return Standing(ciphertext.level, ciphertext.scale * plaintext.scale)

    def add_inplace(self, left: Standing, right: Standing, /) -> None:
        """See `Engine`."""
        self._same(left.level, right.level)
        self._close(left.scale, right.scale)
        self.counts[Primitive.ADD, left.level] += 1

    def add_plain_inplace(self, ciphertext: Standing, plaintext: Token, /) -> None:
        """See `Engine`."""
        self._same(ciphertext.level, plaintext.level)
        self._close(ciphertext.scale, plaintext.scale)
        self.counts[Primitive.ADD_PLAIN, ciphertext.level] += 1

    def rotate(self, ciphertext: Standing, step: int, _keys: None, /) -> Standing:
        """See `Engine`."""
        self.counts[Primitive.ROTATE, ciphertext.level] += 1
        self.rotations[step] = max(self.rotations.get(step, 0), ciphertext.level)
        return Standing(ciphertext.level, ciphertext.scale)

    def square(self, ciphertext: Standing, _keys: None, /) -> Standing:
        """See `Engine`."""
        self.counts[Primitive.SQUARE, ciphertext.level] += 1
        self.relinearise_level = max(self.relinearise_level or 0, ciphertext.level)
        return Standing(ciphertext.level, ciphertext.scale**2)

    def multiply(self, left: Standing, right: Standing, _keys: None, /) -> Standing:
        """See `Engine`."""
        self._same(left.level, right.level)
        self.counts[Primitive.MULTIPLY, left.level] += 1
        self.relinearise_level = max(self.relinearise_level or 0, left.level)
        return Standing(left.level, left.scale * right.scale)

    def rescale(self, ciphertext: Standing, /) -> None:
        """See `Engine`."""
        self.counts[Primitive.RESCALE, ciphertext.level] += 1
        ciphertext.scale /= self.parameters.primes[ciphertext.level]
        ciphertext.level -= 1

    def drop_to(self, ciphertext: Standing, level: int, /) -> Standing:
        """See `Engine`."""
        if level > ciphertext.level:
            raise ValueError(f"a ciphertext at level {ciphertext.level} cannot be raised to {level}")
        if level < ciphertext.level:
            self.counts[Primitive.DROP, ciphertext.level] += 1
        return Standing(level, ciphertext.scale)

    def level_of(self, ciphertext: Standing, /) -> int:
        """See `Engine`."""
        return ciphertext.level

    def set_scale(self, ciphertext: Standing, scale: float, /) -> None:
        """See `Engine`."""
        self._close(ciphertext.scale, scale)
        ciphertext.scale = scale

    def encode_constant(self, _value: float, level: int, scale: float, /) -> Token:
        """See `Engine`."""
        return Token(level, scale)

    def _same(self, left: int, right: int) -> None:
        if left != right:
            raise ValueError(f"levels {left} and {right} do not meet")

    def _close(self, left: float, right: float) -> None:
        """A scale may be declared where it differs by rounding alone; anything else would be a wrong result without a sign."""
        if abs(left / right - 1) > 2.0**-30:
            raise ValueError(f"scales {left} and {right} do not meet")
