"""Reads one entry of a recipe: fields that are texts, lists of texts, decimals and whole numbers, all problems at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from privacy.preparation.columns import MAX_NAME_CHARS, shortest
from protocols.errors import Problem

MAX_LISTED = 10_000
MAX_TEXT_CHARS = 256
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_WHOLE = re.compile(r"-?[0-9]{1,15}")


class EntryReader:
    """Takes the fields of an entry one by one; `problems` then holds everything that is wrong with it.

    A field that is missing or wrong reads as an empty or least value, so that reading can go on.
    """

    def __init__(self, where: str, entry: Mapping[str, Any]) -> None:
        self.problems: list[Problem] = []
        self._where = where
        self._left = dict(entry)

    def has(self, key: str) -> bool:
        """Whether an optional field is there."""
        return key in self._left

    def text(self, key: str, *, most: int = MAX_TEXT_CHARS) -> str:
        """Reads a text of 1 to so many printable characters."""
        value = self._take(key)
        if isinstance(value, str) and 1 <= len(value) <= most and value.isprintable():
            return value
        self._wrong(key, value, f"must be a text of 1 to {most} printable characters", "correct it")
        return ""

    def column(self, key: str) -> str:
        """Reads the name of a column."""
        return self.text(key, most=MAX_NAME_CHARS)

    def texts(self, key: str, *, least: int = 1, most: int = MAX_LISTED) -> tuple[str, ...]:
        """Reads a list of different texts."""
        value = self._take(key)
        if not isinstance(value, list) or not least <= len(value) <= most or not all(map(_is_text, value)):
            self._wrong(key, value, f"must be a list of {least} to {most} texts", "list them, for example [first, second]")
            return ()
        for text, count in Counter(value).items():
            if count > 1:
                self._wrong(key, value, f"names {text!r} {count} times", "name each once")
        return tuple(value)

    def columns(self, key: str = "columns") -> tuple[str, ...]:
        """Reads a list of names of columns."""
        return self.texts(key)

    def choice(self, key: str, options: Sequence[str]) -> str:
        """Reads one of a closed list of words."""
        value = self._take(key)
        if isinstance(value, str) and value in options:
            return value
        self._wrong(key, value, f"must be one of {', '.join(options)}", "choose one")
        return options[0]

    def decimal(self, key: str) -> str:
        """Reads a decimal and returns its shortest form."""
        value = self._take(key)
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            return shortest(value)
        self._wrong(key, value, "must be a decimal of at most 15 digits before and after the point", "for example 12.5")
        return "0"

    def decimals(self, key: str, *, least: int, most: int = MAX_LISTED) -> tuple[str, ...]:
        """Reads a list of decimals and returns their shortest forms."""
        value = self._take(key)
        texts = value if isinstance(value, list) and least <= len(value) <= most else [None]
        if all(isinstance(each, str) and _DECIMAL.fullmatch(each) for each in texts):
            return tuple(map(shortest, texts))
        self._wrong(key, value, f"must be a list of {least} to {most} decimals", "for example [0, 12.5]")
        return ()

    def range(self, key: str = "range") -> tuple[str, str]:
        """Reads a range, least value first, as decimals in their shortest form."""
        found = self.decimals(key, least=2, most=2)
        if len(found) == 2 and Decimal(found[0]) >= Decimal(found[1]):
            self._wrong(key, found, "the least value is not below the greatest", "write the least first")
        return (found[0], found[1]) if len(found) == 2 else ("0", "1")

    def whole(self, key: str, *, least: int, most: int) -> int:
        """Reads a whole number."""
        value = self._take(key)
        if isinstance(value, str) and _WHOLE.fullmatch(value) and least <= int(value) <= most:
            return int(value)
        self._wrong(key, value, f"must be a whole number from {least} to {most}", "correct it")
        return least

    def mapping(self, key: str, *, most: int = MAX_LISTED) -> dict[str, str]:
        """Reads a mapping from texts to texts, at least one."""
        value = self._take(key)
        if isinstance(value, dict) and 1 <= len(value) <= most and all(_is_text(k) and _is_text(v) for k, v in value.items()):
            return dict(value)
        self._wrong(key, value, f"must be a mapping of 1 to {most} texts to texts", "for example {m: male, f: female}")
        return {}

    def wrong(self, key: str, what: str, remedy: str) -> None:
        """Adds a problem of a field."""
        self.problems.append(Problem(f"{self._where}.{key}", what, remedy))

    def done(self) -> bool:
        """Says whether everything was right, and that there is nothing but what was asked for."""
        for key in self._left:
            self.wrong(str(key)[:MAX_NAME_CHARS], "unknown field", "remove it")
        self._left = {}
        return not self.problems

    def _take(self, key: str) -> object:
        if key not in self._left:
            self.wrong(key, "missing field", "add it")
            return None
        value: object = self._left.pop(key)
        return value

    def _wrong(self, key: str, value: object, what: str, remedy: str) -> None:
        if value is not None:  # a missing field has been named
            self.wrong(key, what, remedy)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT_CHARS and (value.isprintable() or not value)
