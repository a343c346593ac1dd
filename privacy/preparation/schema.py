"""The contract of a table: which columns there are, what they are for, and the public range of every feature.

A schema is public and the same at every institution that trains together; its digest stands in every job. Ranges are agreed
knowledge ("a radius is 5 to 30"), never computed from rows: a range taken from the data would publish its extremes. Decimals
are kept as text in their shortest form, so that equal schemas have equal digests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.canonical import Document, canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem

API_VERSION = "confide/v1"
KIND = "TableSchema"
MAX_COLUMNS = 10_000
MAX_NAME_CHARS = 128
MAX_REPORTED = 100
_SCHEMA_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_TABLE_KEYS = ("api_version", "kind", "name", "columns")


class Role(Enum):
    """What a column is for."""

    FEATURE = "feature"  # shared, as an input of the model
    LABEL = "label"  # shared, as what the model predicts
    IDENTIFIER = "identifier"  # names a person: dropped while the file is read
    IGNORED = "ignored"  # dropped while the file is read


class ColumnType(Enum):
    """How the values of a feature or label are written."""

    FLOAT = "float"  # features
    INTEGER = "integer"  # features
    BOOLEAN = "boolean"  # features and labels: true or false, 1 or 0
    CHOICE = "choice"  # labels: one of two named values


_TYPES = {
    Role.FEATURE: (ColumnType.FLOAT, ColumnType.INTEGER, ColumnType.BOOLEAN),
    Role.LABEL: (ColumnType.BOOLEAN, ColumnType.CHOICE),
}


@dataclass(frozen=True)
class Column:
    """One column of the contract; public.

    Attributes:
        name: as in the header of the file, exactly.
        role: what it is for.
        column_type: how values are written; None for columns that are dropped.
        low: least value of a float or integer feature, a decimal in its shortest form; None otherwise.
        high: greatest value, likewise.
        negative: choice labels: the text that means 0; None otherwise.
        positive: choice labels: the text that means 1; None otherwise.
    """

    name: str
    role: Role
    column_type: ColumnType | None = None
    low: str | None = None
    high: str | None = None
    negative: str | None = None
    positive: str | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The public range as float64; 0 to 1 for booleans and labels."""
        return (0.0, 1.0) if self.low is None or self.high is None else (float(self.low), float(self.high))

    @property
    def expected(self) -> str:
        """What a cell must hold, for people; public."""
        match self.column_type:
            case ColumnType.FLOAT:
                return f"a number from {self.low} to {self.high}"
            case ColumnType.INTEGER:
                return f"a whole number from {self.low} to {self.high}"
            case ColumnType.CHOICE:
                return f"{self.negative!r} or {self.positive!r}"
            case _:
                return "true or false"


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table; public. Features keep the order given here, whatever the order in a file."""

    name: str
    columns: tuple[Column, ...]

    @property
    def features(self) -> tuple[Column, ...]:
        """The feature columns, in order."""
        return tuple(column for column in self.columns if column.role is Role.FEATURE)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(column.name for column in self.features)

    @property
    def num_features(self) -> int:
        """Width of a row of features."""
        return len(self.features)

    @property
    def label(self) -> Column:
        """The one label column."""
        return next(column for column in self.columns if column.role is Role.LABEL)

    @property
    def digest(self) -> str:
        """SHA-256 of the schema's canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def to_document(self) -> dict[str, Any]:
        """Returns the schema as a document; `from_document` returns an equal schema."""
        columns = [_column_document(column) for column in self.columns]
        return {"api_version": API_VERSION, "kind": KIND, "name": self.name, "columns": columns}

    @staticmethod
    def from_document(document: Document) -> TableSchema:
        """Reads a schema document and accepts only what `to_document` writes.

        Raises:
            ConfideError: INVALID_SCHEMA (the author's fault) with up to `MAX_REPORTED` problems and their paths.
        """
        schema = read_schema(document)
        if canonical_bytes(schema.to_document()) != canonical_bytes(document):
            raise ConfideError(ErrorCode.INVALID_SCHEMA, "the schema's decimals are not in their shortest form")
        return schema

    def scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps features from their public ranges to [-1, 1].

        Args:
            values: (rows, features) float64 within the ranges, secret.

        Returns:
            (rows, features) float64, secret: low gives exactly -1, high exactly 1, false -1, true 1.
        """
        low, high = (np.array(ends) for ends in zip(*(column.bounds for column in self.features), strict=True))
        scaled: NDArray[np.float64] = 2.0 * ((values - low) / (high - low)) - 1.0
        return scaled


def read_schema(table: Mapping[str, Any]) -> TableSchema:
    """Reads a schema whose decimals may be written in any form; reports problems at once, with their paths.

    Raises:
        ConfideError: INVALID_SCHEMA (the author's fault) with up to `MAX_REPORTED` problems.
    """
    problems = list(_key_problems("", table, _TABLE_KEYS))
    for key, wanted in (("api_version", API_VERSION), ("kind", KIND)):
        if key in table and table[key] != wanted:
            problems.append(Problem(key, "is not what this version reads", f"write {key}: {wanted}"))
    name = table.get("name", "unnamed")
    if not isinstance(name, str) or not _SCHEMA_NAME.fullmatch(name):
        problems.append(Problem("name", "a name is 1 to 63 of a-z, 0-9 and -, not at the ends", "choose another"))
    entries = table.get("columns", [])
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_COLUMNS:
        problems.append(Problem("columns", f"must be a list of 1 to {MAX_COLUMNS} columns", "list the columns of the table"))
        entries = []
    columns = []
    for position, entry in enumerate(entries):
        column, found = _read_column(f"columns[{position}]", entry)
        problems += found
        columns += [column] if column is not None else []
    if not problems:
        problems += _table_problems(columns)
    if problems:
        what = f"{len(problems)} problem(s) in the schema"
        raise ConfideError(ErrorCode.INVALID_SCHEMA, what, problems=problems[:MAX_REPORTED])
    return TableSchema(str(name), tuple(columns))


def _read_column(where: str, entry: object) -> tuple[Column | None, list[Problem]]:
    if not isinstance(entry, dict):
        return None, [Problem(where, "must be a mapping", "write name, role and type")]
    roles = {role.value: role for role in Role}
    role = roles.get(entry["role"]) if isinstance(entry.get("role"), str) else None
    if role is None:
        return None, [Problem(f"{where}.role", f"must be one of {', '.join(roles)}", "say what the column is for")]
    if role not in _TYPES:
        problems = [*_key_problems(where, entry, ("name", "role")), *_name_problems(where, entry)]
        return (None if problems else Column(entry["name"], role)), problems
    types = {column_type.value: column_type for column_type in _TYPES[role]}
    column_type = types.get(entry["type"]) if isinstance(entry.get("type"), str) else None
    if column_type is None:
        return None, [Problem(f"{where}.type", f"a {role.value} must be one of {', '.join(types)}", "choose the type")]
    keys: tuple[str, ...] = ("name", "role", "type")
    if column_type in (ColumnType.FLOAT, ColumnType.INTEGER):
        keys += ("range",)
    elif column_type is ColumnType.CHOICE:
        keys += ("negative", "positive")
    problems = [*_key_problems(where, entry, keys), *_name_problems(where, entry)]
    low = high = None
    if "range" in keys and "range" in entry:
        problems += _range_problems(f"{where}.range", entry["range"], column_type)
    if "negative" in keys and "negative" in entry and "positive" in entry:
        problems += _choice_problems(where, entry["negative"], entry["positive"])
    if problems:
        return None, problems
    if "range" in keys:
        low, high = (_shortest(end) for end in entry["range"])
    return Column(entry["name"], role, column_type, low, high, entry.get("negative"), entry.get("positive")), []


def _key_problems(where: str, entry: Mapping[str, Any], needed: tuple[str, ...]) -> Iterable[Problem]:
    prefix = f"{where}." if where else ""
    for key in entry:
        if key not in needed:
            yield Problem(f"{prefix}{str(key)[:MAX_NAME_CHARS]}", "unknown field", f"the fields here are {', '.join(needed)}")
    for key in needed:
        if key not in entry:
            yield Problem(f"{prefix}{key}", "missing field", "add it")


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


def _choice_problems(where: str, negative: object, positive: object) -> Iterable[Problem]:
    for key, value in (("negative", negative), ("positive", positive)):
        if not _is_text(value):
            yield Problem(f"{where}.{key}", "must be a text without spaces around it", "write the value as in the file")
    if negative == positive:
        yield Problem(f"{where}.positive", "is the same as negative", "name the two values of the label")


def _table_problems(columns: list[Column]) -> Iterable[Problem]:
    for name, count in Counter(column.name for column in columns).items():
        if count > 1:
            yield Problem(f"columns.{name}", f"described {count} times", "describe each column once")
    roles = Counter(column.role for column in columns)
    if roles[Role.LABEL] != 1:
        yield Problem("columns", f"{roles[Role.LABEL]} columns have the role label", "give it to exactly one")
    if not roles[Role.FEATURE]:
        yield Problem("columns", "no column has the role feature", "give it to at least one")


def _column_document(column: Column) -> dict[str, Any]:
    document: dict[str, Any] = {"name": column.name, "role": column.role.value}
    if column.column_type is not None:
        document["type"] = column.column_type.value
    if column.low is not None:
        document["range"] = [column.low, column.high]
    if column.negative is not None:
        document |= {"negative": column.negative, "positive": column.positive}
    return document


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value == value.strip() and 1 <= len(value) <= MAX_NAME_CHARS and value.isprintable()


def _shortest(text: str) -> str:
    """The decimal without needless zeros: `5.0` and `05` become `5`, `-0` becomes `0`."""
    sign = "-" if text.startswith("-") else ""
    whole, _, places = text.lstrip("-").partition(".")
    whole, places = whole.lstrip("0") or "0", places.rstrip("0")
    short = f"{whole}.{places}" if places else whole
    return short if short == "0" else f"{sign}{short}"
