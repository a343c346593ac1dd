"""A step that makes numbers of dates: days between two dates, or the age at one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.preparation.recipes.cells import document_of, is_date, needed
from privacy.preparation.recipes.dates import parse_dates
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Transform
from protocols.errors import Problem

_MEASURES = ("days", "age")


@dataclass(frozen=True)
class DateToNumber(Step):
    """Replaces a date by a number, counted against a reference date.

    Attributes:
        column: of dates.
        measure: `days` from the reference to the date, or `age`: completed years from the date to the reference.
        reference: a date, `2024-01-01`, or the name of another column of dates; one of the two, the other is None.
        reference_column: likewise.
    """

    KIND: ClassVar[str] = "date-to-number"
    column: str
    measure: str
    reference: str | None
    reference_column: str | None

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        column, measure = reader.column("column"), reader.choice("measure", _MEASURES)
        other = reader.column("reference_column") if reader.has("reference_column") else None
        reference = reader.text("reference") if other is None else None
        if reference and parse_dates(pa.array([reference]), "%Y-%m-%d")[1][0]:
            reader.wrong("reference", "must be a date", "for example 2024-01-31")
        return (cls(column, measure, reference, other) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        fields = {"reference": self.reference, "reference_column": self.reference_column}
        return document_of(self.KIND, column=self.column, measure=self.measure, **fields)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        names = [self.column] if self.reference_column is None else [self.column, self.reference_column]
        return needed(columns, names, is_date, "dates")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return {name: pa.float64() if name == self.column else kind for name, kind in columns.items()}

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""

        def transform(rows: Rows) -> Rows:
            dates, reference = rows.column(self.column), self._reference(rows)
            known = pc.and_(pc.is_valid(dates), pc.is_valid(reference)).to_numpy(zero_copy_only=False)
            begin, end = _days(dates), _days(reference)
            numbers = begin - end if self.measure == "days" else _completed_years(begin, end)
            return rows.with_column(self.column, pa.array(numbers.astype(np.float64), mask=~known))

        return transform

    def _reference(self, rows: Rows) -> pa.Array:
        if self.reference_column is not None:
            return rows.column(self.reference_column)
        date = parse_dates(pa.array([self.reference]), "%Y-%m-%d")[0][0]
        return pa.repeat(date, len(rows))


def _days(dates: pa.Array) -> NDArray[np.int64]:
    days: NDArray[np.int64] = pc.fill_null(dates.cast(pa.int32()), 0).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return days


def _completed_years(begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """Years between two days, given since 1970; a birthday on 29 February counts from 1 March in other years."""
    years, places = zip(*(_year_and_place(days) for days in (begin, end)), strict=True)
    completed: NDArray[np.int64] = years[1] - years[0] - (places[1] < places[0])
    return completed


def _year_and_place(days: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The year of a day, and month and day in it as one number that grows with them."""
    dates = days.astype("M8[D]")
    months = dates.astype("M8[M]")
    number = months.astype(np.int64)
    return number // 12 + 1970, (number % 12) * 32 + (dates - months.astype("M8[D]")).astype(np.int64)
