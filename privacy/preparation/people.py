"""How many rows of a data set one person has at most, and whether two data sets have the same rows.

Both are asked by the owner of its own rows while it registers them. A training with differential privacy promises something to a
person with at most so many rows: who counts them need not believe it. The same rows under another name would have a new budget.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.preparation.contract import PreparedRows
from privacy.preparation.schema import TableSchema
from privacy.preparation.table import Table
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.private_training import MAX_ROWS_PER_PERSON


def most_rows_of_one(table: Table, schema: TableSchema) -> int | None:
    """Returns how many rows the person with most of them has, to be kept at the owner; None if no column names people.

    Every identifier counts: of several columns the one with the most equal cells. Rows without an identifier may all be of one
    person, and count so.

    Args:
        table: read as rows that are counted, secret.
        schema: of the rows, public.
    """
    counted = (_most_equal(table.columns[column.name]) for column in schema.identifiers if column.name in table.columns)
    return max((most for most in counted if most is not None), default=None)


def bound_of_people(counted: int | None, declared: int | None) -> int | None:
    """Returns with how many rows of one person a data set is registered: as the owner declares, else as was counted.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): fewer are declared than were counted, or a number that none can be.
    """
    if declared is None:
        return counted
    if not 1 <= declared <= MAX_ROWS_PER_PERSON:
        what = f"{declared} rows a person; a number from 1 to {MAX_ROWS_PER_PERSON} is expected"
        raise _refused(Problem("rows_per_person", what, "declare another"))
    if counted is not None and counted > declared:
        what = f"one person has {counted} rows; {declared} are declared"
        raise _refused(Problem("rows_per_person", what, f"declare {counted} or more, or leave out rows of whoever has more"))
    return declared


def are_same_rows(one: PreparedRows, other: PreparedRows) -> bool:
    """Whether two data sets have the same rows in any order, and rows that differ enough for this to be no chance; secret."""
    if one.features.shape != other.features.shape or one.labels.shape != other.labels.shape or one.features.shape[1] == 0:
        return False
    ordered = _in_order(one)
    differing = 1 + np.count_nonzero(ordered[1:] != ordered[:-1])
    return bool(2 * differing >= len(ordered) and np.array_equal(ordered, _in_order(other)))


def _in_order(rows: PreparedRows) -> NDArray[np.void]:
    parts: Iterable[NDArray[np.float64]] = (rows.features, rows.labels[:, None]) if len(rows.labels) else (rows.features,)
    cells = np.ascontiguousarray(np.hstack(tuple(parts)) + 0.0)  # -0 is 0
    return np.sort(cells.view(np.dtype((np.void, cells.itemsize * cells.shape[1]))).ravel())


def _most_equal(cells: pa.ChunkedArray) -> int | None:
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    try:
        if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
            cells = pc.fill_null(pc.utf8_trim_whitespace(cells), "")  # without one, whichever way it is written
        return int(pc.max(pc.value_counts(cells).field("counts")).as_py())
    except pa.ArrowException:  # no type that names people, or text that is none
        return None


def _refused(problem: Problem) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_DATA, "the rows are more than a person is declared to have", problems=[problem])
