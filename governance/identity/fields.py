"""Strict reading of the fields of a document: everything that is wrong is collected, nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar

from governance.identity.keys import VerifyingKey
from protocols.canonical import Document
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import TIME_FORMAT

MAX_TEXT = 256
E = TypeVar("E", bound=Enum)


class Fields:
    """A reader of one object of a document.

    Each method returns the field's value, or a harmless substitute after noting a problem; `finish` raises them all at once.
    """

    def __init__(self, entry: object, *, names: set[str], where: str, problems: list[Problem]) -> None:
        self._where = where
        self._problems = problems
        self._entry: Document = {}
        if not isinstance(entry, Mapping):
            self._note("", "an object is expected")
            return
        self._entry = entry
        for name in sorted(set(entry) - names):
            self._note(str(name)[:MAX_TEXT], "unknown field")
        for name in sorted(names - set(entry)):
            self._note(name, "missing field")

    def text(self, name: str, *, most: int = MAX_TEXT) -> str:
        """Reads a text of bounded length."""
        value = self._entry.get(name, "")
        if not isinstance(value, str) or len(value) > most:
            self._note(name, f"a text of at most {most} characters is expected")
            return ""
        return value

    def optional_text(self, name: str) -> str | None:
        """Reads a text or null."""
        return None if self._entry.get(name) is None else self.text(name)

    def whole(self, name: str, *, least: int) -> int:
        """Reads a whole number of at least `least`."""
        value = self._entry.get(name, least)
        if type(value) is not int or not least <= value < 2**53:
            self._note(name, f"a whole number of at least {least} is expected")
            return least
        return value

    def flag(self, name: str) -> bool:
        """Reads true or false."""
        value = self._entry.get(name, False)
        if type(value) is not bool:
            self._note(name, "true or false is expected")
            return False
        return value

    def items(self, name: str, *, most: int) -> list[object]:
        """Reads a list of bounded length."""
        value = self._entry.get(name, [])
        if not isinstance(value, list) or len(value) > most:
            self._note(name, f"a list of at most {most} entries is expected")
            return []
        return list(value)

    def choice(self, name: str, kind: type[E], *, otherwise: E) -> E:
        """Reads one value of a closed set."""
        return self._member(name, self._entry.get(name), kind) or otherwise

    def choices(self, name: str, kind: type[E]) -> tuple[E, ...]:
        """Reads a list of different values of a closed set, in the order of the set."""
        found = [self._member(name, value, kind) for value in self.items(name, most=len(kind))]
        if len(set(found)) != len(found):
            self._note(name, "a value is named twice")
        return tuple(member for member in kind if member in found)

    def verifying_key(self, name: str) -> VerifyingKey:
        """Reads a public Ed25519 key."""
        try:
            return VerifyingKey(self.text(name))
        except ConfideError:
            self._note(name, "a public signing key of 64 hexadecimal digits is expected")
            return VerifyingKey("0" * 64)

    def time(self, name: str) -> datetime:
        """Reads a time, UTC, whole seconds."""
        text = self.text(name)
        try:
            time = datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            time = None
        if time is None or time.strftime(TIME_FORMAT) != text:  # one time has one text, or its digest would not be one
            self._note(name, "a time such as 2026-01-31T12:00:00Z is expected")
            return datetime(1970, 1, 1, tzinfo=UTC)
        return time

    def _member(self, name: str, value: object, kind: type[E]) -> E | None:
        for member in kind:
            if member.value == value:
                return member
        self._note(name, f"must be one of {', '.join(str(member.value) for member in kind)}")
        return None

    def _note(self, name: str, what: str) -> None:
        self._problems.append(Problem(".".join(part for part in (self._where, name) if part), what, "ask its author"))


def fields_of(document: Document, *, names: set[str], form: str, problems: list[Problem]) -> Fields:
    """Returns the fields of a whole document of one format; notes what is wrong with their names or the format."""
    fields = Fields(document, names=names, where="", problems=problems)
    if fields.text("format") != form:
        problems.append(Problem("format", f"this version reads {form}", "use the same version of Confide"))
    return fields


def finish(problems: list[Problem], *, what: str) -> None:
    """Raises everything that was found wrong with a document, at once.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault).
    """
    if problems:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{len(problems)} problem(s) in {what}", problems=problems)
