"""One column of a table's contract: what it is for, how its values are written, and which are expected.

Decimals are kept as text in their shortest form, so that equal columns have equal bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from protocols.errors import Problem
from protocols.job_parts import MAX_CLASSES, Task

MAX_NAME_CHARS = 128
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_COUNT = re.compile(r"[0-9]{1,3}")
_SHOWN_CHOICES = 6


class Role(Enum):
    """What a column is for."""

    FEATURE = "feature"  # shared, as an input of the model
    LABEL = "label"  # shared, as what the model predicts
    IDENTIFIER = "identifier"  # names a person: dropped while the file is read
    IGNORED = "ignored"  # dropped while the file is read


class ColumnType(Enum):
    """How the values of a feature or label are written."""

    FLOAT = "float"  # features, and labels that are numbers
    INTEGER = "integer"  # likewise; and labels that are the numbers of classes
    BOOLEAN = "boolean"  # features and labels: true or false, 1 or 0
    CHOICE = "choice"  # labels: one of several named values


_TYPES = {
    Role.FEATURE: (ColumnType.FLOAT, ColumnType.INTEGER, ColumnType.BOOLEAN),
    Role.LABEL: (ColumnType.BOOLEAN, ColumnType.CHOICE, ColumnType.INTEGER, ColumnType.FLOAT),
}


@dataclass(frozen=True)
class Column:
    """One column of the contract; public.

    Attributes:
        name: as in the header of the file, exactly.
        role: what it is for.
        column_type: how values are written; None for columns that are dropped.
        low: least value of a float or integer column with a range, a decimal in its shortest form; None otherwise.
        high: greatest value, likewise.
        negative: choice labels of two values: the text that means 0; None otherwise.
        positive: choice labels of two values: the text that means 1; None otherwise.
        choices: choice labels of three and more values: their texts, class 0 first; empty otherwise.
        classes: integer labels that number classes from 0: how many there are; None otherwise.
    """

    name: str
    role: Role
    column_type: ColumnType | None = None
    low: str | None = None
    high: str | None = None
    negative: str | None = None
    positive: str | None = None
    choices: tuple[str, ...] = ()
    classes: int | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The public range as float64; 0 to 1 for booleans, 0 to k - 1 for classes."""
        if self.low is not None and self.high is not None:
            return float(self.low), float(self.high)
        return 0.0, float(max(2, len(self.class_names)) - 1)

    @property
    def task(self) -> Task:
        """What a model predicts if this is the label."""
        if self.low is not None:
            return Task.REAL
        return Task.CLASSES if self.choices or self.classes is not None else Task.BINARY

    @property
    def class_names(self) -> tuple[str, ...]:
        """What people call the classes of this label, class 0 first; empty if it is a number."""
        match self.column_type:
            case ColumnType.CHOICE:
                return self.choices or (str(self.negative), str(self.positive))
            case ColumnType.BOOLEAN:
                return "false", "true"
            case _:
                return tuple(str(number) for number in range(self.classes or 0))

    @property
    def expected(self) -> str:
        """What a cell must hold, for people; public."""
        if self.classes is not None:
            return f"the number of a class, 0 to {self.classes - 1}"
        match self.column_type:
            case ColumnType.FLOAT:
                return f"a number from {self.low} to {self.high}"
            case ColumnType.INTEGER:
                return f"a whole number from {self.low} to {self.high}"
            case ColumnType.CHOICE if self.choices:
                more = f" or {len(self.choices) - _SHOWN_CHOICES} more" if len(self.choices) > _SHOWN_CHOICES else ""
                return "one of " + ", ".join(repr(choice) for choice in self.choices[:_SHOWN_CHOICES]) + more
            case ColumnType.CHOICE:
                return f"{self.negative!r} or {self.positive!r}"
            case _:
                return "true or false"

    def to_document(self) -> dict[str, Any]:
        """Returns the column as it stands in a schema document."""
        document: dict[str, Any] = {"name": self.name, "role": self.role.value}
        if self.column_type is not None:
            document["type"] = self.column_type.value
        if self.low is not None:
            document["range"] = [self.low, self.high]
        if self.negative is not None:
            document |= {"negative": self.negative, "positive": self.positive}
        if self.choices:
            document["choices"] = list(self.choices)
        if self.classes is not None:
            document["classes"] = str(self.classes)
        return document


def read_column_entry(where: str, entry: object) -> tuple[Column | None, list[Problem]]:
    """Reads one column of a schema; decimals may be written in any form.

    Args:
        where: the path of the entry, for problems.
        entry: what stands there, scalars as texts.

    Returns:
        The column, or None and everything that is wrong with it.
    """
    if not isinstance(entry, dict):
        return None, [Problem(where, "must be a mapping", "write name, role and type")]
    roles = {role.value: role for role in Role}
    role = roles.get(entry["role"]) if isinstance(entry.get("role"), str) else None
    if role is None:
        return None, [Problem(f"{where}.role", f"must be one of {', '.join(roles)}", "say what the column is for")]
    if role not in _TYPES:
        problems = [*key_problems(where, entry, ("name", "role")), *_name_problems(where, entry)]
        return (None if problems else Column(entry["name"], role)), problems
    types = {column_type.value: column_type for column_type in _TYPES[role]}
    column_type = types.get(entry["type"]) if isinstance(entry.get("type"), str) else None
    if column_type is None:
        return None, [Problem(f"{where}.type", f"a {role.value} must be one of {', '.join(types)}", "choose the type")]
    own = _own_keys(role, column_type, entry)
    problems = [*key_problems(where, entry, ("name", "role", "type", *own)), *_name_problems(where, entry)]
    if all(key in entry for key in own):
        problems += _value_problems(where, column_type, own, entry)
    if problems:
        return None, problems
    low, high = (shortest(end) for end in entry["range"]) if "range" in own else (None, None)
    classes = int(entry["classes"]) if "classes" in own else None
    choices = tuple(entry["choices"]) if "choices" in own else ()
    return Column(entry["name"], role, column_type, low, high, entry.get("negative"), entry.get("positive"), choices, classes), []


