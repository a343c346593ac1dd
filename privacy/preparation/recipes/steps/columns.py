"""Steps that keep, drop and rename columns; no cell changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from privacy.preparation.recipes.cells import document_of, drop, is_any, needed, taken
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem


@dataclass(frozen=True)
class Select(Step):
    """Keeps the named columns, in this order, and drops all others."""

    KIND: ClassVar[str] = "select"
    columns: tuple[str, ...]

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        columns = reader.columns()
        return (cls(columns) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, columns=self.columns)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, self.columns, is_any, "anything")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return {name: columns[name] for name in self.columns}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        return lambda rows: Rows(rows.numbers, rows.cells.select(list(self.columns)))


@dataclass(frozen=True)
class Drop(Step):
    """Drops the named columns."""

    KIND: ClassVar[str] = "drop"
    columns: tuple[str, ...]

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        columns = reader.columns()
        return (cls(columns) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, columns=self.columns)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        yield from needed(columns, self.columns, is_any, "anything")
        if not set(columns) - set(self.columns):
            yield Problem("columns", "no column would be left", "drop fewer")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return {name: kind for name, kind in columns.items() if name not in self.columns}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        return lambda rows: drop(rows, self.columns)


@dataclass(frozen=True)
class Rename(Step):
    """Gives columns other names, all at once.

    Attributes:
        names: pairs of the name before and the name after, in the order of the names before.
    """

    KIND: ClassVar[str] = "rename"
    names: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        names = reader.mapping("names")
        if len(set(names.values())) < len(names):
            reader.wrong("names", "gives one name to several columns", "choose different names")
        return (cls(tuple(sorted(names.items()))) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, names=dict(self.names))

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        before = dict(self.names)
        yield from needed(columns, before, is_any, "anything")
        yield from taken({name: kind for name, kind in columns.items() if name not in before}, before.values())

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        names = dict(self.names)
        return {names.get(name, name): kind for name, kind in columns.items()}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        names = dict(self.names)

        def transform(rows: Rows) -> Rows:
            return Rows(rows.numbers, rows.cells.rename_columns([names.get(name, name) for name in rows.cells.schema.names]))

        return transform
