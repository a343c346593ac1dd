"""A step that brings numbers into a public range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from privacy.preparation.recipes.cells import document_of, from_numbers, is_number, needed, numbers_of
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem


@dataclass(frozen=True)
class Clip(Step):
    """Moves numbers outside a range to its nearer end. The range is agreed knowledge, never taken from the rows.

    Attributes:
        columns: of numbers.
        low: the least value, a decimal in its shortest form.
        high: the greatest, likewise.
    """

    KIND: ClassVar[str] = "clip"
    columns: tuple[str, ...]
    low: str
    high: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        columns, (low, high) = reader.columns(), reader.range()
        return (cls(columns, low, high) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, columns=self.columns, range=(self.low, self.high))

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, self.columns, is_number, "numbers")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return {name: pa.float64() if name in self.columns else kind for name, kind in columns.items()}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        low, high = float(self.low), float(self.high)

        def transform(rows: Rows) -> Rows:
            for name in self.columns:
                rows = rows.with_column(name, from_numbers(np.clip(numbers_of(rows.column(name)), low, high)))
            return rows

        return transform
