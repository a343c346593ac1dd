"""The query of the batch lane as it travels: one seed for all second parts, and the packed first parts.

    batch query := header seed(32), per feature, per prime 0..level: packed words      (`word_packing`, `uniform_residues`)

Everything else (keys, that is the public key alone, and answers) travels as in `wire`. The length follows from the plan, nothing
in the payload is a count or a length, and every residue is checked against its prime. SEAL sees none of it: the evaluation is
ours.

Learns: the owner nothing about the samples, not even how many slots are in use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.ckks.uniform_residues import SEED_BYTES, Words, expand
from protocols.ckks.wire import WireShape
from protocols.ckks.wire_header import HEADER_BYTES, MessageKind, header, payload
from protocols.ckks.word_packing import pack_words, unpack_words
from protocols.errors import ConfideError, ErrorCode

_AT_ONCE = 8  # ciphertexts: what is unpacked stays in the cache until it is checked


@dataclass(frozen=True, eq=False)
class BatchQuery:
    """Ciphertexts of a batch, one per feature: first and second parts, (features, primes, N) uint32 residues in NTT form."""

    first_parts: Words
    second_parts: Words


def encode_batch_query(shape: WireShape, seed: bytes, first_parts: Words) -> bytes:
    """Returns the message of a query.

    Args:
        shape: of the plan.
        seed: 32 fresh random bytes, from which the second parts were expanded.
        first_parts: (features, primes, N) uint32.
    """
    expected = (shape.query_ciphertexts, shape.query_level + 1, shape.parameters.ring_degree)
    if first_parts.shape != expected or len(seed) != SEED_BYTES:
        raise ValueError(f"ciphertexts of shape {first_parts.shape} are not the plan's {expected}")
    words = np.ascontiguousarray(pack_words(first_parts, shape.word_bits), "<u4")
    return b"".join((header(MessageKind.BATCH_QUERY, shape.plan_digest), seed, words.data))


def decode_batch_query(shape: WireShape, data: bytes | memoryview) -> BatchQuery:
    """Reads a query from somebody else.

    Raises:
        ConfideError: INVALID_ARGUMENT (the querier's fault): see `wire_header.payload`; or a residue that is not below its prime.
    """
    code = ErrorCode.INVALID_ARGUMENT
    content = payload(data, MessageKind.BATCH_QUERY, shape.plan_digest, shape.query_bytes - HEADER_BYTES, code=code)
    primes, degree, count = (
        shape.parameters.primes[: shape.query_level + 1],
        shape.parameters.ring_degree,
        shape.query_ciphertexts,
    )
    words = np.frombuffer(content, "<u4", offset=SEED_BYTES).reshape(count, len(primes), -1)
    first_parts = np.empty((count, len(primes), degree), np.uint32)
    limits, bits = np.array(primes, np.uint32), shape.word_bits
    for start in range(0, count, _AT_ONCE):
        some = unpack_words(words[start : start + _AT_ONCE], degree, bits)
        if (some.max(axis=(0, 2)) >= limits).any():
            raise ConfideError(code, "the CKKS message holds a residue that is not below its prime")
        first_parts[start : start + _AT_ONCE] = some
    second_parts = expand(bytes(content[:SEED_BYTES]), count=count, primes=primes, ring_degree=degree)
    return BatchQuery(first_parts, second_parts)
