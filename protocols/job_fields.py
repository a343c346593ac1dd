"""Reading and checking single fields of a job document.

`read_*` turn what a JSON parser returned into a typed value and refuse every other type; `check_*` yield what is wrong with a
value of the right type, so that all findings of a job can be reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from protocols.canonical import Document
from protocols.errors import Problem

ID_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
MAX_TEXT = 256
T = TypeVar("T")
_HEX = re.compile(r"[0-9a-f]+")
_SIGNED_DECIMAL = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,9})?")
_DECIMAL = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")


def read_fields(kind: type[T], entry: Any, types: str) -> T:
    """Reads an object whose keys are exactly the fields of a dataclass.

    Args:
        kind: the dataclass.
        entry: what was parsed.
        types: one letter a field, in order: s for a text, i for a whole number.

    Raises:
        ValueError: other keys, or a field of another type.
    """
    names = list(kind.__annotations__)
    if not isinstance(entry, dict) or set(entry) != set(names):
        raise ValueError(f"{kind.__name__} has the fields {', '.join(names)}")
    read = {"s": read_text, "i": read_whole, "b": read_flag}
    return kind(**{name: read[code](entry[name]) for name, code in zip(names, types, strict=True)})


def read_text(value: Any) -> str:
    """Returns a text of at most 256 characters, or raises ValueError."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"a text of at most {MAX_TEXT} characters is expected")
    return value


def read_optional_text(value: Any) -> str | None:
    """Returns a text or None, or raises ValueError."""
    return None if value is None else read_text(value)


def read_whole(value: Any) -> int:
    """Returns a whole number that every JSON parser reads alike, or raises ValueError; true and false are none."""
    if type(value) is not int or not -(2**53) < value < 2**53:
        raise ValueError("a whole number is expected")
    return value


def read_flag(value: Any) -> bool:
    """Returns true or false, or raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def read_optional_whole(value: Any) -> int | None:
    """Returns a whole number or None, or raises ValueError."""
    return None if value is None else read_whole(value)


def read_object(value: Any) -> Document:
    """Returns an object, or raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("an object is expected")
    return value


def read_items(value: Any, most: int) -> list[Any]:
    """Returns a list of at most `most` entries, or raises ValueError."""
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"a list of at most {most} entries is expected")
    return value


def read_time(value: Any) -> datetime:
    """Returns a time in UTC and whole seconds, or raises ValueError; one time has one text, or its digest would not be one."""
    text = read_text(value)
    time = datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
    if time.strftime(TIME_FORMAT) != text:
        raise ValueError("a time is written as 2026-01-31T09:30:00Z")
    return time


def check_id(where: str, value: str) -> Iterable[Problem]:
    """Yields what is wrong with an identifier."""
    if not ID_PATTERN.fullmatch(value):
        yield Problem(where, "an identifier is 1 to 63 of a-z, 0-9 and -, not at the ends", "choose another")


def check_hex(where: str, value: str, length: int) -> Iterable[Problem]:
    """Yields what is wrong with a text of `length` hexadecimal digits."""
    if len(value) != length or not _HEX.fullmatch(value):
        yield Problem(where, f"must be {length} hexadecimal digits", "copy it whole")


def check_decimal(where: str, value: str, least: Decimal, most: Decimal) -> Iterable[Problem]:
    """Yields what is wrong with a decimal number that is written as a text."""
    if not _DECIMAL.fullmatch(value) or not least <= Decimal(value) <= most:
        yield Problem(where, f"must be a decimal from {least} to {most}, at most nine places", "for example 0.5")


def check_ascending(where: str, values: tuple[str, ...], least: Decimal, most: Decimal) -> Iterable[Problem]:
    """Yields what is wrong with a list of decimals, which may be negative, in ascending order."""
    if not values or not all(_SIGNED_DECIMAL.fullmatch(value) for value in values):
        yield Problem(where, "at least one decimal with at most nine places is expected", 'for example "-0.5"')
        return
    numbers = [Decimal(value) for value in values]
    if numbers != sorted(set(numbers)) or not least <= numbers[0] <= numbers[-1] <= most:
        yield Problem(where, f"must ascend, from {least} to {most}", "sort them, and leave out what is twice")
