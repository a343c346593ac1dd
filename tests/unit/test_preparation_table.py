"""Files are read strictly; what is wrong with them is said without repeating a cell."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy.preparation import table
from privacy.preparation.table import Content, FileFormat, Table, read_table
from protocols.errors import ConfideError, ErrorCode
from tests.support.tables import a_schema

HEADER = "patient,age,dose,smoker,outcome,remark\n"
ROWS = 'p1,40,0.5,true,ill,"two\nlines"\np2,41,1.5,false,well,\n'


def read(text: str | bytes, content: Content = Content.LABELLED_ROWS) -> Table:
    data = text.encode() if isinstance(text, str) else text
    return read_table(data, a_schema(), content=content, file_format=FileFormat.CSV)


def refusal(text: str | bytes, content: Content = Content.LABELLED_ROWS) -> list[str]:
    with pytest.raises(ConfideError) as caught:
        read(text, content)
    assert caught.value.code is ErrorCode.INVALID_DATA
    return [str(problem) for problem in caught.value.problems]


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def test_csv_keeps_shared_columns_only_and_knows_lines() -> None:
    found = read(HEADER + ROWS)
    assert list(found.columns) == ["age", "dose", "smoker", "outcome"]
    assert found.num_rows == 2
    assert found.lines is not None
    assert found.lines.tolist() == [2, 4]


def test_csv_columns_in_another_order_without_dropped_ones_and_with_a_mark_are_read() -> None:
    found = read(b"\xef\xbb\xbf" + b"outcome,smoker,dose,age\r\nill,1,0.5,40\r\n\r\n")
    assert found.columns["age"].to_pylist() == ["40"]


def test_csv_from_a_stream_is_read() -> None:
    source = io.BytesIO((HEADER + ROWS).encode())
    assert read_table(source, a_schema(), content=Content.LABELLED_ROWS, file_format=FileFormat.CSV).num_rows == 2


def test_samples_need_no_label_and_drop_one() -> None:
    assert list(read("age,dose,smoker\n1,1,1\n", Content.SAMPLES).columns) == ["age", "dose", "smoker"]
    assert list(read(HEADER + ROWS, Content.SAMPLES).columns) == ["age", "dose", "smoker"]


def test_csv_header_problems_are_all_reported() -> None:
    assert refusal("age,age,Smoker,extra,outcome\n1,1,1,1,ill\n") == [
        "column dose: missing (add it)",
        "column smoker: missing (rename 'Smoker')",
        "column age: stands 2 times in the header (keep one)",
        "column 'Smoker': is not in the schema (remove it, or give it the role ignored or identifier in the schema)",
        "column 'extra': is not in the schema (remove it, or give it the role ignored or identifier in the schema)",
    ]


def test_csv_without_header_does_not_repeat_its_first_row() -> None:
    assert refusal("p1,4711,0.5,true,ill,x\n") == [
        "header: the first line names none of the schema's features (add the header line)"
    ]


def test_csv_with_semicolons_gets_a_hint() -> None:
    assert "not semicolons" in refusal("age;dose;smoker;outcome\n1;0,5;1;ill\n")[0]


def test_csv_ragged_rows_are_named_by_row_and_line() -> None:
    text = "age,dose,smoker,outcome\n1,0,5,1,ill\n2,0.5,1,ill\n3,1\n\n4,0.5,1,ill\n"
    assert refusal(text) == [
        "row 1 (line 2): has 5 fields instead of 4 (quote fields that hold commas; write decimals with a point)",
        "row 3 (line 4): has 2 fields instead of 4 (complete the row)",
        "row 4 (line 5): is empty (remove the line)",
    ]


def test_csv_many_ragged_rows_are_cut_at_the_limit() -> None:
    assert len(refusal("age,dose,smoker,outcome\n" + "1\n" * 1000)) == table.MAX_REPORTED


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HEADER.encode() + b"p,1,1,1,ill,\xff\n", "line 2: is not UTF-8"),
        ((HEADER + ROWS).encode("utf-16"), "line 1: is not UTF-8"),
        (HEADER.encode() + b'p,1,1,1,ill,"open\n', "is not CSV"),
        (HEADER.encode() + b"p,1,1,1,ill," + b"x" * 200_000, "is not CSV"),
        (HEADER.encode(), "holds no rows"),
        (b"", "header"),
    ],
)
def test_csv_broken_files_are_refused(data: bytes, expected: str) -> None:
    assert expected in refusal(data)[0]


def test_csv_larger_than_the_limits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_ROWS", 1)
    assert "more than 1 rows" in refusal(HEADER + ROWS)[0]
    monkeypatch.setattr(table, "MAX_FILE_BYTES", 10)
    assert "larger than 10 bytes" in refusal(HEADER + ROWS)[0]


def test_parquet_gives_the_same_columns() -> None:
    frame = pd.DataFrame({"outcome": ["ill"], "age": [40], "patient": ["p1"], "smoker": [True], "dose": [0.5]})
    found = read_table(parquet(frame), a_schema(), content=Content.LABELLED_ROWS, file_format=FileFormat.PARQUET)
    assert {name: cells.to_pylist() for name, cells in found.columns.items()} == {
        "age": [40],
        "dose": [0.5],
        "smoker": [True],
        "outcome": ["ill"],
    }
    assert found.lines is None


@pytest.mark.parametrize("damage", [slice(0, -5), slice(-20, None), slice(0, 0)])
def test_parquet_damaged_is_refused_without_quoting_it(damage: slice) -> None:
    data = parquet(pd.DataFrame({"age": [4711]}))[damage]
    with pytest.raises(ConfideError, match="not a Parquet file"):
        read_table(data, a_schema(), content=Content.LABELLED_ROWS, file_format=FileFormat.PARQUET)


def test_parquet_whose_row_group_claims_other_rows_than_it_holds_is_refused() -> None:
    data = parquet(pd.DataFrame({"age": [1.0, 2.0, 3.0], "pain": ["a", "b", "c"]}))
    size = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).total_byte_size
    # Thrift: a field of 64 bits is 0x16 and the number, doubled, in groups of seven bits; the size, then the rows.
    field = b"\x16" + bytes([size * 2 & 0x7F | 0x80, size * 2 >> 7]) + b"\x16"
    assert data.count(field + b"\x06") == 1
    for rows in (b"\x04", b"\x08", b"\x05", b"\xfe\xff\xff\xff\x7f"):  # 2, 4, -3, 17 179 869 183
        longer = bytearray(data.replace(field + b"\x06", field + rows))
        longer[-8:-4] = (int.from_bytes(data[-8:-4], "little") + len(rows) - 1).to_bytes(4, "little")
        with pytest.raises(ConfideError, match="1 problem") as caught:
            read_table(bytes(longer), a_schema(), content=Content.SAMPLES, file_format=FileFormat.PARQUET)
        assert caught.value.problems[0].what == "is not a Parquet file that can be read"


def test_parquet_that_unpacks_too_far_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"age": [0] * 100_000}), buffer, use_dictionary=False)
    monkeypatch.setattr(table, "_MAX_PARQUET_BYTES", 100_000)
    with pytest.raises(ConfideError, match="unpacks to more"):
        read_table(buffer.getvalue(), a_schema(), content=Content.LABELLED_ROWS, file_format=FileFormat.PARQUET)
