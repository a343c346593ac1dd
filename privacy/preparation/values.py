"""Turns the cells of one column into numbers, and says of every cell that is none why not.

Text is read with one strict grammar (digits, point, exponent) and converted with correct rounding, so that the same file gives
the same bits everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.preparation.columns import Column, ColumnType, Role
from protocols.errors import ConfideError, ErrorCode, Problem

_NUMBER = r" *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})? *"
_ONE_NUMBER = re.compile(_NUMBER)
_NUMBER_PER_LINE = re.compile(rf"(?:{_NUMBER}\n)*+")
_MAX_CELL_CHARS = 64
_MISSING = frozenset({"", "na", "n/a", "null", "none"})
_INFINITE = frozenset({"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
_BOOLEANS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}


class Violation(IntEnum):
    """Why a cell breaks its contract; 0 is no violation."""

    MISSING = 1
    NAN = 2
    INFINITE = 3
    NOT_A_NUMBER = 4
    NOT_AN_INTEGER = 5
    NOT_A_BOOLEAN = 6
    OUT_OF_RANGE = 7
    UNKNOWN_LABEL = 8

    @property
    def text(self) -> str:
        """The finding in words."""
        return _TEXTS[self][0]

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _TEXTS[self][1]


_LEAVE_OUT = "or leave such rows out explicitly"
_TEXTS = {
    Violation.MISSING: ("is missing", f"fill it, {_LEAVE_OUT}"),
    Violation.NAN: ("is NaN", f"fill it, {_LEAVE_OUT}"),
    Violation.INFINITE: ("is infinite", f"correct it, {_LEAVE_OUT}"),
    Violation.NOT_A_NUMBER: ("is not a number", f"write digits with a decimal point, no comma and no unit, {_LEAVE_OUT}"),
    Violation.NOT_AN_INTEGER: ("is not a whole number", f"correct it, or use the type float, {_LEAVE_OUT}"),
    Violation.NOT_A_BOOLEAN: ("is not true or false", f"write true or false, {_LEAVE_OUT}"),
    Violation.OUT_OF_RANGE: ("is outside the public range", f"check its unit, agree on a wider range, {_LEAVE_OUT}"),
    Violation.UNKNOWN_LABEL: ("is not one of the label's values", f"correct it, {_LEAVE_OUT}"),
}


def read_column(cells: pa.ChunkedArray, column: Column) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Reads one feature or label.

    Args:
        cells: as read from the file, secret; text, numbers or booleans.
        column: their contract.

    Returns:
        (rows,) float64 values, secret, 0 where there is none; and (rows,) uint8, 0 or the `Violation` of the cell, secret.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): the column's type in the file cannot hold such values.
    """
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if column.column_type is ColumnType.CHOICE and (pa.types.is_integer(cells.type) or pa.types.is_boolean(cells.type)):
        cells = cells.cast(pa.string())
    if _is_text(cells.type):
        parts = [_from_text(chunk.to_pylist(), column) for chunk in cells.chunks]
        values, reasons = (np.concatenate(part) for part in zip(*parts, strict=True))
    elif column.column_type is not ColumnType.CHOICE and _is_number(cells.type):
        reasons = np.where(cells.is_null().to_numpy(), np.uint8(Violation.MISSING), np.uint8(0))
        values = pc.fill_null(cells.cast(pa.float64(), safe=False), 0.0).to_numpy().copy()
    else:
        raise ConfideError(
            ErrorCode.INVALID_DATA,
            "1 problem(s) in the file",
            problems=[Problem(f"column {column.name}", f"has the type {cells.type}", f"store it as {column.expected}")],
        )
    _check(values, reasons, column)
    values[reasons != 0] = 0.0
    return values, reasons


def _check(values: NDArray[np.float64], reasons: NDArray[np.uint8], column: Column) -> None:
    """Marks values that are numbers and still break the contract; the first violation of a cell stands."""

    def mark(found: NDArray[np.bool_], violation: Violation) -> None:
        reasons[found & (reasons == 0)] = violation

    mark(np.isnan(values), Violation.NAN)
    mark(np.isinf(values), Violation.INFINITE)
    low, high = column.bounds
    match column.column_type:
        case ColumnType.FLOAT:
            mark(~((values >= low) & (values <= high)), Violation.OUT_OF_RANGE)
        case ColumnType.INTEGER if column.classes is not None:
            mark(~((values >= low) & (values <= high) & (values == np.floor(values))), Violation.UNKNOWN_LABEL)
        case ColumnType.INTEGER:
            mark(values != np.floor(values), Violation.NOT_AN_INTEGER)
            mark(~((values >= low) & (values <= high)), Violation.OUT_OF_RANGE)
        case ColumnType.CHOICE:
            pass  # a text is one of the choices or has been marked
        case _:
            mark((values != 0.0) & (values != 1.0), _not_boolean(column))


def _from_text(cells: list[str | None], column: Column) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    reasons = np.zeros(len(cells), np.uint8)
    if column.column_type in (ColumnType.FLOAT, ColumnType.INTEGER):
        present = [cell for cell in cells if cell is not None]
        joined = "\n".join((*present, ""))
        # One match over all cells instead of one each; a cell with a line break inside would pass as two.
        if len(present) == len(cells) == joined.count("\n") and _NUMBER_PER_LINE.fullmatch(joined):
            return np.array(list(map(float, present))), reasons
    values = np.zeros(len(cells), np.float64)
    names = {name: number for number, name in enumerate(column.class_names)} if column.column_type is ColumnType.CHOICE else {}
    for position, cell in enumerate(cells):
        found = _cell(cell, column, names)
        if isinstance(found, Violation):
            reasons[position] = found
        else:
            values[position] = found
    return values, reasons


def _cell(cell: str | None, column: Column, names: Mapping[str, int]) -> float | Violation:
    text = (cell or "").strip()
    if text in names:
        return float(names[text])
    folded = text.casefold()
    if folded in _MISSING:
        return Violation.MISSING
    if folded == "nan":
        return Violation.NAN
    if column.column_type is ColumnType.CHOICE:
        return Violation.UNKNOWN_LABEL
    if column.column_type is ColumnType.BOOLEAN:
        return _BOOLEANS.get(folded, _not_boolean(column))
    if folded in _INFINITE:
        return Violation.INFINITE
    if len(text) > _MAX_CELL_CHARS or not _ONE_NUMBER.fullmatch(text):
        return Violation.NOT_A_NUMBER
    value = float(text)
    return Violation.INFINITE if math.isinf(value) else value


def _not_boolean(column: Column) -> Violation:
    return Violation.UNKNOWN_LABEL if column.role is Role.LABEL else Violation.NOT_A_BOOLEAN


def _is_text(arrow_type: pa.DataType) -> bool:
    return any(kind(arrow_type) for kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_number(arrow_type: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    return any(kind(arrow_type) for kind in kinds)
