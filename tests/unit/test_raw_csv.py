"""Raw CSV: read strictly in blocks, and every fault named by row, line, column and remedy, never by a cell."""

from __future__ import annotations

import io

import pytest

from privacy.preparation.raw import open_raw
from privacy.preparation.raw_table import MAX_REPORTED
from privacy.preparation.table import FileFormat
from protocols.errors import ConfideError, ErrorCode, Problem
from tests.support.preparing import CANARY, cells_of, raw


def refused(data: str | bytes, names: tuple[str, ...] = ("a", "b")) -> tuple[Problem, ...]:
    with pytest.raises(ConfideError) as caught:
        cells_of(raw(data), names)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert "ward.csv" in caught.value.what
    assert CANARY not in str(caught.value)
    return caught.value.problems


def test_rows_are_read_as_they_stand_and_empty_cells_are_missing() -> None:
    assert cells_of(raw('a,b,c\n1, x ,z\n,"",z\n"q""q",NA,z\n'), ("b", "a")) == [
        (1, " x ", "1"),
        (2, None, None),
        (3, "NA", 'q"q'),
    ]


def test_line_breaks_within_fields_byte_order_mark_and_windows_line_ends_are_read() -> None:
    assert cells_of(raw('\ufeffa,b\r\n"1\r\n2",é\r\n3,4\r\n\r\n'), ("a", "b")) == [(1, "1\r\n2", "é"), (2, "3", "4")]


def test_quotes_within_unquoted_fields_are_read_row_by_row() -> None:
    assert cells_of(raw('a,b\n5" pipe,x\n2,y\n'), ("a", "b")) == [(1, '5" pipe', "x"), (2, "2", "y")]


def test_columns_that_are_not_asked_for_may_stand_twice() -> None:
    assert cells_of(raw("a,x,x,b\n1,2,3,4\n"), ("a", "b")) == [(1, "1", "4")]


def test_ragged_rows_are_all_named_with_their_lines() -> None:
    problems = refused(f'a,b\n"x\ny",2\n{CANARY}\n1,2\n1,2,{CANARY}\n')
    assert [problem.where for problem in problems] == ["row 2 (line 4)", "row 4 (line 6)"]
    assert [problem.what for problem in problems] == ["has 1 fields instead of 2", "has 3 fields instead of 2"]


def test_ragged_rows_are_reported_up_to_a_bound() -> None:
    assert len(refused("a,b\n" + f"{CANARY}\n" * 1000)) == MAX_REPORTED


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        (b"", "", "empty"),
        (b"a,b\n", "", "no rows"),
        (b"\n1,2\n", "line 1", "naming the columns"),
        (f"a;b\n{CANARY};2\n".encode(), "header", "semicolons"),
        (f"a\tb\n{CANARY}\t2\n".encode(), "header", "tabs"),
        (f"a,b\n{CANARY},ü\n".encode("latin-1"), "line 2", "Latin-1"),
        (f"a,b\n{CANARY},“x”\n".encode("cp1252"), "line 2", "Windows-1252"),
        (f"a,b\n{CANARY},2\n".encode("utf-16"), "line 1", "UTF-16"),
        (f"a,b\n{CANARY},2\n".encode("utf-16-le"), "line 1", "UTF-16"),
        (f"a,b\n1,2\n{CANARY},2\0\n".encode(), "line 3", "NUL"),
        (f"a,b\n1,{CANARY}é".encode()[:-1], "line 2", "cut off"),
        (f'a,b\n1,2\n"{CANARY},2\n'.encode(), "row 2 (line 3)", "quote"),
        (f'a,b\n1,2\n"{CANARY}"x,2\n'.encode(), "row 2 (line 3)", "quote"),
        (f"a,b\n1,2\n\n{CANARY},2\n".encode(), "row 2 (line 3)", "empty"),
        (b"a,b\r1,2\r", "line 1", "carriage return"),
        (f"a,a,b\n{CANARY},2,3\n".encode(), "column a", "2 times"),
        (f"A ,b\n{CANARY},2\n".encode(), "column a", "missing"),
        (f"{CANARY},3\n1,2\n".encode(), "header", "names none"),
    ],
)
def test_file_with_one_fault_is_refused_with_its_place(data: bytes, where: str, what: str) -> None:
    (problem,) = refused(data)
    assert problem.where == where
    assert what in problem.what
    assert problem.remedy


def test_missing_column_of_a_similar_name_is_offered() -> None:
    (problem,) = refused("A ,b\n1,2\n")
    assert "'A '" in problem.remedy


class _Changing(io.BytesIO):
    """A file that is another one from the second time on that it is read from the beginning."""

    def __init__(self, first: bytes, then: bytes) -> None:
        super().__init__(first)
        self.then, self.times = then, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset == 0:
            self.times += 1
            if self.times == 2:
                super().seek(0)
                self.truncate()
                self.write(self.then)
        return super().seek(offset, whence)


@pytest.mark.parametrize(
    "then", [b"a,b\n1,2\n3,9\n", b"a,b\n1,2\n3,4\n5,6\n", b"a,b\n1,2\n", b"a,b\n1\n3,4\n", b"", b"a,b\n1,\xff\n3,4\n"]
)
@pytest.mark.parametrize("first", [b"a,b\n1,2\n3,4\n", b'a,b\n1,2"\n3,4\n'])
def test_file_that_changes_between_two_readings_is_refused(first: bytes, then: bytes) -> None:
    table = open_raw(_Changing(first, then), file_format=FileFormat.CSV, name="ward.csv")
    with pytest.raises(ConfideError) as caught:
        cells_of(table, ("a", "b"))
    assert caught.value.code is ErrorCode.FILE_CHANGED


def test_table_can_be_read_again_and_again() -> None:
    table = raw("a,b\n1,2\n3,4\n")
    assert cells_of(table, ("a",)) == cells_of(table, ("a",)) == [(1, "1"), (2, "3")]
