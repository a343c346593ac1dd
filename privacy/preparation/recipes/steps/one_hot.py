"""A step that makes one column of true and false of each value of a declared list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc

from privacy.preparation.recipes.cells import document_of, drop, is_text, mask, needed, refuse_cells, taken
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem

_OTHERS = ("refuse", "none")


@dataclass(frozen=True)
class OneHot(Step):
    """Replaces a column of texts by columns `COLUMN=VALUE`, in the order of the list. The list is public.

    Attributes:
        column: of texts; spaces around a cell do not count.
        values: the list.
        others: what becomes of other texts and of missing cells: `refuse`, or `none` of the columns is true.
    """

    KIND: ClassVar[str] = "one-hot"
    column: str
    values: tuple[str, ...]
    others: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        column, values, others = reader.column("column"), reader.texts("values"), reader.choice("others", _OTHERS)
        return (cls(column, values, others) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, column=self.column, values=self.values, others=self.others)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        yield from needed(columns, [self.column], is_text, "texts")
        yield from taken(columns, self._names())

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        kept = {name: kind for name, kind in columns.items() if name != self.column}
        return kept | dict.fromkeys(self._names(), pa.bool_())

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        values = pa.array(self.values, pa.string())

        def transform(rows: Rows) -> Rows:
            place = pc.index_in(pc.utf8_trim_whitespace(rows.column(self.column)), values)
            if self.others == "refuse":
                what = "is missing or none of the listed values"
                refuse_cells(rows, self.column, mask(pc.is_null(place)), what, "list it, or write others: none")
            rows = drop(rows, [self.column])
            for number, name in enumerate(self._names()):
                rows = rows.with_column(name, pc.fill_null(pc.equal(place, number), False))
            return rows

        return transform

    def _names(self) -> list[str]:
        return [f"{self.column}={value}" for value in self.values]
