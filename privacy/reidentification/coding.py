"""Numbers the cells of a table so that ten million rows fit into memory: equal cells of a column get the same number.

Cells are compared as they are written, without spaces around them; missing cells are equal to each other. What is kept of a cell
is its digest: SipHash-2-4 (Aumasson and Bernstein, Indocrypt 2012), as pandas computes and mixes it, under a key that is made
for one run and one column and is thrown away. Two different cells collide with probability 2^-64, so n rows hold a colliding
pair with at most n^2 / 2^65: 3 in a million for ten million rows. A collision joins two groups of rows and nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, SupportsIndex, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from privacy.preparation.recipes.step import Rows
from protocols.secrets import SecretBytes

_DOMAIN = b"confide.reidentification-column/1\x00"
_KEY_CHARS = 16  # what pandas takes: a text of 16 bytes; 96 bits of it are random
_MISSING = pa.array(["", "na", "n/a", "nan", "null", "none"])
_BUFFER_BYTES = 384 << 20
_BYTES_OF_A_CELL = 8

Reader: TypeAlias = Callable[[Sequence[str]], Iterable[Rows]]  # reads some columns of the table, from its beginning


@dataclass(frozen=True, eq=False, repr=False)
class CodedColumn:
    """One column; secret: no repr, no equality, no pickling.

    Attributes:
        codes: (rows,) unsigned, which of the distinct values stands in a row.
        digests: (distinct,) uint64, of the values.
        counts: (distinct,) int64, in how many rows each stands.
        numbers: (distinct,) float64, the values as numbers, missing ones as -inf, below all others; None if some value is none.
        missing: in how many rows nothing stands.
    """

    codes: NDArray[np.unsignedinteger]
    digests: NDArray[np.uint64]
    counts: NDArray[np.int64]
    numbers: NDArray[np.float64] | None
    missing: int

    @property
    def num_bytes(self) -> int:
        """How much memory it takes."""
        numbers = 0 if self.numbers is None else self.numbers.nbytes
        return int(self.codes.nbytes + self.digests.nbytes + self.counts.nbytes + numbers)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: cells do not travel by pickle, as digests neither."""
        raise TypeError("a coded column is not pickled")


def code_columns(read: Reader, names: Sequence[str], num_rows: int, seed: SecretBytes) -> Iterator[tuple[str, CodedColumn]]:
    """Numbers columns one after the other; reads the table once for as many columns as fit into the buffer.

    Args:
        read: reads columns of the table; gives the same rows every time.
        names: which columns.
        num_rows: how many rows the table has.
        seed: 32 random bytes of this run; secret.

    Yields:
        Each name with its column. The caller drops columns that it needs no longer.
    """
    at_once = max(1, _BUFFER_BYTES // (2 * _BYTES_OF_A_CELL * max(1, num_rows)))
    for first in range(0, len(names), at_once):
        group = list(names[first : first + at_once])
        buffers = {name: _Buffer(num_rows, _key(seed, name)) for name in group}
        for rows in read(group):
            for name, buffer in buffers.items():
                buffer.take(rows.column(name))
        for name in group:
            yield name, buffers.pop(name).coded()


def written(cells: pa.Array) -> pa.Array:
    """Returns cells as texts without spaces around them, missing ones as null."""
    texts = pc.utf8_trim_whitespace(cells.cast(pa.string()))
    return pc.if_else(pc.is_in(pc.utf8_lower(texts), value_set=_MISSING), pa.scalar(None, pa.string()), texts)


def numbers_of(texts: pa.Array) -> NDArray[np.float64] | None:
    """Returns texts as (rows,) float64, null as -inf; None if one of them is no number."""
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:  # its message quotes the cell
        return None
    return np.asarray(numbers.fill_null(-np.inf).to_numpy(zero_copy_only=False), np.float64)


class _Buffer:
    """The digests of one column while it is read, and its numbers as long as every cell is one."""

    def __init__(self, num_rows: int, key: str) -> None:
        self._key = key
        self._digests = np.empty(num_rows, np.uint64)
        self._numbers: NDArray[np.float64] | None = np.empty(num_rows, np.float64)
        self._missing = self._filled = 0
        self._nothing = self._hashed(["\x00 nothing stands here"])[0]

    def take(self, cells: pa.Array) -> None:
        """Takes the next cells."""
        # Each distinct cell is read once a batch; a missing one is null after `written`, and so is the index of a null cell.
        encoded = cells.dictionary_encode()
        distinct = written(encoded.dictionary)
        absent = distinct.is_null().to_numpy(zero_copy_only=False)
        digests = self._hashed(distinct.fill_null("").to_pylist())
        digests[absent] = self._nothing
        numbers = None if self._numbers is None else numbers_of(distinct)
        # Null cells point at one more entry, at the end.
        indices = encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)
        here = slice(self._filled, self._filled + len(cells))
        self._digests[here] = np.append(digests, self._nothing)[indices]
        self._missing += int(np.count_nonzero(np.append(absent, True)[indices]))
        if self._numbers is not None and numbers is not None:
            self._numbers[here] = np.append(numbers, -np.inf)[indices]
        else:
            self._numbers = None
        self._filled += len(cells)

    def coded(self) -> CodedColumn:
        """Numbers the values; the buffer is used up."""
        digests, self._digests = self._digests, np.empty(0, np.uint64)
        distinct, first, codes, counts = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
        numbers = None if self._numbers is None or not len(distinct) else self._numbers[first]
        if numbers is not None and self._missing == self._filled:
            numbers = None
        narrow = np.min_scalar_type(max(1, len(distinct)))
        return CodedColumn(codes.astype(narrow), distinct, counts, numbers, self._missing)

    def _hashed(self, texts: list[str]) -> NDArray[np.uint64]:
        values = np.empty(len(texts), object)
        values[:] = texts
        return np.array(pd.util.hash_array(values, hash_key=self._key, categorize=False), np.uint64)


def _key(seed: SecretBytes, column: str) -> str:
    derived = HKDF(SHA256(), 12, salt=None, info=_DOMAIN + column.encode()).derive(seed.reveal())
    key = base64.b64encode(derived).decode()
    if len(key) != _KEY_CHARS:
        raise ValueError("a key of SipHash has 16 bytes")
    return key
