"""A step that replaces texts by others of a declared list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc

from privacy.preparation.recipes.cells import document_of, is_text, mask, needed, refuse_cells
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem

_OTHERS = ("refuse", "keep", "missing")


@dataclass(frozen=True)
class MapValues(Step):
    """Replaces texts: `m` by `male`. Spaces around a cell do not count; missing cells stay missing.

    Attributes:
        column: of texts.
        values: pairs of the text before and the text after, in the order of the texts before.
        others: what becomes of texts that are not listed: `refuse`, `keep` or `missing`.
    """

    KIND: ClassVar[str] = "map-values"
    column: str
    values: tuple[tuple[str, str], ...]
    others: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        column, values, others = reader.column("column"), reader.mapping("values"), reader.choice("others", _OTHERS)
        return (cls(column, tuple(sorted(values.items())), others) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, column=self.column, values=dict(self.values), others=self.others)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, [self.column], is_text, "texts")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        before, after = (pa.array(texts, pa.string()) for texts in zip(*self.values, strict=True))

        def transform(rows: Rows) -> Rows:
            cells = rows.column(self.column)
            place = pc.index_in(pc.utf8_trim_whitespace(cells), before)
            mapped = after.take(place)
            unlisted = pc.and_(pc.is_null(place), pc.is_valid(cells))
            if self.others == "refuse":
                what = "is none of the listed values"
                refuse_cells(rows, self.column, mask(unlisted), what, "list it, or say what becomes of others")
            elif self.others == "keep":
                mapped = pc.if_else(unlisted, cells, mapped)
            return rows.with_column(self.column, mapped)

        return transform
