"""Digests of rows: equal rows have equal digests, different rows almost never.

64 bits, under a key: texts by SipHash, numbers by a keyed mixing function, columns combined in order. Among n rows, two different
ones share a digest with a probability of at most about n^2 / 2^65: 3 in a million for ten million rows. Whoever chooses rows
knowing the key could make them collide, so the key is drawn for one run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

KEY_BYTES = 16
_NOTHING = np.uint64(0x9E3779B97F4A7C15)  # the digest of a missing cell
_FIRST, _SECOND, _STEP = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), np.uint64(0x100000001B3)


def row_digests(cells: pa.RecordBatch, names: Sequence[str], key: bytes) -> NDArray[np.uint64]:
    """Returns (rows,) digests of the named columns of every row, secret.

    Args:
        cells: texts, numbers, booleans, dates; secret.
        names: which columns, in an order that belongs to the digest.
        key: 16 bytes, secret.
    """
    number_key = np.uint64(int.from_bytes(key[:8], "little"))
    text_key = key[8:].hex()
    found = np.full(cells.num_rows, number_key)
    for name in names:
        values = cells.column(name)
        digests = _texts(values, text_key) if pa.types.is_string(values.type) else _numbers(values, number_key)
        found = _mixed(found * _STEP ^ digests)
    return found


def first_of_equal(digests: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Returns (rows,) which rows are the first with their digest."""
    order = np.argsort(digests, kind="stable")  # so the first of equal rows comes first
    ordered = digests[order]
    is_first = np.zeros(len(digests), np.bool_)
    is_first[order] = np.append(True, ordered[1:] != ordered[:-1])[: len(digests)]
    return is_first


def _texts(values: pa.Array, key: str) -> NDArray[np.uint64]:
    from pandas.util import hash_array  # takes half a second to load, which most programs need not wait for

    encoded = values.dictionary_encode()
    different = np.asarray(encoded.dictionary.to_pylist(), dtype=object)
    hashed = hash_array(different, hash_key=key, categorize=False) if len(different) else np.empty(0, np.uint64)
    hashed = np.append(hashed.astype(np.uint64), _NOTHING)
    places = encoded.indices.fill_null(len(hashed) - 1).to_numpy(zero_copy_only=False)
    digests: NDArray[np.uint64] = hashed[places]
    return digests


def _numbers(values: pa.Array, key: np.uint64) -> NDArray[np.uint64]:
    if pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    missing = values.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(values.type):
        # Adding zero turns -0.0 into 0.0, which is equal to it.
        bits = (values.fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0).view(np.uint64)
    else:
        bits = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    return np.where(missing, _NOTHING, _mixed(bits ^ key))


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64, a permutation of 64-bit words."""
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed
