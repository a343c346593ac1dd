"""A step that makes numbers of texts, by one strict grammar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc

from privacy.preparation.recipes.cells import document_of, is_number, is_text, mask, needed, refuse_cells, trimmed
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem

_MARKS = ("point", "comma")
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
_COMMA_NUMBER = r"^[+-]?([0-9]+,?[0-9]*|,[0-9]+)([eE][+-]?[0-9]{1,4})?$"
_MAX_CELL_CHARS = 64


@dataclass(frozen=True)
class ParseNumber(Step):
    """Reads numbers: digits, decimal mark, exponent. Empty cells, `NA`, `N/A`, `NaN`, `null` and `none` become missing.

    Attributes:
        columns: of texts; columns of numbers are taken as they are.
        decimal_mark: `point` or `comma`.
    """

    KIND: ClassVar[str] = "parse-number"
    columns: tuple[str, ...]
    decimal_mark: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`; the decimal mark is a point if none is named."""
        reader = EntryReader(where, entry)
        columns = reader.columns()
        mark = reader.choice("decimal_mark", _MARKS) if reader.has("decimal_mark") else _MARKS[0]
        return (cls(columns, mark) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, columns=self.columns, decimal_mark=self.decimal_mark)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, self.columns, lambda kind: is_text(kind) or is_number(kind), "texts or numbers")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return {name: pa.float64() if name in self.columns else kind for name, kind in columns.items()}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""

        def transform(rows: Rows) -> Rows:
            for name in self.columns:
                rows = rows.with_column(name, self._parse(rows, name))
            return rows

        return transform

    def _parse(self, rows: Rows, name: str) -> pa.Array:
        cells = rows.column(name)
        if is_number(cells.type):
            return cells.cast(pa.float64())
        texts = trimmed(cells)
        pattern = _NUMBER if self.decimal_mark == "point" else _COMMA_NUMBER
        sound = pc.and_(pc.match_substring_regex(texts, pattern), pc.less_equal(pc.binary_length(texts), _MAX_CELL_CHARS))
        what = f"is not a number with a decimal {self.decimal_mark}"
        refuse_cells(rows, name, mask(pc.invert(sound)), what, "write digits alone, no unit; or name the text in mark-missing")
        if self.decimal_mark == "comma":
            texts = pc.replace_substring(texts, ",", ".")
        values = pc.replace_substring_regex(texts, r"^\+", "").cast(pa.float64())
        refuse_cells(rows, name, mask(pc.is_inf(values)), "is too large for a number", "correct it")
        return values
