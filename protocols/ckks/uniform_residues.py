"""Uniform residues that follow from a seed, and ciphertexts whose second part follows from one.

A fresh ciphertext under a secret key s is (c0, c1) with c1 uniform and c0 = m + e - c1 * s. Only c0 and the seed of c1 travel.
SEAL has a generator of its own for c1, which takes longer to run for a batch than the whole encrypted matrix product; here all
second parts of a batch come from one AES-256-CTR stream. Message and error m + e come from SEAL (`Engine.fresh_phase`), so that
what is sent has exactly the distribution of SEAL's own fresh encryption, with this c1.

The key of the stream is a hash of the seed, so that whoever chooses the seed does not choose residues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.residue_products import multiply_residues
from protocols.errors import ConfideError, ErrorCode
from protocols.prg import AesCtrStream
from protocols.secrets import SecretBytes

Words = NDArray[np.uint32]
SEED_BYTES = 32
_TAG = b"confide.ckks.uniform-residues/1"
_SPARE_WORDS = 4_096  # taken at a time from the stream in place of words that are no residue


def expand(seed: bytes, *, count: int, primes: Sequence[int], ring_degree: int) -> Words:
    """Returns the uniform polynomials that follow from a seed; public.

    Word for word of the stream, little-endian, in the order (polynomial, prime, coefficient), reduced to the bits of its prime.
    What is not below the prime is then replaced, in the same order, by the first next word of the stream that is: exactly
    uniform, and one in 12 000 for the primes in use.

    Args:
        seed: 32 bytes.
        count: how many polynomials.
        primes: moduli of at most 31 bits.
        ring_degree: coefficients of a polynomial.

    Returns:
        (count, primes, ring_degree) uint32.

    Raises:
        ConfideError: INVALID_ARGUMENT (the sender's fault): a seed of another length.
    """
    if len(seed) != SEED_BYTES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"the seed of a batch has {SEED_BYTES} bytes")
    stream = AesCtrStream(SecretBytes(hashlib.sha256(_TAG + seed).digest()))
    words = stream.take(4 * count * len(primes) * ring_degree).view("<u4").reshape(count, len(primes), ring_degree)
    masks = np.array([(1 << prime.bit_length()) - 1 for prime in primes], np.uint32)
    moduli = np.array(primes, np.uint32)
    spare: list[int] = []
    for polynomial in words:  # one at a time: it stays in the cache
        polynomial &= masks[:, None]
        for which in np.flatnonzero(polynomial.max(axis=1) >= moduli):
            row, mask, prime = polynomial[which], int(masks[which]), int(moduli[which])
            for place in np.flatnonzero(row >= moduli[which]):
                row[place] = _next_residue(stream, spare, mask, prime)
    return words.astype(np.uint32, copy=False)


def _next_residue(stream: AesCtrStream, spare: list[int], mask: int, prime: int) -> int:
    while True:
        if not spare:
            spare.extend(stream.take(4 * _SPARE_WORDS).view("<u4")[::-1].tolist())
        if (value := spare.pop() & mask) < prime:
            return value


def first_parts(phase: NDArray[np.uint64], secret: NDArray[np.uint64], second_part: Words, primes: Sequence[int]) -> Words:
    """Returns the first part c0 = phase - c1 * s of a fresh ciphertext whose second part is given.

    Args:
        phase: (primes, N), message and fresh error in NTT form (`Engine.fresh_phase`), used once; secret.
        secret: (primes, N), the secret key in NTT form; secret.
        second_part: (primes, N), as from `expand`; used once.
        primes: moduli of at most 31 bits.

    Returns:
        (primes, N) uint32.
    """
    found = np.empty(second_part.shape, np.uint32)
    for index, prime in enumerate(primes):
        product = multiply_residues(_centred(second_part[index], prime), _centred(secret[index], prime), prime)
        found[index] = (phase[index].astype(np.int64) - product.astype(np.int64)) % prime
    return found


def _centred(residues: NDArray[np.unsignedinteger[Any]], prime: int) -> NDArray[np.float64]:
    values = residues.astype(np.float64)
    values -= prime * np.rint(values / prime)
    return values
