"""A step that says which texts mean that a value is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc

from privacy.preparation.recipes.cells import document_of, is_text, needed
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem


@dataclass(frozen=True)
class MarkMissing(Step):
    """Empties cells that hold one of the texts, spaces around them aside: `unknown`, `-9`."""

    KIND: ClassVar[str] = "mark-missing"
    columns: tuple[str, ...]
    values: tuple[str, ...]

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        columns, values = reader.columns(), reader.texts("values")
        return (cls(columns, values) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, columns=self.columns, values=self.values)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, self.columns, is_text, "texts")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        values, nothing = pa.array(self.values, pa.string()), pa.scalar(None, pa.string())

        def transform(rows: Rows) -> Rows:
            for name in self.columns:
                cells = rows.column(name)
                rows = rows.with_column(name, pc.if_else(pc.is_in(pc.utf8_trim_whitespace(cells), values), nothing, cells))
            return rows

        return transform
