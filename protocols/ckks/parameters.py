"""The named CKKS parameter sets: the only ones that a party computes with.

A model's manifest names one set and states its digest; no parameter ever comes from a message. The primes follow from the
bits by the rule that SEAL applies (the largest primes of that many bits that are 1 modulo twice the ring degree, the smallest
of them first), so that the digest is known without SEAL; the engine checks at its start that SEAL would choose the same.

Security: 128 bits, classical, ternary secret. The total of bits, the special prime included, stays within the limits of the
2024 guidelines (Bossuat et al., "Security Guidelines for Implementing Homomorphic Encryption", eprint 2024/463), which are a few
bits below those that SEAL enforces (109, 218, 438, 881).

A set of the latency lane has one prime fewer to rescale by than its depth: the last linear layer is not rescaled, so that the
answer leaves at level 0 by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode

MAX_TOTAL_BITS: Mapping[int, int] = MappingProxyType({4096: 106, 8192: 214, 16384: 430, 32768: 868})
MAX_PRIME_BITS = 60


@dataclass(frozen=True)
class ParameterSet:
    """One parameter set. All of it is public.

    Attributes:
        name: its name in manifests.
        ring_degree: N, the number of coefficients of a polynomial.
        data_bits: bits of the data primes; a ciphertext at level l has the first l + 1 of them.
        special_bits: bits of the prime that only keys have. Key switching needs it to be no smaller than any data prime; the
            batch lane switches no keys, and its sets may have a small one.
    """

    name: str
    ring_degree: int
    data_bits: tuple[int, ...]
    special_bits: int

    def __post_init__(self) -> None:
        if self.ring_degree not in MAX_TOTAL_BITS:
            raise ValueError(f"ring degree {self.ring_degree} is not one of {sorted(MAX_TOTAL_BITS)}")
        if not self.data_bits or max(*self.data_bits, self.special_bits) > MAX_PRIME_BITS:
            raise ValueError(f"{self.name}: one data prime at least, and no prime above {MAX_PRIME_BITS} bits")
        if self.total_bits > MAX_TOTAL_BITS[self.ring_degree]:
            raise ValueError(
                f"{self.name}: {self.total_bits} bits in all; 128-bit security at N={self.ring_degree} "
                f"allows {MAX_TOTAL_BITS[self.ring_degree]}"
            )

    @property
    def slots(self) -> int:
        """How many real numbers one ciphertext holds."""
        return self.ring_degree // 2

    @property
    def levels(self) -> int:
        """How many levels there are: one more than the highest level."""
        return len(self.data_bits)

    @property
    def top_level(self) -> int:
        """The level of a fresh ciphertext."""
        return len(self.data_bits) - 1

    @property
    def total_bits(self) -> int:
        """Bits of all primes together, which is what security depends on."""
        return sum(self.data_bits) + self.special_bits

    @property
    def key_primes(self) -> tuple[int, ...]:
        """The data primes, first to last, then the special prime."""
        return _primes(self.ring_degree, (*self.data_bits, self.special_bits))

    @property
    def primes(self) -> tuple[int, ...]:
        """The data primes; the last one is the first that a rescale drops."""
        return self.key_primes[:-1]

    @property
    def special_prime(self) -> int:
        """The prime that only keys have."""
        return self.key_primes[-1]

    @property
    def switches_keys(self) -> bool:
        """Whether rotation and relinearisation keys can be used: the special prime is as large as any other."""
        return self.special_bits >= max(self.data_bits)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical document, as 64 hexadecimal digits."""
        return _digest(self)

    def to_document(self) -> dict[str, Any]:
        """Returns the set as a document; primes are strings, since they exceed what JSON numbers hold exactly."""
        return {
            "name": self.name,
            "ring_degree": self.ring_degree,
            "data_primes": [str(prime) for prime in self.primes],
            "special_prime": str(self.special_prime),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ParameterSet:
        """Returns the named set that a document holds.

        Raises:
            ConfideError: INVALID_DOCUMENT (its author's fault): not a set of this version of Confide, or altered.
        """
        name = document.get("name")
        known = PARAMETER_SETS.get(name) if isinstance(name, str) else None
        if known is None or dict(document) != known.to_document():
            raise ConfideError(
                ErrorCode.INVALID_DOCUMENT,
                "the CKKS parameters are not one of the named sets of this version of Confide",
                remedy="Publish and use the model with the same version of Confide.",
            )
        return known


@lru_cache(maxsize=64)
def _digest(parameters: ParameterSet) -> str:
    return sha256_hex(canonical_bytes(parameters.to_document()))


@lru_cache(maxsize=64)
def _primes(ring_degree: int, bits: tuple[int, ...]) -> tuple[int, ...]:
    """SEAL's CoeffModulus::Create: per size the largest primes that are 1 modulo 2N, handed out from the smallest."""
    found: dict[int, list[int]] = {}
    for size in set(bits):
        step, wanted = 2 * ring_degree, bits.count(size)
        primes: list[int] = []
        candidate = ((1 << size) - 1) // step * step + 1
        while len(primes) < wanted and candidate > 1 << (size - 1):
            if _is_prime(candidate):
                primes.append(candidate)
            candidate -= step
        if len(primes) < wanted:
            raise ValueError(f"there are not {wanted} primes of {size} bits for N={ring_degree}")
        found[size] = primes
    return tuple(found[size].pop() for size in bits)


def _is_prime(number: int) -> bool:
    """Miller-Rabin with the bases that decide every number below 2^64 (Sorenson and Webster, 2015)."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if number in bases:
        return True
    if any(number % base == 0 for base in bases):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(number, base, odd, twos) for base in bases)


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


def _table(*sets: ParameterSet) -> Mapping[str, ParameterSet]:
    return MappingProxyType({each.name: each for each in sets})


PARAMETER_SETS: Mapping[str, ParameterSet] = _table(
    # one sample at a time: `latency-d` has room for multiplicative depth d; a letter counts the revisions of a set. The special
    # prime is some bits larger than the first where there is room: key switching leaves an error of their ratio, most of it in a
    # few slots (see errors_model).
    ParameterSet("latency-1b", 4096, (53,), 53),
    ParameterSet("latency-2b", 8192, (59, 52), 60),
    ParameterSet("latency-3b", 8192, (58, 45, 45), 60),
    ParameterSet("latency-4b", 8192, (58, 32, 32, 32), 60),
    ParameterSet("latency-5b", 8192, (50, 28, 28, 27, 27), 54),
    ParameterSet("latency-6", 16384, (56, *(45,) * 5), 60),
    ParameterSet("latency-7", 16384, (56, *(45,) * 6), 60),
    ParameterSet("latency-8", 16384, (56, *(44,) * 7), 60),
    # samples in slots: nothing is rescaled and no key is switched; the special prime serves fresh encryptions of zero alone.
    # Primes of 30 bits enter a real matrix product whole (see residue_products).
    ParameterSet("batch-1", 4096, (30, 30), 30),
    ParameterSet("batch-2", 4096, (30, 30, 30), 16),
    ParameterSet("batch-2-fine", 8192, (30, 30, 30, 30), 30),
)
