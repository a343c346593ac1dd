"""Reads the raw file of a data owner, strictly and in batches, so that a file of any length needs the memory of a batch.

CSV (UTF-8, commas, one header line) and Parquet. A table is inspected once as a whole when it is opened and can then be read as
often as a recipe needs; every reading is compared with the inspection, so that a file that changes meanwhile is found. Messages
name file, row, line, column and remedy, and never repeat a cell.

Cells of a CSV file are texts as they stand there, an empty cell is null; a Parquet file keeps its types, in their common forms.
"""

from __future__ import annotations

from typing import BinaryIO

from privacy.preparation.raw_csv import open_csv
from privacy.preparation.raw_parquet import open_parquet
from privacy.preparation.raw_table import RawIdentity as RawIdentity
from privacy.preparation.raw_table import RawTable as RawTable
from privacy.preparation.schema import MAX_COLUMNS
from privacy.preparation.table import FileFormat
from protocols.errors import Problem


def open_raw(source: BinaryIO, *, file_format: FileFormat, name: str) -> RawTable:
    """Inspects a file as a whole and returns the table in it.

    Args:
        source: the open file, secret; it must be possible to seek in it, and it stays open and unshared while the table is used.
        file_format: how it is written.
        name: what messages call it.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): empty, not of the format, not UTF-8 (with the line and what it seems to
            be), NUL bytes, another separator, too many columns.
    """
    table = open_csv(source, name) if file_format is FileFormat.CSV else open_parquet(source, name)
    if len(table.names) > MAX_COLUMNS:
        raise table.refused([Problem("header", f"more than {MAX_COLUMNS} columns", "export fewer")])
    return table
