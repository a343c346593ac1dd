"""Canonical bytes: one document, one text, one digest."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from protocols.canonical import MAX_DOCUMENT_BYTES, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode

DOCUMENT: dict[str, Any] = {"b": [1, -2, True, None, {}], "a": "é\n\u20ac", "\u20ac": 0, "aa": {"y": "", "x": []}}


def refusal(data: bytes) -> str:
    with pytest.raises(ConfideError) as caught:
        parse_canonical(data)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
    return caught.value.what


def test_canonical_bytes_are_those_of_rfc_8785() -> None:
    expected = '{"a":"é\\n\u20ac","aa":{"x":[],"y":""},"b":[1,-2,true,null,{}],"\u20ac":0}'
    assert canonical_bytes(DOCUMENT) == expected.encode()


def test_canonical_bytes_do_not_depend_on_the_order_of_keys() -> None:
    assert canonical_bytes(dict(reversed(list(DOCUMENT.items())))) == canonical_bytes(DOCUMENT)


def test_parse_canonical_returns_what_was_written() -> None:
    assert parse_canonical(canonical_bytes(DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{ "a":1}',
        b'{"a":1}\n',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":-0}',
        b'{"a":"\\u0061"}',
        b'{"a":"\\/"}',
    ],
)
def test_parse_canonical_other_encoding_of_a_document_is_refused(data: bytes) -> None:
    assert refusal(data) == "a document must be in its canonical form"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":9007199254740993}',
        b'{"a":' + b"9" * 5_000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":"\x01"}',
        b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)
def test_parse_canonical_what_is_no_document_is_refused(data: bytes) -> None:
    assert refusal(data) == "a document must be RFC 8785 JSON without floats"


@pytest.mark.parametrize("data", [b"[]", b"1", b'"a"', b"null", b"true"])
def test_parse_canonical_what_is_no_object_is_refused(data: bytes) -> None:
    assert refusal(data) == "a document must be a JSON object"


def test_parse_canonical_too_large_is_refused_unread() -> None:
    assert refusal(b"x" * (MAX_DOCUMENT_BYTES + 1)).startswith(f"document of {MAX_DOCUMENT_BYTES + 1} bytes")


def test_sha256_hex_is_the_digest() -> None:
    assert sha256_hex(b"abc") == hashlib.sha256(b"abc").hexdigest()
