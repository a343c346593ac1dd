"""A salted commitment to a querier's samples: the parties log it, and nobody learns anything from it.

    SHA-256( "confide.query/1" 00 | salt (32) | rows (8) | features (8) | samples i64 )

Numbers are little-endian, the samples row by row as the fixed-point numbers that are shared, so that what is committed to is what
was computed on. The salt is random, fresh for each job, and stays with the querier: samples with few possible values could be
found from a bare digest by trying them all. Under 256 secret bits the commitment hides the samples; the collision resistance of
SHA-256 binds the querier to them. In a dispute she shows samples and salt to an auditor, who finds the commitment in the logs.

It does not prove that the shares which the parties were given are of these samples: each of them sees one share alone.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS, encode
from protocols.mpc.inputs import ROW_LIMIT

SALT_BYTES = 32
_DOMAIN = b"confide.query/1\x00"


def commit_query(features: NDArray[np.float64], *, salt: bytes) -> str:
    """Returns the commitment to samples, 64 hexadecimal digits, public.

    Args:
        features: (rows, features) float64 scaled to [-1, 1], secret; samples that are equal as shared are equal here.
        salt: 32 random bytes, secret, kept by the querier, fresh for each job.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a salt of another length, or no matrix; INVALID_DATA (the querier's
            fault) naming positions of values outside the range.
    """
    if len(salt) != SALT_BYTES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a salt has {SALT_BYTES} bytes")
    if features.ndim != 2:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "samples form a matrix")
    num_rows, num_features = features.shape
    digest = hashlib.sha256(_DOMAIN + salt + num_rows.to_bytes(8, "little") + num_features.to_bytes(8, "little"))
    digest.update(np.ascontiguousarray(encode(features, scale_bits=VALUE_BITS, limit=ROW_LIMIT), "<i8").tobytes())
    return digest.hexdigest()


def verify_query(commitment: str, features: NDArray[np.float64], *, salt: bytes) -> bool:
    """Says whether a commitment is to these samples; arguments and errors as for `commit_query`."""
    return hmac.compare_digest(commitment.encode(), commit_query(features, salt=salt).encode())
