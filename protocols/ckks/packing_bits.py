"""Residues packed to the bits of their prime: a residue modulo a b-bit prime takes b bits, the lowest first.

The pattern of shifts repeats where numbers and words end together: after 64 / g numbers in b / g words, where g is the greatest
common divisor of 64 and b. All repetitions are shifted at once: a prime of 52 bits takes a quarter of the passes of one of 53.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MAX_BITS = 63


def packed_bytes(count: int, bits: int) -> int:
    """Returns the bytes that `count` numbers of `bits` bits take; whole bytes, the last one padded with zero bits."""
    return -(-count * bits // 8)


def pack(numbers: NDArray[np.uint64], bits: int) -> bytes:
    """Packs numbers below 2^bits, one after the other, each from its lowest bit.

    Args:
        numbers: `(count,) uint64`, each below 2^bits; count must be a multiple of 64.
        bits: 1 to 63.
    """
    groups, numbers_each, words_each = _groups(numbers.size, bits)
    if numbers.size and int(numbers.max()) >> bits:
        raise ValueError(f"a number of more than {bits} bits")
    source = np.ascontiguousarray(numbers.reshape(groups, numbers_each).T, np.uint64)
    words = np.zeros((words_each, groups), np.uint64)
    for at in range(numbers_each):
        word, shift = divmod(at * bits, 64)
        words[word] |= source[at] << np.uint64(shift)
        if shift + bits > 64:
            words[word + 1] |= source[at] >> np.uint64(64 - shift)
    return np.ascontiguousarray(words.T, "<u8").tobytes()


def unpack(data: bytes | memoryview, count: int, bits: int) -> NDArray[np.uint64]:
    """Returns the numbers that `pack` packed, `(count,) uint64`, each below 2^bits.

    Raises:
        ValueError: the data has not exactly the bytes of `count` numbers.
    """
    groups, numbers_each, words_each = _groups(count, bits)
    if len(data) != packed_bytes(count, bits):
        raise ValueError(f"{len(data)} bytes where {packed_bytes(count, bits)} hold {count} numbers of {bits} bits")
    words = np.ascontiguousarray(np.frombuffer(data, "<u8").reshape(groups, words_each).T)
    numbers = np.empty((numbers_each, groups), np.uint64)
    mask = np.uint64((1 << bits) - 1)
    for at in range(numbers_each):
        word, shift = divmod(at * bits, 64)
        value = words[word] >> np.uint64(shift)
        if shift + bits > 64:
            value |= words[word + 1] << np.uint64(64 - shift)
        np.bitwise_and(value, mask, out=numbers[at])
    return np.ascontiguousarray(numbers.T).reshape(count)


def _groups(count: int, bits: int) -> tuple[int, int, int]:
    """How often the pattern repeats, and the numbers and words of each repetition."""
    if count % 64 or not 1 <= bits <= MAX_BITS:
        raise ValueError(f"{count} numbers of {bits} bits: the count must be a multiple of 64 and the bits 1 to {MAX_BITS}")
    shared = math.gcd(bits, 64)
    return count * shared // 64, 64 // shared, bits // shared
