"""Raw Parquet: types in their common forms, and a file that cannot be read as one refused without a word of it."""

from __future__ import annotations

import datetime
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy.preparation.raw import open_raw
from privacy.preparation.table import FileFormat
from protocols.errors import ConfideError, ErrorCode
from tests.support.preparing import CANARY, cells_of, raw


def parquet(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_columns_keep_their_kinds_in_their_common_forms() -> None:
    day = datetime.date(2024, 2, 29)
    data = parquet(
        text=pa.array(["x", None]).dictionary_encode(),
        whole=pa.array([1, 2], pa.int8()),
        number=pa.array([0.5, None], pa.float32()),
        yes=pa.array([True, False]),
        day=pa.array([day, None], pa.date64()),
        nothing=pa.array([None, None], pa.null()),
    )
    names = ("text", "whole", "number", "yes", "day", "nothing")
    table = raw(data, FileFormat.PARQUET)
    kinds = [pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.date32(), pa.string()]
    assert list(table.columns(names).values()) == kinds
    assert cells_of(table, names) == [(1, "x", 1, 0.5, True, day, None), (2, None, 2, None, False, None, None)]


def test_columns_of_other_types_are_refused_by_name() -> None:
    table = raw(parquet(a=pa.array([[1]]), b=pa.array([b"x"])), FileFormat.PARQUET)
    with pytest.raises(ConfideError) as caught:
        cells_of(table, ("a", "b"))
    assert [problem.where for problem in caught.value.problems] == ["column a", "column b"]


def test_text_that_is_not_utf8_is_refused_by_column() -> None:
    array = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"], pa.binary()).buffers())
    with pytest.raises(ConfideError) as caught:
        cells_of(raw(parquet(a=array), FileFormat.PARQUET), ("a",))
    assert caught.value.problems[0].where == "column a"


@pytest.mark.parametrize("data", [b"", b"PAR1", CANARY.encode() * 100, parquet(a=pa.array(["x"]))[:-20]])
def test_what_is_no_parquet_is_refused_without_a_word_of_it(data: bytes) -> None:
    with pytest.raises(ConfideError) as caught:
        raw(data, FileFormat.PARQUET)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert CANARY not in str(caught.value)


def test_parquet_without_rows_is_refused() -> None:
    with pytest.raises(ConfideError, match="1 problem") as caught:
        raw(parquet(a=pa.array([], pa.string())), FileFormat.PARQUET)
    assert "no rows" in caught.value.problems[0].what


def test_parquet_that_changes_is_refused() -> None:
    source = io.BytesIO(parquet(a=pa.array(["x", "y"])))
    table = open_raw(source, file_format=FileFormat.PARQUET, name="ward.parquet")
    source.seek(0)
    source.write(parquet(a=pa.array(["x", "z"])))
    with pytest.raises(ConfideError) as caught:
        cells_of(table, ("a",))
    assert caught.value.code is ErrorCode.FILE_CHANGED
