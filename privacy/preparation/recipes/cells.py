"""What steps share: which types they take, and how they name cells that they cannot use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.preparation.columns import MAX_NAME_CHARS
from privacy.preparation.recipes.step import Columns, Rows
from protocols.errors import ConfideError, ErrorCode, Problem

MAX_REPORTED = 20
MISSING = ("", "na", "n/a", "null", "none", "nan")


def is_text(kind: pa.DataType) -> bool:
    """Whether cells are texts."""
    return bool(pa.types.is_string(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether cells are numbers, whole or not."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_date(kind: pa.DataType) -> bool:
    """Whether cells are dates."""
    return bool(pa.types.is_date32(kind))


def is_any(kind: pa.DataType) -> bool:
    """Cells of every type will do."""
    return True


def needed(columns: Columns, names: Iterable[str], takes: Callable[[pa.DataType], bool], what: str) -> Iterable[Problem]:
    """Yields which of the named columns are missing or hold something else than `what`."""
    for name in names:
        if name not in columns:
            yield Problem(f"column {name}", "is not there at this step", "correct its name, or the steps before")
        elif not takes(columns[name]):
            yield Problem(
                f"column {name}", f"holds {words(columns[name])} at this step, not {what}", "change the order of the steps"
            )


def taken(columns: Columns, names: Iterable[str]) -> Iterable[Problem]:
    """Yields which names of new columns are taken or too long."""
    for name in names:
        if name in columns:
            yield Problem(f"column {name}", "is there already", "choose another name, or drop the other column before")
        elif len(name) > MAX_NAME_CHARS:
            yield Problem(
                f"column {name[:MAX_NAME_CHARS]}", f"is longer than {MAX_NAME_CHARS} characters", "choose shorter names"
            )


def words(kind: pa.DataType) -> str:
    """Returns the type of a column in words."""
    for takes, name in ((is_text, "texts"), (is_number, "numbers"), (is_date, "dates")):
        if takes(kind):
            return name
    return "booleans" if pa.types.is_boolean(kind) else f"values of the type {kind}"


def refuse_cells(rows: Rows, name: str, found: NDArray[np.bool_], what: str, remedy: str) -> None:
    """Refuses cells that a step cannot use, by row and column, never by value; returns if there are none.

    Args:
        rows: secret.
        name: of the column.
        found: (rows,), which cells.
        what: what is wrong with them.
        remedy: what to do.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault) with the first `MAX_REPORTED` of them.
    """
    if found.any():
        numbers = rows.numbers[found]
        problems = [Problem(f"row {number}, column {name}", what, remedy) for number in numbers[:MAX_REPORTED]]
        raise ConfideError(ErrorCode.INVALID_DATA, f"{len(numbers)} cell(s) of column {name}: {what}", problems=problems)


def trimmed(values: pa.Array) -> pa.Array:
    """Returns texts without the spaces around them, and null for those that say that something is missing."""
    texts = pc.utf8_trim_whitespace(values)
    missing = pc.is_in(pc.utf8_lower(texts), pa.array(MISSING))
    return pc.if_else(missing, pa.scalar(None, pa.string()), texts)


def mask(values: pa.Array) -> NDArray[np.bool_]:
    """Returns booleans as an array; null counts as false."""
    found: NDArray[np.bool_] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return found


def numbers_of(values: pa.Array) -> NDArray[np.float64]:
    """Returns numbers as (rows,) float64, NaN where there is none."""
    found: NDArray[np.float64] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def from_numbers(values: NDArray[np.float64]) -> pa.Array:
    """Returns (rows,) float64 as cells, null where they are NaN."""
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def drop(rows: Rows, names: Sequence[str]) -> Rows:
    """Returns the rows without some columns."""
    return Rows(rows.numbers, rows.cells.select([name for name in rows.cells.schema.names if name not in names]))


def document_of(kind: str, **fields: Any) -> dict[str, Any]:
    """Returns the document of a step; fields that are None are left out, tuples become lists."""
    kept = {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items() if value is not None}
    return {"step": kind, **kept}