def key_problems(where: str, entry: Mapping[str, Any], needed: tuple[str, ...]) -> Iterable[Problem]:
    """Yields the fields of a mapping that are unknown or missing."""
    prefix = f"{where}." if where else ""
    for key in entry:
        if key not in needed:
            yield Problem(f"{prefix}{str(key)[:MAX_NAME_CHARS]}", "unknown field", f"the fields here are {', '.join(needed)}")
    for key in needed:
        if key not in entry:
            yield Problem(f"{prefix}{key}", "missing field", "add it")


def _own_keys(role: Role, column_type: ColumnType, entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that a type has beside name, role and type."""
    match column_type:
        case ColumnType.CHOICE:
            return ("choices",) if "choices" in entry else ("negative", "positive")
        case ColumnType.INTEGER if role is Role.LABEL and "classes" in entry:
            return ("classes",)
        case ColumnType.FLOAT | ColumnType.INTEGER:
            return ("range",)
        case ColumnType.BOOLEAN:
            return ()


def _value_problems(where: str, column_type: ColumnType, own: tuple[str, ...], entry: Mapping[str, Any]) -> Iterable[Problem]:
    if "range" in own:
        yield from _range_problems(f"{where}.range", entry["range"], column_type)
    elif "classes" in own:
        yield from _classes_problems(f"{where}.classes", entry["classes"])
    elif "choices" in own:
        yield from _choices_problems(f"{where}.choices", entry["choices"])
    elif "negative" in own:
        yield from _two_values_problems(where, entry["negative"], entry["positive"])


def _name_problems(where: str, entry: Mapping[str, Any]) -> Iterable[Problem]:
    if "name" in entry and not _is_text(entry["name"]):
        yield Problem(f"{where}.name", f"must be 1 to {MAX_NAME_CHARS} printable characters", "copy it from the file's header")


def _range_problems(where: str, ends: object, column_type: ColumnType) -> Iterable[Problem]:
    remedy = "for example range: [0, 12.5]"
    if not isinstance(ends, list) or len(ends) != 2:
        yield Problem(where, "must be a list of two decimals, least and greatest", remedy)
        return
    if not all(isinstance(end, str) and _DECIMAL.fullmatch(end) for end in ends):
        yield Problem(where, "a decimal has at most 15 digits before and after the point, and no exponent", remedy)
    elif column_type is ColumnType.INTEGER and any(Decimal(end) % 1 for end in ends):
        yield Problem(where, "the range of whole numbers ends at whole numbers", "round outwards")
    elif not float(ends[0]) < float(ends[1]):
        yield Problem(where, "the least value is not below the greatest", "write the least first")


def _classes_problems(where: str, classes: object) -> Iterable[Problem]:
    if not isinstance(classes, str) or not _COUNT.fullmatch(classes):
        yield Problem(where, "must be how many classes there are, numbered from 0", "for example classes: 10")
    else:
        yield from _count_problems(where, int(classes), "use the type boolean, whose values may be written 0 and 1")


def _choices_problems(where: str, choices: object) -> Iterable[Problem]:
    if not isinstance(choices, list) or not all(_is_text(choice) for choice in choices):
        yield Problem(where, "must be a list of texts without spaces around them", "write the values as in the file")
        return
    yield from _count_problems(where, len(choices), "name them negative and positive instead")
    for choice, count in Counter(choices).items():
        if count > 1:
            yield Problem(where, f"{choice!r} stands {count} times", "name each value once")


def _count_problems(where: str, count: int, two: str) -> Iterable[Problem]:
    if count < 2:
        yield Problem(where, f"{count} class(es); there is nothing to predict", "name every value that the label can take")
    elif count == 2:
        yield Problem(where, "two classes are a binary label", two)
    elif count > MAX_CLASSES:
        yield Problem(where, f"{count} classes; at most {MAX_CLASSES} are predicted", "join rare classes into one")


def _two_values_problems(where: str, negative: object, positive: object) -> Iterable[Problem]:
    for key, value in (("negative", negative), ("positive", positive)):
        if not _is_text(value):
            yield Problem(f"{where}.{key}", "must be a text without spaces around it", "write the value as in the file")
    if negative == positive:
        yield Problem(f"{where}.positive", "is the same as negative", "name the two values of the label")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value == value.strip() and 1 <= len(value) <= MAX_NAME_CHARS and value.isprintable()


def shortest(text: str) -> str:
    """Returns the decimal without needless zeros: `5.0` and `05` become `5`, `-0` becomes `0`."""
    sign = "-" if text.startswith("-") else ""
    whole, _, places = text.lstrip("-").partition(".")
    whole, places = whole.lstrip("0") or "0", places.rstrip("0")
    short = f"{whole}.{places}" if places else whole
    return short if short == "0" else f"{sign}{short}"
