"""Reads the file of a data owner into columns, and drops at once every column that the contract does not share.

CSV (comma, point, UTF-8) and Parquet. Sizes are bounded before anything is parsed. Whatever is wrong with the file as a whole
is reported at once; single cells are checked later, by `privacy.preparation.contract`. No message repeats a cell.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, NoReturn, SupportsIndex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from privacy.preparation.parquet_claims import are_consistent
from privacy.preparation.schema import MAX_COLUMNS, Role, TableSchema
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import MAX_ROWS

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_REPORTED = 20
_CHUNK_ROWS = 8_192
_NO_PARQUET = Problem("", "is not a Parquet file that can be read", "export it again")
_MAX_PARQUET_BYTES = 4 * MAX_FILE_BYTES


class FileFormat(Enum):
    """How a file is written."""

    CSV = "csv"
    PARQUET = "parquet"


class Content(Enum):
    """What a file holds."""

    LABELLED_ROWS = "labelled rows"  # every feature, and the label if the schema has one
    COUNTED_ROWS = "counted rows"  # likewise, and the identifiers that are there, by which a person's rows are counted
    ALIGNED_ROWS = "aligned rows"  # likewise, and the identifiers, of which an alignment is made before they are dropped
    SAMPLES = "samples"  # every feature; a label is dropped if there is one


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """The shared columns of a file, as read; secret: no repr, no equality, no pickling.

    Attributes:
        columns: Arrow arrays by column name, features in the schema's order, then the label unless the rows are samples, then
            the identifiers of aligned or counted rows.
        num_rows: their length.
        lines: (rows,) int64, the line of the file on which each row begins, from 1; None where rows have no line.
    """

    columns: Mapping[str, pa.ChunkedArray]
    num_rows: int
    lines: NDArray[np.int64] | None

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: rows do not travel by pickle."""
        raise TypeError("a table of rows is not pickled")


def read_table(source: bytes | BinaryIO, schema: TableSchema, *, content: Content, file_format: FileFormat) -> Table:
    """Reads the columns that the schema shares.

    Args:
        source: the file, secret; at most `MAX_FILE_BYTES`.
        schema: the contract. Columns that are ignored may be there or not, and so may identifiers unless rows are to be
            aligned; they are not kept.
        content: whether the label is needed, and whether identifiers are.
        file_format: how the file is written.

    Returns:
        The rows as written, secret, unchecked.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): too large, not of the format, not UTF-8, or every missing, doubled and
            unexpected column and up to `MAX_REPORTED` ragged rows at once. Learns: nobody but the owner, and no cell.
    """
    data = source if isinstance(source, bytes) else source.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise _refused(Problem("", f"the file is larger than {MAX_FILE_BYTES} bytes", "split it into several data sets"))
    match file_format:
        case FileFormat.CSV:
            return _read_csv(data, schema, content)
        case FileFormat.PARQUET:
            return _read_parquet(data, schema, content)


def kept_columns(schema: TableSchema, content: Content) -> tuple[str, ...]:
    """Returns the names of the columns that must be there and are kept, in the order of `Table.columns`."""
    label = (schema.label.name,) if schema.has_label and content is not Content.SAMPLES else ()
    identifiers = tuple(column.name for column in schema.identifiers) if content is Content.ALIGNED_ROWS else ()
    return schema.feature_names + label + identifiers


