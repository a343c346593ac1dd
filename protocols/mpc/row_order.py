"""The public order of the training rows, from the job's shuffle seed."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from protocols.prg import AesCtrStream
from protocols.secrets import SecretBytes

_DOMAIN = b"confide.row_order/1:"


def row_order(seed: str, num_rows: int) -> NDArray[np.int64]:
    """Returns a permutation of the rows, equal at every party; public.

    Rows are sorted by 64-bit numbers from AES-256-CTR under SHA-256 of the seed: no library's generator is involved, whose
    output may change between versions.

    Args:
        seed: the job's shuffle seed, hexadecimal.
        num_rows: rows of all data sets together.

    Returns:
        (num_rows,) int64: position i of the order holds row `order[i]` of the data sets in the job's order.
    """
    stream = AesCtrStream(SecretBytes(hashlib.sha256(_DOMAIN + seed.encode()).digest()))
    return np.argsort(stream.take(8 * num_rows).view("<u8"), kind="stable").astype(np.int64)
