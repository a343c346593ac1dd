"""What the three documents of consent have in common: lists of names, bounds, times, and one form for one content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from governance.identity.fields import Fields, finish
from governance.identity.names import check_id
from protocols.canonical import Document, canonical_bytes
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import TIME_FORMAT
from protocols.job_fields import check_decimal

MAX_EPSILON = Decimal(1000)
T = TypeVar("T")


def texts(fields: Fields, name: str, *, most: int) -> tuple[str, ...]:
    """Reads a list of texts of bounded length; what is no text becomes the empty text, which no check accepts."""
    return tuple(item if isinstance(item, str) else "" for item in fields.items(name, most=most))


def in_order(values: Iterable[T], of: Iterable[T]) -> tuple[T, ...]:
    """Returns members of a closed set once each, in the order of the set, so that one content has one form."""
    wanted = set(values)
    return tuple(member for member in of if member in wanted)


def time_text(time: datetime) -> str:
    """Returns a time as documents hold it."""
    return time.strftime(TIME_FORMAT)


def require_one_form(document: Document, body: bytes, *, what: str) -> None:
    """Checks that what was read is written in the one form that its content has, so that a digest stands for a content.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault).
    """
    if canonical_bytes(document) != body:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{what} is not written in its one form", remedy="Make it anew.")


def refuse(problems: Iterable[Problem], *, what: str) -> None:
    """Raises all problems of a document at once.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault).
    """
    finish(list(problems), what=what)


def check_ids(where: str, values: Sequence[str], *, least: int) -> Iterable[Problem]:
    """Yields what is wrong with a list of identifiers, each named once."""
    if len(values) < least:
        yield Problem(where, f"at least {least} must be named", "name them")
    yield from check_unique(where, values)
    for value in values:
        yield from check_id(where, value)


def check_unique(where: str, values: Sequence[object]) -> Iterable[Problem]:
    """Yields what is wrong with a list in which everything stands once."""
    if len(set(values)) != len(values):
        yield Problem(where, "something is named twice", "name each once")


def check_epsilon_cap(where: str, value: str | None) -> Iterable[Problem]:
    """Yields what is wrong with a cap on epsilon; None stands for no cap."""
    if value is not None:
        yield from check_decimal(where, value, Decimal(0), MAX_EPSILON)


def check_period(where: str, valid_from: datetime, expires: datetime) -> Iterable[Problem]:
    """Yields what is wrong with a time from which and a time until which something is valid."""
    if not valid_from < expires:
        yield Problem(where, "ends before it begins", "choose a later end")
