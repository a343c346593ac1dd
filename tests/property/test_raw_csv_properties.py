"""Whatever a CSV writer writes is read as Python's own reader reads it, in blocks of any size."""

from __future__ import annotations

import csv
import io

from hypothesis import assume, example, given
from hypothesis import strategies as st

from privacy.preparation.raw_bytes import inspect
from protocols.errors import ConfideError
from tests.support.preparing import cells_of, raw

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff", exclude_categories=["Cs"]), max_size=6)
ROWS = st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=12)


@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.integers(1, 64))
@example([['"', ",", "\n"], ["", '""', "\r"]], "\n", csv.QUOTE_ALL, 1)
def test_written_rows_are_read_back_whatever_the_blocks(rows: list[list[str]], end: str, quoting: int, batch_bytes: int) -> None:
    # Unless everything is quoted, the writer leaves a carriage return bare, which ends a line.
    assume(quoting == csv.QUOTE_ALL or not any("\r" in cell for row in rows for cell in row))
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]  # a literal of typeshed's
    writer.writerows([["a", "b", "c"], *rows])
    text = sink.getvalue()
    expected = [tuple(cell or None for cell in row) for row in list(csv.reader(io.StringIO(text, newline=""), strict=True))[1:]]
    found = cells_of(raw(text), ("a", "b", "c"), batch_bytes)
    assert [row[1:] for row in found] == expected == [tuple(cell or None for cell in row) for row in rows]
    assert [row[0] for row in found] == list(range(1, len(rows) + 1))


@given(
    st.lists(
        st.sampled_from(["1,2", "x", '"a""b",c', '"a,b', 'p"q,r', '"a"b,c', "", "a,b,c", '"1\n2",3']), min_size=1, max_size=8
    )
)
def test_lines_at_random_are_read_as_the_strict_reader_reads_them_or_refused(lines: list[str]) -> None:
    text = "a,b\n" + "\n".join(lines) + "\n"
    try:
        rows = list(csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""), strict=True))[1:]
        expected = rows if rows and all(len(row) == 2 for row in rows) else None
    except csv.Error:
        expected = None
    try:
        found = [list(row[1:]) for row in cells_of(raw(text), ("a", "b"), 4)]
    except ConfideError:
        assert expected is None
    else:
        assert found == [[cell or None for cell in row] for row in expected or []]


@given(st.text(st.sampled_from('a,"\n\ré'), min_size=1, max_size=40), st.integers(1, 9))
@example('h,"x\n"\n\r\n', 2)
@example('é,"a"b\n', 1)
def test_layout_of_a_file_does_not_depend_on_the_blocks_it_is_looked_at_in(text: str, block_bytes: int) -> None:
    def found(**blocks: int) -> object:
        try:
            return inspect(io.BytesIO(text.encode()), "ward.csv", **blocks)
        except ConfideError as error:
            return str(error)

    assert found(block_bytes=block_bytes) == found()
