"""The last look at rows before they leave a preparation: every cell keeps its contract, or the row is refused or left out.

Cells come out in the form in which the schema describes them: numbers, booleans, texts of classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.preparation.columns import Column, ColumnType, Role
from privacy.preparation.contract import OnViolation
from privacy.preparation.recipes.step import Rows
from privacy.preparation.schema import TableSchema
from privacy.preparation.values import Violation, read_column
from protocols.errors import ConfideError, ErrorCode, Problem

MAX_REPORTED = 20
_TYPES = {
    ColumnType.FLOAT: pa.float64(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.CHOICE: pa.string(),
}


def conforming_schema(schema: TableSchema, names: Sequence[str]) -> pa.Schema:
    """Returns the names and types of rows that conform; names are those of the schema's columns that come out."""
    columns = {column.name: column for column in schema.columns}
    return pa.schema([(name, _type(columns[name])) for name in names])


class Conforming:
    """Checks rows against a schema.

    Attributes:
        left_out: how many rows were left out, each counted once under its first violation; for the owner's eyes.
    """

    def __init__(self, schema: TableSchema, names: Sequence[str], on_violation: OnViolation) -> None:
        """Takes the schema, the columns that come out in order, and whether rows that break it are refused or left out."""
        columns = {column.name: column for column in schema.columns}
        self.left_out: Counter[Violation] = Counter()
        self._columns = [columns[name] for name in names]
        self._schema = conforming_schema(schema, names)
        self._on_violation = on_violation

    def transform(self, rows: Rows) -> Rows:
        """Returns the rows that conform, secret.

        Raises:
            ConfideError: INVALID_DATA (the owner's fault): a row that breaks the schema where none may, by row and column.
        """
        reasons = np.zeros((len(rows), len(self._columns)), np.uint8)
        arrays = []
        for position, column in enumerate(self._columns):
            cells = rows.column(column.name)
            if column.role is not Role.IDENTIFIER:
                values, reasons[:, position] = read_column(pa.chunked_array([cells]), column)
                cells = _cells(values, column)
            arrays.append(cells)
        found = Rows(rows.numbers, pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        if not reasons.any():
            return found
        if self._on_violation is OnViolation.REFUSE:
            raise self._broken(rows, reasons)
        kept = (reasons == 0).all(axis=1)
        first = reasons[np.arange(len(reasons)), (reasons != 0).argmax(axis=1)]
        self.left_out.update(Violation(int(code)) for code in first[~kept])
        return found.where(kept)

    def _broken(self, rows: Rows, reasons: NDArray[np.uint8]) -> ConfideError:
        problems = []
        for row, position in np.argwhere(reasons)[:MAX_REPORTED]:
            column, violation = self._columns[position], Violation(int(reasons[row, position]))
            where = f"row {rows.numbers[row]}, column {column.name}"
            problems.append(Problem(where, f"{violation.text}; expected {column.expected}", violation.remedy))
        return ConfideError(ErrorCode.INVALID_DATA, "rows break the contract", problems=problems)


def _type(column: Column) -> pa.DataType:
    return pa.string() if column.column_type is None else _TYPES[column.column_type]


def _cells(values: NDArray[np.float64], column: Column) -> pa.Array:
    match column.column_type:
        case ColumnType.CHOICE:
            return pa.array(column.class_names, pa.string()).take(pa.array(values.astype(np.int64)))
        case ColumnType.BOOLEAN:
            return pa.array(values != 0.0)
        case ColumnType.INTEGER:
            # A number outside the range may be outside the integers too; its row is refused or left out.
            low, high = column.bounds
            return pa.array(np.clip(values, low, high).astype(np.int64))
        case _:
            return pa.array(values)
