"""Fields as one run of bytes that has one reading: each behind its length."""

from __future__ import annotations

from collections.abc import Iterable


def prefixed(fields: Iterable[bytes]) -> bytes:
    """Returns fields after each other, each behind its length in 8 bytes, big endian: no other fields give the same bytes."""
    return b"".join([part for field in fields for part in (len(field).to_bytes(8, "big"), field)])
