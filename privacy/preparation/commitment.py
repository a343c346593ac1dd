"""A salted commitment to prepared rows: fixes them without telling anything about them.

    SHA-256( "confide.rows/1" 00 | salt (32) | schema digest (32) | rows (8) | features (8) | features f64 | labels f64 )

All numbers are little-endian, features row by row; of rows without a label nothing follows the features. The salt is random and
stays with the owner: a bare digest of rows with few possible values could be found by trying them all. Under a salt of 256 secret
bits the commitment hides the rows, and the collision resistance of SHA-256 binds the owner to them.
"""

from __future__ import annotations

import hashlib
import hmac
import re

import numpy as np

from privacy.preparation.contract import PreparedRows
from protocols.errors import ConfideError, ErrorCode

SALT_BYTES = 32
_DOMAIN = b"confide.rows/1\x00"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def commit(rows: PreparedRows, *, schema_digest: str, salt: bytes) -> str:
    """Returns the commitment to rows, 64 hexadecimal digits, public.

    Args:
        rows: secret.
        schema_digest: SHA-256 of their schema, 64 hexadecimal digits, public.
        salt: 32 random bytes, secret, kept by the owner, fresh for each registration.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a salt or digest of the wrong length.
    """
    if len(salt) != SALT_BYTES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a salt has {SALT_BYTES} bytes")
    if not _DIGEST.fullmatch(schema_digest):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a schema digest has 64 hexadecimal digits")
    num_rows, num_features = rows.features.shape
    digest = hashlib.sha256(_DOMAIN + salt + bytes.fromhex(schema_digest))
    digest.update(num_rows.to_bytes(8, "little") + num_features.to_bytes(8, "little"))
    for values in (rows.features, rows.labels):
        # Adding zero turns -0.0 into 0.0, so that equal rows have equal bytes.
        digest.update((np.ascontiguousarray(values) + 0.0).astype("<f8").tobytes())
    return digest.hexdigest()


def verify(commitment: str, rows: PreparedRows, *, schema_digest: str, salt: bytes) -> bool:
    """Says whether a commitment is to these rows; arguments and errors as for `commit`."""
    return hmac.compare_digest(commitment.encode(), commit(rows, schema_digest=schema_digest, salt=salt).encode())
