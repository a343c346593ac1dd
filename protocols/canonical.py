"""Canonical bytes of documents (RFC 8785) and their digests.

Two parties that hold the same document hold the same bytes, so a digest or a signature over them means the same to both.
Documents hold strings, integers, booleans, lists and objects; decimal numbers travel as strings, because the canonical form
of a float is not what a person wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import rfc8785

from protocols.errors import ConfideError, ErrorCode

MAX_DOCUMENT_BYTES = 3 * 1024 * 1024

Document = Mapping[str, Any]


def canonical_bytes(document: Document) -> bytes:
    """Returns the RFC 8785 bytes of a document."""
    return rfc8785.dumps(dict(document))


def parse_canonical(data: bytes) -> dict[str, Any]:
    """Reads a document and refuses every encoding but the canonical one.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault): too large, not JSON, not an object, holding floats, or not canonical.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"document of {len(data)} bytes; at most {MAX_DOCUMENT_BYTES} are read")
    try:
        document = json.loads(data.decode("utf-8"), parse_float=_no_float, parse_constant=_no_float)
        if not isinstance(document, dict):
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a document must be a JSON object")
        encoded = rfc8785.dumps(document)
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a document must be RFC 8785 JSON without floats") from error
    if encoded != data:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a document must be in its canonical form")
    return document


def sha256_hex(data: bytes) -> str:
    """Returns the SHA-256 digest as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _no_float(_text: str) -> float:
    raise ValueError("floats do not travel in documents")
