"""Steps that cut the ends of a column of numbers: what is beyond a public bound is told as the bound.

Who is older than everybody else is found by age alone. `clip` does the same for a range that rows must keep to; these steps stand
in a recipe for people's sake, and each says which end it hides.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc

from privacy.preparation.recipes.cells import document_of, is_number, needed
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem


@dataclass(frozen=True)
class _Coding(Step):
    """Cuts one end.

    Attributes:
        column: its name.
        at: the bound, a decimal in its shortest form.
    """

    column: str
    at: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        column, at = reader.column("column"), reader.decimal("at")
        return (cls(column, at) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, column=self.column, at=self.at)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        yield from needed(columns, [self.column], is_number, "numbers")
        if "." in self.at and pa.types.is_integer(columns.get(self.column, pa.float64())):
            yield Problem("at", f"column {self.column} has whole numbers", "cut at a whole number")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        bound = pa.scalar(float(self.at)).cast(context.columns[self.column])

        def transform(rows: Rows) -> Rows:
            values = rows.column(self.column)
            cut = self._cut(values, bound)
            # What is no number is missing, and would else become the bound.
            kept = pc.if_else(pc.is_nan(values), values, cut) if pa.types.is_floating(values.type) else cut
            return rows.with_column(self.column, kept)

        return transform

    @abstractmethod
    def _cut(self, values: pa.Array, bound: pa.Scalar) -> pa.Array:
        """Returns the values with one end cut; missing ones stay missing."""


@dataclass(frozen=True)
class TopCode(_Coding):
    """Tells every number above a bound as the bound."""

    KIND: ClassVar[str] = "top-code"

    def _cut(self, values: pa.Array, bound: pa.Scalar) -> pa.Array:
        return pc.min_element_wise(values, bound, skip_nulls=False)


@dataclass(frozen=True)
class BottomCode(_Coding):
    """Tells every number below a bound as the bound."""

    KIND: ClassVar[str] = "bottom-code"

    def _cut(self, values: pa.Array, bound: pa.Scalar) -> pa.Array:
        return pc.max_element_wise(values, bound, skip_nulls=False)
