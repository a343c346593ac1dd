"""Residues of 24, 30 or 31 bits in 32-bit words without waste, laid out for whole-array unpacking.

With b bits there are 32 - b to spare in every word: b / (32 - b) words carry one residue each in their low bits, and together
one more residue in their high bits. A polynomial is stored plane by plane: plane k holds the words of the k-th of its equal
stretches, so that unpacking is one masking of everything and a few shifts of a small part. Unpacking a batch this way takes a
tenth of the time that shifting residues out of a bit stream takes (`packing_bits`), at the same size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]


def packed_words(ring_degree: int, bits: int) -> int:
    """Returns the 32-bit words that a polynomial takes."""
    planes, stretch = _layout(ring_degree, bits)
    return planes * stretch


def pack_words(residues: Words, bits: int) -> NDArray[np.uint32]:
    """Packs polynomials.

    Args:
        residues: (..., ring_degree) uint32, each below 2^bits.
        bits: 24, 30 or 31.

    Returns:
        (..., packed_words) uint32.
    """
    planes, stretch = _layout(residues.shape[-1], bits)
    if residues.size and int(residues.max()) >> bits:
        raise ValueError(f"a residue of more than {bits} bits")
    parts = residues.reshape(*residues.shape[:-1], planes + 1, stretch)
    words = parts[..., :planes, :].copy()
    spare = 32 - bits
    for plane in range(planes):
        high = (parts[..., planes, :] >> np.uint32(plane * spare)) & np.uint32((1 << spare) - 1)
        words[..., plane, :] |= high << np.uint32(bits)
    return words.reshape(*residues.shape[:-1], planes * stretch)


def unpack_words(words: Words, ring_degree: int, bits: int) -> Words:
    """Returns the residues (..., ring_degree) that `pack_words` packed, each below 2^bits; `words` may be read-only."""
    planes, stretch = _layout(ring_degree, bits)
    parts = words.reshape(*words.shape[:-1], planes, stretch)
    residues = np.empty((*words.shape[:-1], planes + 1, stretch), np.uint32)
    np.bitwise_and(parts, np.uint32((1 << bits) - 1), out=residues[..., :planes, :])
    last = residues[..., planes, :]
    last[...] = parts[..., 0, :] >> np.uint32(bits)
    spare = 32 - bits
    for plane in range(1, planes):
        last |= (parts[..., plane, :] >> np.uint32(bits)) << np.uint32(plane * spare)
    return residues.reshape(*words.shape[:-1], ring_degree)


def _layout(ring_degree: int, bits: int) -> tuple[int, int]:
    """How many words carry one residue more between them, and how often that repeats."""
    planes = bits // (32 - bits) if bits in (24, 30, 31) else 0
    if not planes or ring_degree % (planes + 1):
        raise ValueError(f"residues of {bits} bits are not packed into words")
    return planes, ring_degree // (planes + 1)
