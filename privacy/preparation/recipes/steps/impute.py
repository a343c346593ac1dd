"""A step that fills missing cells, with a declared public value or with values of the column's own distribution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.preparation.recipes.cells import document_of, is_date, is_number, is_text, needed
from privacy.preparation.recipes.dates import parse_dates
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.row_randomness import RowRandomness
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Survey, SurveyingStep, Transform
from protocols.errors import ConfideError, ErrorCode, Problem

SAMPLE_SIZE = 4_096
_DECIMAL_TYPES = (is_number, is_date, is_text)


@dataclass(frozen=True)
class Impute(Step):
    """Fills missing cells with one public value, for example a median that was published.

    Attributes:
        columns: all of one type.
        value: a text; for numbers a decimal, for dates `2024-01-31`.
    """

    KIND: ClassVar[str] = "impute"
    columns: tuple[str, ...]
    value: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        reader = EntryReader(where, entry)
        columns, value = reader.columns(), reader.text("value")
        return (cls(columns, value) if reader.done() else None), reader.problems

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        return document_of(self.KIND, columns=self.columns, value=self.value)

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        yield from needed(columns, self.columns, _can_be_filled, "texts, numbers or dates")
        for name in self.columns:
            if name in columns and _can_be_filled(columns[name]) and _cell(self.value, columns[name]) is None:
                yield Problem(f"column {name}", "cannot hold the value", "write a decimal for numbers, 2024-01-31 for dates")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        filled = {name: _cell(self.value, context.columns[name]) for name in self.columns}

        def transform(rows: Rows) -> Rows:
            for name, value in filled.items():
                rows = rows.with_column(name, pc.fill_null(rows.column(name), value))
            return rows

        return transform


@dataclass(frozen=True)
class ImputeDraw(SurveyingStep):
    """Fills missing cells with values drawn from those of the same column that are there.

    Drawn from a uniform sample of at most `SAMPLE_SIZE` of them. A drawn value is another person's: the column's distribution
    stays, its relation to the other columns is lost in the filled rows.
    """

    KIND: ClassVar[str] = "impute-draw"
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
        return needed(columns, self.columns, _can_be_filled, "texts, numbers or dates")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def survey(self, context: Context) -> Survey:
        """As `SurveyingStep.survey`."""
        samples = {name: _Sample(context.columns[name], 2 * at) for at, name in enumerate(self.columns)}
        return _Distributions(samples, context.randomness)


class _Sample:
    """A uniform sample of a column: the cells of the rows whose random words are the smallest."""

    def __init__(self, kind: pa.DataType, draw: int) -> None:
        self.draw = draw  # the sample uses this draw of a row, filling it the next
        self.values = pa.array([], kind)
        self._words: NDArray[np.uint64] = np.empty(0, np.uint64)

    def see(self, values: pa.Array, words: NDArray[np.uint64]) -> None:
        present = values.is_valid().to_numpy(zero_copy_only=False)
        if len(self._words) == SAMPLE_SIZE:
            present &= words < self._words[-1]
        words = np.concatenate([self._words, words[present]])
        order = np.argsort(words, kind="stable")[:SAMPLE_SIZE]
        self.values = pa.concat_arrays([self.values, values.filter(pa.array(present))]).take(pa.array(order))
        self._words = words[order]


class _Distributions(Survey):
    def __init__(self, samples: Mapping[str, _Sample], randomness: RowRandomness) -> None:
        self._samples, self._randomness = samples, randomness

    def see(self, rows: Rows) -> None:
        for name, sample in self._samples.items():
            sample.see(rows.column(name), self._randomness.words(rows.numbers, sample.draw)[:, 0])

    def transform(self) -> Transform:
        empty = [name for name, sample in self._samples.items() if not len(sample.values)]
        if empty:
            problems = [Problem(f"column {name}", "holds no value to draw from", "drop it, or impute a value") for name in empty]
            raise ConfideError(ErrorCode.INVALID_DATA, f"{len(empty)} column(s) are missing throughout", problems=problems)

        def transform(rows: Rows) -> Rows:
            for name, sample in self._samples.items():
                cells = rows.column(name)
                drawn = self._randomness.uniform(rows.numbers, sample.draw + 1) * len(sample.values)
                chosen = sample.values.take(pa.array(drawn.astype(np.int64)))
                rows = rows.with_column(name, pc.if_else(pc.is_valid(cells), cells, chosen))
            return rows

        return transform


def _can_be_filled(kind: pa.DataType) -> bool:
    return any(takes(kind) for takes in _DECIMAL_TYPES)


def _cell(value: str, kind: pa.DataType) -> pa.Scalar | None:
    """The value as a cell of this type; None if it cannot be one."""
    if is_text(kind):
        return pa.scalar(value, kind)
    if is_date(kind):
        dates, wrong = parse_dates(pa.array([value]), "%Y-%m-%d")
        return None if wrong[0] else dates[0]
    try:
        return pa.scalar(value).cast(kind)
    except pa.ArrowInvalid:
        return None
