"""A step that replaces numbers by the number of the interval that they lie in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from privacy.preparation.recipes.cells import document_of, from_numbers, is_number, needed, numbers_of
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem

_MAX_EDGES = 1_000


@dataclass(frozen=True)
class Bin(Step):
    """Counts intervals from 0: numbers below the first edge are 0, from the first edge on 1, from the last on their number.

    Attributes:
        column: of numbers.
        edges: public, rising, decimals in their shortest form; an edge belongs to the interval above it.
    """

    KIND: ClassVar[str] = "bin"
    column: str
    edges: tuple[str, ...]

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        column, edges = reader.column("column"), reader.decimals("edges", least=1, most=_MAX_EDGES)
        if any(float(low) >= float(high) for low, high in itertools.pairwise(edges)):
            reader.wrong("edges", "do not rise", "write the least first")
        return (cls(column, edges) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, column=self.column, edges=self.edges)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, [self.column], is_number, "numbers")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return {name: pa.float64() if name == self.column else kind for name, kind in columns.items()}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        edges = np.array(self.edges, np.float64)

        def transform(rows: Rows) -> Rows:
            values = numbers_of(rows.column(self.column))
            found = np.where(np.isnan(values), np.nan, np.searchsorted(edges, values, side="right"))
            return rows.with_column(self.column, from_numbers(found))

        return transform
