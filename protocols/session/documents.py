"""Strict reading of the documents that parties of a session exchange; nothing is taken on the sender's word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TypeVar

from protocols.errors import ConfideError, ErrorCode
from protocols.job import ID_PATTERN, MAX_COMPUTING_PARTIES, MAX_OUTPUTS

MAX_TEXT = 2_000
MAX_NUMBER = 2**31
MAX_MANIFEST_BYTES = 64 * 1024
E = TypeVar("E", bound=Enum)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\ud7ff\ue000-\ufffd]")


def invalid(what: str) -> ConfideError:
    """Returns the error for a document that cannot be read; its author's fault."""
    return ConfideError(ErrorCode.INVALID_DOCUMENT, what)


def clean_text(text: str) -> str:
    """Returns the text with control characters replaced by spaces, cut to `MAX_TEXT`: it is shown on other people's screens."""
    return _UNPRINTABLE.sub(" ", text)[:MAX_TEXT]


def fields(document: object, *names: str) -> Mapping[str, object]:
    """Returns the document if it is an object with exactly these fields.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault); so do all functions of this module.
    """
    if not isinstance(document, dict) or set(document) != set(names):
        raise invalid(f"expected an object with the fields {', '.join(names)}")
    return document


def text(value: object) -> str:
    """Returns a printable text of at most `MAX_TEXT` characters."""
    if not isinstance(value, str) or clean_text(value) != value:
        raise invalid(f"expected printable text of at most {MAX_TEXT} characters")
    return value


def identifier(value: object) -> str:
    """Returns an identifier."""
    if not isinstance(value, str) or not ID_PATTERN.fullmatch(value):
        raise invalid("expected an identifier")
    return value


def identifier_or_empty(value: object) -> str:
    """Returns an identifier or the empty text."""
    return "" if value == "" else identifier(value)


def digest(value: object) -> str:
    """Returns a SHA-256 digest of 64 hexadecimal digits."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise invalid("expected a SHA-256 digest")
    return value


def manifest(value: object) -> str:
    """Returns a text of at most `MAX_MANIFEST_BYTES` without control characters; what it says is not read here."""
    if not isinstance(value, str) or _CONTROL.search(value) or len(value.encode()) > MAX_MANIFEST_BYTES:
        raise invalid(f"expected a text of at most {MAX_MANIFEST_BYTES} bytes without control characters")
    return value


def commitments(value: object) -> dict[str, str]:
    """Returns the commitments to outputs, by the output's name; at most `MAX_OUTPUTS`."""
    return {name: digest(found) for name, found in _named(value, MAX_OUTPUTS)}


def commitment_sets(value: object) -> dict[str, dict[str, str]]:
    """Returns parties' commitments, by party; at most `MAX_COMPUTING_PARTIES`."""
    return {party: commitments(found) for party, found in _named(value, MAX_COMPUTING_PARTIES)}


def whole(value: object, least: int = 0) -> int:
    """Returns a whole number from `least` to `MAX_NUMBER`."""
    if type(value) is not int or not least <= value <= MAX_NUMBER:
        raise invalid(f"expected a whole number of at least {least}")
    return value


def flag(value: object) -> bool:
    """Returns true or false."""
    if not isinstance(value, bool):
        raise invalid("expected true or false")
    return value


def member(kind: type[E], value: object) -> E:
    """Returns the member of an enumeration with this value."""
    for known in kind:
        if type(value) is type(known.value) and value == known.value:
            return known
    raise invalid(f"expected one of {', '.join(str(known.value) for known in kind)}")


def error_code(value: object) -> ErrorCode:
    """Returns the error code of this name."""
    if not isinstance(value, str) or value not in ErrorCode.__members__:
        raise invalid("expected the name of an error code")
    return ErrorCode[value]


def _named(value: object, most: int) -> Iterable[tuple[str, object]]:
    if not isinstance(value, dict) or len(value) > most:
        raise invalid(f"expected an object with at most {most} entries")
    return ((identifier(name), found) for name, found in value.items())
