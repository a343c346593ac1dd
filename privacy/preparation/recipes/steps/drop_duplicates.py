"""A step that leaves out rows that stand in the table before already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from privacy.preparation.digests import KEY_BYTES, first_of_equal, row_digests
from privacy.preparation.recipes.cells import document_of, is_any, needed
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Survey, SurveyingStep, Transform
from protocols.errors import Problem


@dataclass(frozen=True)
class DropDuplicates(SurveyingStep):
    """Keeps the first of the rows that are equal in the named columns, or in all columns if none are named."""

    KIND: ClassVar[str] = "drop-duplicates"
    columns: tuple[str, ...] | None

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        columns = reader.columns() if reader.has("columns") else None
        return (cls(columns) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, columns=self.columns)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        return needed(columns, self.columns or (), is_any, "anything")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def survey(self, context: Context) -> Survey:
        """As `SurveyingStep.survey`."""
        key = context.randomness.words(np.zeros(1, np.int64)).tobytes()[:KEY_BYTES]
        return _Seen(tuple(self.columns or context.columns), key)


class _Seen(Survey):
    def __init__(self, columns: tuple[str, ...], key: bytes) -> None:
        self._columns, self._key = columns, key
        self._digests: list[NDArray[np.uint64]] = []

    def see(self, rows: Rows) -> None:
        self._digests.append(row_digests(rows.cells, self._columns, self._key))

    def transform(self) -> Transform:
        is_first = first_of_equal(np.concatenate([np.empty(0, np.uint64), *self._digests]))
        seen = 0

        def transform(rows: Rows) -> Rows:
            nonlocal seen
            seen += len(rows)
            return rows.where(is_first[seen - len(rows) : seen])

        return transform