def _counted(schema: TableSchema, content: Content, names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of identifiers that are kept besides because they are there, once each."""
    if content is not Content.COUNTED_ROWS:
        return ()
    return tuple(column.name for column in schema.identifiers if names.count(column.name) == 1)


def _read_csv(data: bytes, schema: TableSchema, content: Content) -> Table:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refused(Problem(f"line {line}", "is not UTF-8 text", "save the file as CSV in UTF-8")) from None
    # Field size, quoting and separator are fixed here; nothing is guessed from the rows.
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, [])
        _check_header(header, schema, content)
        return _read_rows(reader, header, kept_columns(schema, content) + _counted(schema, content, header))
    except csv.Error:
        raise _refused(
            Problem(f"line {reader.line_num}", "is not CSV: a quote is left open, or a field is too long", "export it again")
        ) from None


def _read_rows(reader: Iterator[list[str]], header: Sequence[str], kept: Sequence[str]) -> Table:
    positions = {name: header.index(name) for name in kept}
    chunks: dict[str, list[pa.Array]] = {name: [] for name in kept}
    lines: list[NDArray[np.int64]] = []
    problems: list[Problem] = []
    numbered = _numbered(reader, len(header), problems)
    while batch := list(itertools.islice(numbered, _CHUNK_ROWS)):
        lines.append(np.array([line for line, _ in batch], np.int64))
        if sum(map(len, lines)) > MAX_ROWS:
            raise _refused(Problem("", f"more than {MAX_ROWS} rows", "split the file into several data sets"))
        for name, position in positions.items():
            chunks[name].append(pa.array([row[position] for _, row in batch], pa.string()))
    if problems:
        raise _refused(*problems)
    return _table({name: pa.chunked_array(parts, pa.string()) for name, parts in chunks.items()}, lines)


def _numbered(reader: Iterator[list[str]], width: int, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """The rows with the line each begins on; rows of another width become problems, empty lines at the end are skipped."""
    line, row_number = reader.line_num + 1, 0  # type: ignore[attr-defined]  # typed as Iterator: the csv type is private
    blank: Problem | None = None
    for row in reader:
        begins, line = line, reader.line_num + 1  # type: ignore[attr-defined]
        row_number += 1
        if not row:
            blank = blank or Problem(f"row {row_number} (line {begins})", "is empty", "remove the line")
            continue
        if blank is not None:
            problems.append(blank)
            blank = None
        if len(row) != width:
            remedy = "quote fields that hold commas; write decimals with a point" if len(row) > width else "complete the row"
            problems.append(Problem(f"row {row_number} (line {begins})", f"has {len(row)} fields instead of {width}", remedy))
        elif not problems:
            yield begins, row
        if len(problems) >= MAX_REPORTED:
            return


def _read_parquet(data: bytes, schema: TableSchema, content: Content) -> Table:
    kept = kept_columns(schema, content)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        metadata = file.metadata
        if metadata.num_rows > MAX_ROWS:
            raise _refused(Problem("", f"more than {MAX_ROWS} rows", "split the file into several data sets"))
        if not are_consistent(metadata):
            raise _refused(_NO_PARQUET)
        # A small file may claim to unpack into any size; Arrow allocates what the file claims.
        unpacked = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        if unpacked > _MAX_PARQUET_BYTES:
            raise _refused(Problem("", f"unpacks to more than {_MAX_PARQUET_BYTES} bytes", "split the file"))
        _check_header(file.schema_arrow.names, schema, content)
        kept += _counted(schema, content, file.schema_arrow.names)
        table = file.read(columns=list(kept), use_threads=False)
    except (pa.ArrowException, OSError, ValueError):  # ValueError: names that are not UTF-8
        # Arrow's own messages may quote the file.
        raise _refused(_NO_PARQUET) from None
    return _table({name: table.column(name) for name in kept}, None)


def _table(columns: dict[str, pa.ChunkedArray], lines: list[NDArray[np.int64]] | None) -> Table:
    num_rows = len(next(iter(columns.values())))
    if num_rows == 0:
        raise _refused(Problem("", "the file holds no rows", "check that the right file was named"))
    return Table(columns, num_rows, None if lines is None else np.concatenate(lines))


def _check_header(names: Sequence[str], schema: TableSchema, content: Content) -> None:
    described = {column.name: column.role for column in schema.columns}
    kept = set(kept_columns(schema, content))
    if len(names) > MAX_COLUMNS:
        raise _refused(Problem("header", f"more than {MAX_COLUMNS} columns", "export fewer"))
    if not kept & set(names):
        # Without a header the first line is a row: its cells must not be repeated as "unexpected columns".
        hint = "separate fields with commas, not semicolons" if any(";" in name for name in names) else "add the header line"
        raise _refused(Problem("header", "the first line names none of the schema's features", hint))
    problems = [
        Problem(f"column {name}", "missing", _missing_remedy(name, names))
        for name in kept_columns(schema, content)
        if name not in names
    ]
    for name, count in Counter(names).items():
        if name not in described:
            remedy = "remove it, or give it the role ignored or identifier in the schema"
            problems.append(Problem(f"column {name[:128]!r}", "is not in the schema", remedy))
        elif count > 1 and (described[name] in (Role.FEATURE, Role.LABEL) or name in kept):
            problems.append(Problem(f"column {name}", f"stands {count} times in the header", "keep one"))
    if problems:
        raise _refused(*problems)


def _missing_remedy(name: str, names: Sequence[str]) -> str:
    folded = name.casefold().replace(" ", "_")
    similar = [other for other in names if other.strip().casefold().replace(" ", "_") == folded]
    return f"rename {similar[0]!r}" if similar else "add it"


def _refused(*problems: Problem) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_DATA, f"{len(problems)} problem(s) in the file", problems=problems)
