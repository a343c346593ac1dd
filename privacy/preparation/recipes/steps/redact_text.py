"""A step that takes out of free text what names or locates people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc

from privacy.preparation.recipes.cells import document_of, is_text, mask, needed, refuse_cells
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from privacy.reidentification.entities import MAX_TEXT_CHARS, redact
from protocols.errors import Problem


@dataclass(frozen=True)
class RedactText(Step):
    """Replaces what the detector finds by its kind, as in `[PERSON]`. What it misses stays: redacted text is not anonymous."""

    KIND: ClassVar[str] = "redact-text"
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
        return needed(columns, self.columns, is_text, "texts")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""

        def transform(rows: Rows) -> Rows:
            for name in self.columns:
                cells = rows.column(name)
                too_long = mask(pc.greater(pc.utf8_length(cells), MAX_TEXT_CHARS))
                refuse_cells(rows, name, too_long, f"has more than {MAX_TEXT_CHARS} characters", "split it")
                encoded = cells.dictionary_encode()
                redacted = pa.array([redact(text) for text in encoded.dictionary.to_pylist()], pa.string())
                rows = rows.with_column(name, redacted.take(encoded.indices))
            return rows

        return transform
