"""The contract of a table: which columns there are, what they are for, and the public range of every feature.

A table may be one part of rows whose other columns, and perhaps whose label, lie elsewhere; the schema of the joined rows then
has all of them (`privacy.preparation.parts`).

A schema is public and the same at every institution that trains together; its digest stands in every job. Ranges are agreed
knowledge ("a radius is 5 to 30"), never computed from rows: a range taken from the data would publish its extremes. Decimals
are kept as text in their shortest form, so that equal schemas have equal digests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.preparation.columns import Column as Column
from privacy.preparation.columns import ColumnType as ColumnType
from privacy.preparation.columns import Role as Role
from privacy.preparation.columns import key_problems, read_column_entry
from protocols.canonical import Document, canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job_parts import Task

API_VERSION = "confide/v1"
KIND = "TableSchema"
MAX_COLUMNS = 10_000
MAX_REPORTED = 100
_SCHEMA_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TABLE_KEYS = ("api_version", "kind", "name", "columns")


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table; public. Features keep the order given here, whatever the order in a file."""

    name: str
    columns: tuple[Column, ...]

    @cached_property
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
    def has_label(self) -> bool:
        """Whether there is a label column; a part of rows may have none."""
        return any(column.role is Role.LABEL for column in self.columns)

    @property
    def label(self) -> Column:
        """The one label column.

        Raises:
            ConfideError: INVALID_SCHEMA (the author's fault): there is none.
        """
        for column in self.columns:
            if column.role is Role.LABEL:
                return column
        problem = Problem("columns", f"{self.name} has no label column", "join it with the part that has the label")
        raise ConfideError(ErrorCode.INVALID_SCHEMA, "the schema is of one part of the rows alone", problems=[problem])

    @property
    def identifiers(self) -> tuple[Column, ...]:
        """The columns that name people; never shared."""
        return tuple(column for column in self.columns if column.role is Role.IDENTIFIER)

    @property
    def task(self) -> Task:
        """What a model predicts of these rows, as the label says."""
        return self.label.task

    @property
    def num_classes(self) -> int | None:
        """How many classes the label has, from 2; None if it is a number."""
        return len(self.label.class_names) or None

    @property
    def digest(self) -> str:
        """SHA-256 of the schema's canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def to_document(self) -> dict[str, Any]:
        """Returns the schema as a document; `from_document` returns an equal schema."""
        columns = [column.to_document() for column in self.columns]
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
        low, high = self.feature_bounds
        scaled: NDArray[np.float64] = 2.0 * ((values - low) / (high - low)) - 1.0
        return scaled

    @cached_property
    def feature_bounds(self) -> NDArray[np.float64]:
        """The public ranges: (2, features) float64, the least values and the greatest."""
        return np.array([column.bounds for column in self.features]).reshape(-1, 2).T

    def scale_labels(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps labels that are numbers from their public range to [-1, 1]; classes stay as they are; (rows,) float64, secret."""
        if self.task is not Task.REAL:
            return values
        low, high = self.label.bounds
        scaled: NDArray[np.float64] = 2.0 * ((values - low) / (high - low)) - 1.0
        return scaled

    def unscale_labels(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps predicted numbers back to the label's own unit: -1 to its least value, 1 to its greatest; classes stay."""
        if self.task is not Task.REAL:
            return scaled
        low, high = self.label.bounds
        values: NDArray[np.float64] = low + (scaled + 1.0) / 2.0 * (high - low)
        return values


def read_schema(table: Mapping[str, Any]) -> TableSchema:
    """Reads a schema whose decimals may be written in any form; reports problems at once, with their paths.

    Raises:
        ConfideError: INVALID_SCHEMA (the author's fault) with up to `MAX_REPORTED` problems.
    """
    problems = list(key_problems("", table, _TABLE_KEYS))
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
        column, found = read_column_entry(f"columns[{position}]", entry)
        problems += found
        columns += [column] if column is not None else []
    if not problems:
        problems += _table_problems(columns)
    if problems:
        what = f"{len(problems)} problem(s) in the schema"
        raise ConfideError(ErrorCode.INVALID_SCHEMA, what, problems=problems[:MAX_REPORTED])
    return TableSchema(str(name), tuple(columns))


def _table_problems(columns: list[Column]) -> Iterable[Problem]:
    for name, count in Counter(column.name for column in columns).items():
        if count > 1:
            yield Problem(f"columns.{name}", f"described {count} times", "describe each column once")
    roles = Counter(column.role for column in columns)
    if roles[Role.LABEL] > 1:
        yield Problem("columns", f"{roles[Role.LABEL]} columns have the role label", "give it to one at most")
    if not roles[Role.FEATURE] and not roles[Role.LABEL]:
        yield Problem("columns", "no column has the role feature or label", "give one of them to at least one")
