"""A step that moves the dates of a person by a random number of days, the same for all of them: intervals stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privacy.preparation.recipes.cells import document_of, is_date, is_text, mask, needed, refuse_cells, trimmed
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem

_MAX_DAYS = 3650


@dataclass(frozen=True)
class ShiftDates(Step):
    """Moves dates.

    Attributes:
        columns: of dates; those of one person move together.
        person: the column that says who a row is about, before it is dropped; spaces around it do not matter.
        days: by how many at most, back or forth; each number of days is as likely as any other.
    """

    KIND: ClassVar[str] = "shift-dates"
    columns: tuple[str, ...]
    person: str
    days: int

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        columns, person = reader.columns(), reader.column("person")
        days = reader.whole("days", least=1, most=_MAX_DAYS)
        return (cls(columns, person, days) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, columns=self.columns, person=self.person, days=str(self.days))

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        yield from needed(columns, self.columns, is_date, "dates")
        yield from needed(columns, [self.person], is_text, "texts")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""

        def transform(rows: Rows) -> Rows:
            people = trimmed(rows.column(self.person))
            missing = mask(pc.is_null(people))
            refuse_cells(rows, self.person, missing, "is missing, so that dates have nobody to move with", "leave such rows out")
            encoded = people.dictionary_encode()
            drawn = context.randomness.uniform_of(encoded.dictionary.to_pylist())
            days = np.floor(drawn * (2 * self.days + 1)).astype(np.int32) - np.int32(self.days)
            moved = pa.array(days[encoded.indices.to_numpy()] if len(days) else days)
            for name in self.columns:
                rows = rows.with_column(name, pc.add(rows.column(name).cast(pa.int32()), moved).cast(pa.date32()))
            return rows

        return transform
