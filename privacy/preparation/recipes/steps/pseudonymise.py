"""A step that replaces identifiers by pseudonyms that were made beforehand with the other institutions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from privacy.preparation.recipes.cells import document_of, mask, needed, refuse_cells
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import ConfideError, ErrorCode, Problem


@dataclass(frozen=True)
class Pseudonymise(Step):
    """Replaces the identifiers of a linkage key; the only step that may touch one.

    Attributes:
        column: of texts or whole numbers.
        project: for which project the pseudonyms are; those of two projects never match.
    """

    KIND: ClassVar[str] = "pseudonymise"
    column: str
    project: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        column, project = reader.column("column"), reader.text("project", most=63)
        return (cls(column, project) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, column=self.column, project=self.project)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, [self.column], is_identifying, "texts or whole numbers")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return {name: pa.string() if name == self.column else kind for name, kind in columns.items()}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        pseudonyms = context.pseudonyms.get(self.column, {})

        def transform(rows: Rows) -> Rows:
            identifiers = identifiers_of(rows.column(self.column))
            missing = np.array([not text for text in identifiers], bool)
            refuse_cells(rows, self.column, missing, "has no identifier", "complete it, or remove the row")
            made = pa.array([pseudonyms.get(text) for text in identifiers], pa.string())
            if mask(made.is_null()).any():
                raise ConfideError(ErrorCode.INTERNAL, f"identifiers of column {self.column} have no pseudonyms")
            return rows.with_column(self.column, made)

        return transform


def identifiers_of(cells: pa.Array) -> list[str]:
    """Returns identifiers as texts without the spaces around them, empty where there is none; secret."""
    return ["" if text is None else text.strip() for text in cells.cast(pa.string()).to_pylist()]


def is_identifying(kind: pa.DataType) -> bool:
    """Whether cells of this type can be identifiers."""
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind))
