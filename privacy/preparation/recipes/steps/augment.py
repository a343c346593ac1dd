"""A step that makes further rows of the rows, or replaces them, by a technique of the catalogue of augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.augmentation.table_rows import Made, Maker, Start, TableRows, TableSurvey, TableTechnique
from privacy.augmentation.table_techniques import TABLES
from privacy.augmentation.technique import MAX_COPIES, Reads, Use, as_numbers
from privacy.preparation.recipes.cells import document_of, from_numbers, is_any, is_number, mask, needed, numbers_of, refuse_cells
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.recipes.step import Columns, Context, Rows, Step, Survey, SurveyingStep, Transform
from protocols.errors import ConfideError, ErrorCode, Problem

MAX_CLASSES = 1_000
_TECHNIQUES: Mapping[str, TableTechnique] = {technique.name: technique for technique in TABLES}


@dataclass(frozen=True)
class Augment(Step):
    """Adds copies after each row, or replaces the rows; a copy keeps the number of its row.

    Attributes:
        technique: its name in the catalogue.
        settings: pairs of a parameter and its decimal, in their order.
        columns: of numbers and booleans, which it works on; other cells are copied.
        ranges: of each column, least and greatest value, decimals; public. Those of a boolean are 0 and 1.
        whole: which columns hold whole numbers.
        label: the column of the classes; None for a technique that does not ask for them.
        copies: how many of each row at most; 1 if the rows are replaced.
    """

    KIND: ClassVar[str] = "augment"
    technique: str
    settings: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    ranges: tuple[tuple[str, str], ...]
    whole: tuple[str, ...]
    label: str | None
    copies: int

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """As `Step.read`."""
        given, fields = entry.get("ranges", {}), {key: value for key, value in entry.items() if key != "ranges"}
        reader = EntryReader(where, fields)
        technique = _TECHNIQUES[reader.choice("technique", tuple(_TECHNIQUES))]
        settings, problems = technique.read_settings(
            f"{where}.settings", reader.mapping("settings") if technique.parameters or reader.has("settings") else {}
        )
        ranges: dict[str, tuple[str, str]] = {}
        if not isinstance(given, dict) or (technique.changes_cells and not given):
            reader.wrong("ranges", "must name at least one column with its range", "for example {age: [0, 120]}")
        else:
            ranges, found = _read_ranges(where, given)
            problems += found
        whole = reader.columns("whole") if reader.has("whole") else ()
        if not set(whole) <= set(ranges):
            reader.wrong("whole", "names a column that has no range", "give it one under ranges")
        label = reader.column("label") if technique.by_class else None
        if label in ranges:
            reader.wrong("label", "is among the columns that are changed", "leave it out of ranges")
        copies = 1 if technique.use is Use.REPLACES else reader.whole("copies", least=1, most=MAX_COPIES)
        if not reader.done() or problems:
            return None, [*reader.problems, *problems]
        kind = SurveyingAugment if technique.statement.reads is Reads.WHOLE_TABLE else cls
        step = kind(technique.name, tuple(settings.items()), tuple(ranges), tuple(ranges.values()), whole, label, copies)
        return step, []  # type: ignore[return-value]  # both kinds are this class

    def to_document(self) -> dict[str, Any]:
        """As `Step.to_document`."""
        ranges = {name: list(ends) for name, ends in zip(self.columns, self.ranges, strict=True)}
        return document_of(
            self.KIND,
            technique=self.technique,
            settings=dict(self.settings) or None,
            ranges=ranges or None,
            whole=self.whole or None,
            label=self.label,
            copies=None if self._replaces else str(self.copies),
        )

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """As `Step.problems`."""
        yield from needed(columns, self.columns, _can_be_changed, "numbers or booleans")
        yield from needed(columns, [self.label] if self.label is not None else [], is_any, "anything")
        for name, ends in zip(self.columns, self.ranges, strict=True):
            if name in columns and pa.types.is_boolean(columns[name]) and ends != ("0", "1"):
                yield Problem(f"column {name}", "holds booleans, whose range is another", f"write {name}: [0, 1]")

    def columns_after(self, columns: Columns) -> Columns:
        """As `Step.columns_after`."""
        return columns

    def start(self, context: Context) -> Transform:
        """As `Step.start`."""
        return self._transform(context, None, _Classes(self.label))

    @property
    def _replaces(self) -> bool:
        return _TECHNIQUES[self.technique].use is Use.REPLACES

    def _transform(self, context: Context, survey: TableSurvey | None, classes: _Classes) -> Transform:
        technique = _TECHNIQUES[self.technique]
        low, high = self._ends()
        whole = [name in self.whole or not pa.types.is_floating(context.columns[name]) for name in self.columns]
        grid = np.where(whole, 2 / (high - low), 0.0)
        settings = as_numbers(dict(self.settings))
        make = technique.begin(Start(settings, self.copies, context.randomness, grid, survey))

        def transform(rows: Rows) -> Rows:
            return self._made(rows, self.scaled(rows, classes), make, np.array(whole, bool))

        return transform

    def scaled(self, rows: Rows, classes: _Classes) -> TableRows:
        """Returns the rows as techniques take them; secret.

        Raises:
            ConfideError: INVALID_DATA (the owner's fault): cells outside their range, unless that is what the technique is for.
        """
        low, high = self._ends()
        cells = np.empty((len(rows), len(self.columns)))
        for position, name in enumerate(self.columns):
            cells[:, position] = numbers_of(rows.column(name))
            if not self._replaces:
                outside = (cells[:, position] < low[position]) | (cells[:, position] > high[position])
                refuse_cells(rows, name, outside, "is outside its range", "correct it, or clip the column before")
        return TableRows(rows.numbers, (cells - low) / (high - low) * 2 - 1, classes.numbers_of(rows))

    def _ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ends = np.array(self.ranges, float).reshape(-1, 2)
        return ends[:, 0], ends[:, 1]

    def _made(self, rows: Rows, scaled: TableRows, make: Maker, whole: NDArray[np.bool_]) -> Rows:
        copies = list(make(scaled))
        places = [np.flatnonzero(copy.kept) for copy in copies]
        sources = np.concatenate(places if self._replaces else [np.arange(len(rows)), *places])
        # Copies follow their row, so that the order of the result does not depend on the size of the batches.
        order = np.argsort(sources, kind="stable")
        made = Rows(rows.numbers[sources[order]], rows.cells.take(pa.array(sources[order])))
        for position, name in enumerate(self.columns):
            originals = [] if self._replaces else [rows.column(name)]
            cells = [*originals, *(self._unscaled(copy, position, whole[position]) for copy in copies)]
            kind = rows.column(name).type
            made = made.with_column(name, pa.concat_arrays([_as(cell, kind) for cell in cells]).take(pa.array(order)))
        return made

    def _unscaled(self, copy: Made, position: int, whole: bool) -> pa.Array:
        low, high = (float(end) for end in self.ranges[position])
        values = np.clip(low + (copy.features[copy.kept, position] + 1) / 2 * (high - low), low, high)
        return from_numbers(np.rint(values) if whole else values)


class SurveyingAugment(SurveyingStep, Augment):
    """The same, of a technique that reads the whole table first."""

    def survey(self, context: Context) -> Survey:
        """As `SurveyingStep.survey`."""
        return _Statistics(self, context)


class _Statistics(Survey):
    def __init__(self, step: Augment, context: Context) -> None:
        self._step, self._context = step, context
        self._found, self._classes = TableSurvey(len(step.columns)), _Classes(step.label)

    def see(self, rows: Rows) -> None:
        self._found.see(self._step.scaled(rows, self._classes))

    def transform(self) -> Transform:
        return self._step._transform(self._context, self._found, self._classes)


class _Classes:
    """Numbers the values of the label column in the order in which they come; without such a column all rows are of one class."""

    def __init__(self, label: str | None) -> None:
        self._label = label
        self._seen: dict[str, int] = {}

    def numbers_of(self, rows: Rows) -> NDArray[np.int64]:
        if self._label is None:
            return np.zeros(len(rows), np.int64)
        cells = rows.column(self._label)
        missing = mask(pc.is_null(cells))
        refuse_cells(rows, self._label, missing, "has no class", "complete it, or leave the row out before")
        texts: Sequence[str] = [str(cell) for cell in cells.to_pylist()]
        for text in texts:
            self._seen.setdefault(text, len(self._seen))
        if len(self._seen) > MAX_CLASSES:
            what = f"column {self._label} has more than {MAX_CLASSES} classes"
            raise ConfideError(ErrorCode.INVALID_DATA, what, remedy="Name the column of the label, or bin it before.")
        return np.array([self._seen[text] for text in texts], np.int64)


def _read_ranges(where: str, given: Mapping[object, object]) -> tuple[dict[str, tuple[str, str]], list[Problem]]:
    ranges: dict[str, tuple[str, str]] = {}
    problems: list[Problem] = []
    for name, ends in given.items():
        reader = EntryReader(f"{where}.ranges", {str(name): ends})
        ranges[str(name)] = reader.range(str(name))
        problems += reader.problems
    return ranges, problems


def _can_be_changed(kind: pa.DataType) -> bool:
    return is_number(kind) or bool(pa.types.is_boolean(kind))


def _as(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    # Numbers become booleans by way of whole ones: Arrow has no direct way from fractions.
    return cells.cast(pa.int64()).cast(kind) if pa.types.is_boolean(kind) and not cells.type.equals(kind) else cells.cast(kind)
