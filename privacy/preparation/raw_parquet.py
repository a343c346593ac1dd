"""Reads Parquet in batches, with types in their common forms; sizes are bounded before anything is unpacked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from privacy.preparation.parquet_claims import are_consistent
from privacy.preparation.raw_table import BATCH_BYTES, BATCH_ROWS, RawIdentity, RawTable, changed, refused
from privacy.preparation.recipes.step import Columns, Rows
from protocols.errors import Problem
from protocols.job import MAX_ROWS

MAX_GROUP_BYTES = 1 << 30
_BLOCK_BYTES = 4 << 20
_NO_PARQUET = Problem("", "is not a Parquet file that can be read", "export it again")
_LEAST_ROWS = 16


def open_parquet(source: BinaryIO, file: str) -> ParquetTable:
    """Inspects a Parquet file; as `privacy.preparation.raw.open_raw`."""
    identity = _identity(source)
    try:
        opened = pq.ParquetFile(source)
        metadata = opened.metadata
        # A small file may claim to unpack into any size; Arrow allocates what the file claims.
        largest = max((metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)), default=0)
        schema = opened.schema_arrow
    except (pa.ArrowException, OSError, ValueError):  # Arrow's own messages may quote the file; ValueError: names not UTF-8
        raise refused(file, [_NO_PARQUET]) from None
    if not are_consistent(metadata):
        raise refused(file, [_NO_PARQUET])
    if metadata.num_rows > MAX_ROWS:
        raise refused(file, [Problem("", f"more than {MAX_ROWS} rows", "split the file into several data sets")])
    if largest > MAX_GROUP_BYTES:
        what = f"a row group unpacks to more than {MAX_GROUP_BYTES} bytes"
        raise refused(file, [Problem("", what, "write it with smaller row groups")])
    if metadata.num_rows == 0:
        raise refused(file, [Problem("", "the file holds no rows", "check that the right file was named")])
    return ParquetTable(source, file, schema, identity)


class ParquetTable(RawTable):
    """The table in a Parquet file; use `open_parquet`."""

    def __init__(self, source: BinaryIO, file: str, schema: pa.Schema, identity: RawIdentity) -> None:
        super().__init__(file, schema.names, identity)
        self._source, self._schema = source, schema

    def columns(self, wanted: Iterable[str]) -> Columns:
        """As `RawTable.columns`: texts, whole numbers (int64), numbers (float64), booleans, dates, and times as they are."""
        names = list(wanted)
        self.require(names)
        found = {name: _common(self._schema.field(name).type) for name in names}
        problems = [
            Problem(
                f"column {name}", f"has the type {self._schema.field(name).type}", "store it as text, number, boolean or date"
            )
            for name, kind in found.items()
            if kind is None
        ]
        if problems:
            raise self.refused(problems)
        return {name: kind for name, kind in found.items() if kind is not None}

    def batches(self, wanted: Iterable[str], *, batch_bytes: int = BATCH_BYTES) -> Iterator[Rows]:
        """As `RawTable.batches`."""
        columns = self.columns(wanted)
        if _identity(self._source) != self.identity:
            raise changed(self.file)
        batch_rows = max(_LEAST_ROWS, BATCH_ROWS * batch_bytes // BATCH_BYTES)
        row = 0
        try:
            opened = pq.ParquetFile(self._source)
            for batch in opened.iter_batches(batch_rows, columns=list(columns), use_threads=False):
                arrays = [batch.column(name).cast(kind) for name, kind in columns.items()]
                cells = pa.RecordBatch.from_arrays(arrays, names=list(columns))
                self._check_texts(cells)
                yield Rows(np.arange(row + 1, row + 1 + len(batch)), cells)
                row += len(batch)
        except (pa.ArrowException, OSError, ValueError):
            if _identity(self._source) != self.identity:
                raise changed(self.file) from None
            raise self.refused([_NO_PARQUET]) from None
        if _identity(self._source) != self.identity:
            raise changed(self.file)

    def lines_of(self, rows: Sequence[int]) -> Mapping[int, int]:
        """None: there are no lines."""
        return {}

    def _check_texts(self, cells: pa.RecordBatch) -> None:
        for name, values in zip(cells.schema.names, cells.columns, strict=True):
            if pa.types.is_string(values.type):
                try:
                    values.validate(full=True)
                except pa.ArrowInvalid:
                    raise self.refused([Problem(f"column {name}", "holds text that is not UTF-8", "export it again")]) from None


def _common(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_boolean(kind) or pa.types.is_timestamp(kind):
        return kind
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return pa.int64()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_integer(kind):
        return pa.float64()
    return pa.date32() if pa.types.is_date(kind) else None


def _identity(source: BinaryIO) -> RawIdentity:
    source.seek(0)
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    return RawIdentity(digest.hexdigest(), size)
