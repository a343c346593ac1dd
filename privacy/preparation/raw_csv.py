"""Reads CSV strictly: in whole blocks where two parsers must agree, row by row elsewhere and wherever something is wrong."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from privacy.preparation.raw_bytes import Layout, SameBytes, inspect, plain_blocks
from privacy.preparation.raw_table import BATCH_BYTES, MAX_REPORTED, RawTable, changed, refused
from privacy.preparation.recipes.step import Columns, Rows
from protocols.errors import Problem
from protocols.job import MAX_ROWS

_SLOW_ROWS = 8_192
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_NO_CSV = "is not CSV: a quote is left open or followed by text, or a field is too long"


def open_csv(source: BinaryIO, file: str) -> CsvTable:
    """Inspects a CSV file; as `privacy.preparation.raw.open_raw`."""
    layout = inspect(source, file)
    try:
        rows = list(csv.reader(io.StringIO(layout.head.decode("utf-8"), newline=""), strict=True))
    except csv.Error:
        raise refused(file, [Problem("line 1", _NO_CSV, "export it again")]) from None
    header = rows[0] if rows else []
    if not header:
        raise refused(file, [Problem("line 1", "is empty instead of naming the columns", "add the header line")])
    if len(rows) > 1:
        raise refused(file, [Problem("line 1", "ends with a single carriage return", "end lines with a line feed")])
    found = [words for separator, words in _SEPARATORS.items() if len(header) == 1 and separator in header[0]]
    if found:
        raise refused(file, [Problem("header", f"fields seem to be separated by {found[0]}", "separate them with commas")])
    if layout.end <= layout.header_end:
        raise refused(file, [Problem("", "the file holds no rows", "check that the right file was named")])
    return CsvTable(source, layout, file, header)


class CsvTable(RawTable):
    """The table in a CSV file; use `open_csv`."""

    def __init__(self, source: BinaryIO, layout: Layout, file: str, header: Sequence[str]) -> None:
        super().__init__(file, header, layout.identity)
        self._source, self._layout = source, layout
        self._head_lines = 1 + sum(name.count("\n") for name in header)

    def columns(self, wanted: Iterable[str]) -> Columns:
        """All of them are texts; as `RawTable.columns`."""
        names = list(wanted)
        self.require(names)
        return {name: pa.string() for name in names}

    def batches(self, wanted: Iterable[str], *, batch_bytes: int = BATCH_BYTES) -> Iterator[Rows]:
        """As `RawTable.batches`."""
        names = list(self.columns(wanted))
        source = SameBytes(self._source, self._layout, self.file)
        # A row of one empty field and an empty line are the same line; only the slow reader is asked about that.
        is_fast = self._layout.is_plain and len(self.names) > 1
        problems: list[Problem] = []
        found = self._fast(source, names, batch_bytes, problems) if is_fast else self._slow(source, names, problems)
        num_rows = 0
        for cells in found:
            numbers = np.arange(num_rows + 1, num_rows + 1 + cells.num_rows)
            num_rows += cells.num_rows
            if num_rows > MAX_ROWS:
                raise self.refused([Problem("", f"more than {MAX_ROWS} rows", "split the file into several data sets")])
            if not problems:
                yield Rows(numbers, cells)
        source.check()
        if problems:
            raise self.refused(self.with_lines(problems[:MAX_REPORTED]))

    def lines_of(self, rows: Sequence[int]) -> Mapping[int, int]:
        """As `RawTable.lines_of`; counts through the file if fields hold line breaks."""
        if not self._layout.has_broken_lines:
            return {row: row + self._head_lines for row in rows}
        wanted, lines = set(rows), {}
        source = SameBytes(self._source, self._layout, self.file)
        for row, line, _ in self._rows(self._reader(source)):
            if row in wanted:
                lines[row] = line
            if len(lines) == len(wanted):
                break
        return lines

    def _fast(
        self, source: SameBytes, names: Sequence[str], batch_bytes: int, problems: list[Problem]
    ) -> Iterator[pa.RecordBatch]:
        # Columns are named by their place: names that are not asked for may stand twice.
        places = [str(place) for place in range(len(self.names))]
        kept = [places[self.names.index(name)] for name in names]
        read = arrow_csv.ReadOptions(use_threads=False, block_size=1 << 30, column_names=places)
        parse = arrow_csv.ParseOptions(newlines_in_values=self._layout.has_broken_lines, ignore_empty_lines=False)
        convert = arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()),
            include_columns=kept,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        row, line = 0, self._head_lines
        for block in plain_blocks(source, batch_bytes):
            try:
                table = arrow_csv.read_csv(
                    pa.BufferReader(block), read_options=read, parse_options=parse, convert_options=convert
                )
            except pa.ArrowInvalid:  # its message quotes the row; the slow reader says which and what
                table = None
            if table is not None:
                row += table.num_rows
                for batch in table.combine_chunks().to_batches():
                    yield pa.RecordBatch.from_arrays(batch.columns, names=list(names))
            else:
                row = self._ragged(block, row, line, problems)
                if len(problems) >= MAX_REPORTED:
                    return
            line += block.count(b"\n")

    def _ragged(self, block: bytes, row: int, line: int, problems: list[Problem]) -> int:
        """Finds what is wrong with rows of a block that begins after `row` rows and `line` lines; returns the rows so far."""
        before = len(problems)
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(block), encoding="utf-8", newline=""), strict=True)
        last = row
        for last, _, fields in self._rows(reader, row=row, line=line, problems=problems):
            self._check_width(fields, last, problems)
        if len(problems) == before:
            problems.append(Problem(f"line {line + 1}", "or one of the lines after it is not CSV", "export the file again"))
        return last

    def _slow(self, source: SameBytes, names: Sequence[str], problems: list[Problem]) -> Iterator[pa.RecordBatch]:
        places = [self.names.index(name) for name in names]
        rows = self._rows(self._reader(source), problems=problems)
        while batch := list(itertools.islice(rows, _SLOW_ROWS)):
            for row, _, fields in batch:
                self._check_width(fields, row, problems)
            if len(problems) >= MAX_REPORTED:
                return
            if not problems:
                arrays = [pa.array([fields[place] or None for _, _, fields in batch], pa.string()) for place in places]
                yield pa.RecordBatch.from_arrays(arrays, names=list(names))

    def _reader(self, source: SameBytes) -> Iterator[list[str]]:
        text = io.TextIOWrapper(io.BufferedReader(source), encoding="utf-8", newline="")
        return csv.reader(text, strict=True)

    def _rows(
        self, reader: Iterator[list[str]], *, row: int = 0, line: int | None = None, problems: list[Problem] | None = None
    ) -> Iterator[tuple[int, int, list[str]]]:
        """Yields number, first line and fields of every row; says where the text is no CSV."""
        before = self._head_lines if line is None else line
        begins = before + 1
        try:
            for fields in reader:
                row += 1
                yield row, begins, fields
                begins = before + reader.line_num + 1  # type: ignore[attr-defined]  # typed as Iterator: its type is private
        except UnicodeDecodeError:  # it was UTF-8 when it was inspected
            raise changed(self.file) from None
        except csv.Error:
            if problems is not None:
                problems.append(Problem(f"row {row + 1} (line {begins})", _NO_CSV, "double quotes within a field, and close it"))

    def _check_width(self, fields: Sequence[str], row: int, problems: list[Problem]) -> None:
        width = len(self.names)
        if len(fields) == width or len(problems) >= MAX_REPORTED:
            return
        if not fields:
            problems.append(Problem(f"row {row}", "is empty", "remove the line"))
            return
        remedy = "quote fields that hold commas; write decimals with a point" if len(fields) > width else "complete the row"
        problems.append(Problem(f"row {row}", f"has {len(fields)} fields instead of {width}", remedy))
