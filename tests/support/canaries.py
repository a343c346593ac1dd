"""Recognisable secrets, all the forms in which they could leak, and a scanner that looks for them in a heap of bytes.

A number alone, as fixed point, is a few bytes among zeros and turns up by chance in headers and counters. So canaries are
pairs of neighbours: as they lie in a row, and as they lie in a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

SCALES = (16, 24, 32, 40)  # rows, weights, and products of them before truncation
# A fixed-point canary must fill two bytes, or small counters look like it.
_LEAST = 1 << 13
_KEY_BYTES = 8
_TABLE_BITS = 24
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Secret:
    """What must not be found: a name, and the bytes of all its forms."""

    name: str
    forms: Mapping[str, frozenset[bytes]]

    @property
    def patterns(self) -> Iterator[tuple[bytes, str]]:
        """Every pattern, at least 8 bytes, with the name of its form."""
        for form, patterns in self.forms.items():
            for pattern in patterns:
                yield pattern, f"{self.name} as {form}"


def number_secret(name: str, raw: np.ndarray, scaled: np.ndarray) -> Secret:
    """Rows or samples: the numbers of their file, (rows, columns), and the same scaled to [-1, 1]."""
    forms: dict[str, set[bytes]] = {}
    for kind, values in (("raw", raw), ("scaled", scaled)):
        pairs = neighbours(values)
        for dtype in ("<f4", ">f4", "<f8", ">f8"):
            forms[f"{kind} {dtype}"] = {pair.astype(dtype).tobytes() for pair in pairs}
        forms[f"{kind} text"] = {repr(float(v)).encode() for v in values.reshape(-1) if len(repr(float(v))) >= 12}
    for scale in SCALES:
        forms |= ring_forms(f"fixed point {scale}", _fixed_point(neighbours(scaled), scale))
    return Secret(name, {form: frozenset(patterns) for form, patterns in forms.items()})


def weight_secret(name: str, elements: np.ndarray, *, scale_bits: int) -> Secret:
    """Trained weights: ring elements, (count,), as the shares combine to them."""
    decoded = elements / 2.0**scale_bits
    pairs = neighbours(decoded[np.newaxis, :])
    forms: dict[str, set[bytes]] = {}
    for dtype in ("<f4", ">f4", "<f8", ">f8"):
        forms[dtype] = {pair.astype(dtype).tobytes() for pair in pairs}
    forms["text"] = {repr(float(v)).encode() for v in decoded if len(repr(float(v))) >= 10}
    for scale in SCALES:
        forms |= ring_forms(f"fixed point {scale}", _fixed_point(pairs, scale))
    return Secret(name, {form: frozenset(patterns) for form, patterns in forms.items()})


def bit_secret(name: str, bits: np.ndarray) -> Secret:
    """Labels: the whole sequence of zeros and ones; at least 64, so that packed it fills 8 bytes."""
    forms: dict[str, set[bytes]] = {
        "packed": {np.packbits(bits, bitorder="little").tobytes(), np.packbits(bits, bitorder="big").tobytes()},
        "lines of a file": {b"\n".join(b"%d" % bit for bit in bits)},
        "list": {b", ".join(b"%d" % bit for bit in bits), b",".join(b"%d" % bit for bit in bits)},
    }
    for dtype in ("u1", "<f4", ">f4", "<f8", ">f8"):
        forms[dtype] = {bits.astype(dtype).tobytes()}
    for scale in (0, *SCALES):
        forms |= ring_forms(f"fixed point {scale}", bits.astype(np.int64)[np.newaxis, :] << scale)
    return Secret(name, {form: frozenset(patterns) for form, patterns in forms.items()})


def ring_forms(name: str, groups: np.ndarray) -> dict[str, set[bytes]]:
    """Groups of ring elements, (groups, elements), and their additive complements, in both byte orders."""
    return {
        f"{name} {sign}{order}i8": {(value * group).astype(f"{order}i8").tobytes() for group in groups}
        for sign, value in (("+", 1), ("-", -1))
        for order in ("<", ">")
    }


def neighbours(values: np.ndarray) -> np.ndarray:
    """(pairs, 2): neighbours in every row, and in the first columns neighbours from row to row."""
    width = values.shape[1] // 2 * 2
    beside = values[:, :width].reshape(-1, 2)
    below = np.stack([values[:-1, :4].reshape(-1), values[1:, :4].reshape(-1)], axis=1)
    return np.concatenate([beside, below])


def _fixed_point(pairs: np.ndarray, scale_bits: int) -> np.ndarray:
    encoded = np.rint(pairs * 2.0**scale_bits).astype(np.int64)
    return encoded[(np.abs(encoded) >= _LEAST).all(axis=1)]


class Scanner:
    """Looks for all patterns of many secrets at once."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._by_key: dict[int, list[tuple[bytes, str]]] = {}
        self._long: list[tuple[bytes, str]] = []
        for secret in secrets:
            for pattern, name in secret.patterns:
                if len(pattern) < _KEY_BYTES:
                    raise ValueError(f"{name}: a pattern of {len(pattern)} bytes is found by chance")
                if len(pattern) > 64:  # few, and their beginnings may be common
                    self._long.append((pattern, name))
                else:
                    self._by_key.setdefault(int.from_bytes(pattern[:_KEY_BYTES], "little"), []).append((pattern, name))
        self._keys = np.array(sorted(self._by_key), np.uint64)
        self._table = np.zeros(1 << _TABLE_BITS, np.bool_)
        self._table[self._hash(self._keys)] = True

    @property
    def num_patterns(self) -> int:
        """How many patterns it looks for."""
        return len(self._long) + sum(len(patterns) for patterns in self._by_key.values())

    def find(self, data: bytes) -> set[str]:
        """Returns the names of all secrets and forms that occur."""
        found = {name for pattern, name in self._long if pattern in data}
        for shift in range(_KEY_BYTES):
            count = (len(data) - shift) // _KEY_BYTES
            if count <= 0:
                break
            words = np.frombuffer(data, "<u8", count, shift)
            likely = np.flatnonzero(self._table[self._hash(words)])
            places = np.minimum(np.searchsorted(self._keys, words[likely]), len(self._keys) - 1)
            for index in likely[self._keys[places] == words[likely]]:
                at = shift + _KEY_BYTES * int(index)
                for pattern, name in self._by_key[int(words[index])]:
                    if data.startswith(pattern, at):
                        found.add(name)
        return found

    def _hash(self, words: np.ndarray) -> np.ndarray:
        return (words * _MULTIPLIER) >> np.uint64(64 - _TABLE_BITS)
