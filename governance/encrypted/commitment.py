"""The commitment of a published model: it ties answers to one set of weights without telling anything of them.

    commitment = SHA-256(tag, salt, manifest, weights)

Every field is preceded by its length. The salt is 256 random bits that stay with the owner: a small model could be guessed from a
bare digest. Who is later shown salt and weights, an auditor or a court, can check which model answered.
"""

from __future__ import annotations

import hashlib
import hmac

from protocols.errors import ConfideError, ErrorCode

SALT_BYTES = 32
_TAG = b"confide.published-model-commitment/1"


def commit_model(manifest: bytes, weights: bytes, *, salt: bytes) -> str:
    """Returns the commitment, 64 hexadecimal digits, public.

    Args:
        manifest: canonical bytes of the architecture.
        weights: safetensors bytes; secret.
        salt: 32 random bytes; secret.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a salt of another size.
    """
    if len(salt) != SALT_BYTES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"the salt of a model's commitment has {SALT_BYTES} bytes")
    digest = hashlib.sha256()
    for value in (_TAG, salt, manifest, weights):
        digest.update(len(value).to_bytes(8, "big"))
        digest.update(value)
    return digest.hexdigest()


def is_committed(commitment: str, manifest: bytes, weights: bytes, *, salt: bytes) -> bool:
    """Returns whether a commitment is the one to this model."""
    return hmac.compare_digest(commitment, commit_model(manifest, weights, salt=salt))
