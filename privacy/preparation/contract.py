"""Checks every cell against the contract and scales the rows: the last step before rows are shared.

Nothing outside the agreed ranges, and no NaN, may be shared: inside the shares nobody could see it, and it would spoil the
model for everybody. Messages name row, column and what is expected, never the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.preparation.schema import Column, ColumnType, TableSchema
from privacy.preparation.table import MAX_REPORTED, Table
from privacy.preparation.values import Violation, read_column
from protocols.errors import ConfideError, ErrorCode, Problem

if TYPE_CHECKING:  # a data frame is read through its mapping of columns, without importing pandas
    import pandas as pd

Named: TypeAlias = "pd.DataFrame | Mapping[str, Sequence[Any] | NDArray[Any]]"
Samples: TypeAlias = "Table | Named | NDArray[Any]"


class OnViolation(Enum):
    """What happens to rows that break the contract."""

    REFUSE = "refuse"  # none are prepared
    LEAVE_OUT = "leave-out"  # the others are prepared, and those left out are counted


@dataclass(frozen=True, eq=False, repr=False)
class PreparedRows:
    """Rows that fulfil the contract; secret: no repr, no equality, no pickling.

    Attributes:
        features: (rows, features) float64 in [-1, 1], in the schema's order, read-only.
        labels: (rows,) float64, read-only: 0 or 1, the index of a class, or a number scaled to [-1, 1]; (0,) under a schema
            without a label.
        left_out: rows left out by violation, each counted once under its first violation; for the owner's eyes.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.float64]
    left_out: Mapping[Violation, int]

    @property
    def num_rows(self) -> int:
        """How many rows there are; this number becomes public with the registration."""
        return len(self.features)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: rows do not travel by pickle."""
        raise TypeError("prepared rows are not pickled")


@dataclass(frozen=True, eq=False, repr=False)
class PreparedQuery:
    """A querier's samples that fulfil the contract; secret: no repr, no equality, no pickling.

    Attributes:
        features: (samples, features) float64 in [-1, 1], in the schema's order, read-only.
    """

    features: NDArray[np.float64]

    @property
    def num_rows(self) -> int:
        """How many samples there are; public in the job."""
        return len(self.features)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: samples do not travel by pickle."""
        raise TypeError("prepared samples are not pickled")


def prepare(table: Table, schema: TableSchema, on_violation: OnViolation) -> PreparedRows:
    """Checks rows and scales features, and labels that are numbers, to [-1, 1] by the public ranges.

    Args:
        table: rows as read under the same schema, with their label if it has one, secret.
        schema: the contract.
        on_violation: whether rows that break it stop everything or are left out.

    Returns:
        The rows, secret, in the order of the file.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): the first `MAX_REPORTED` violations with row, line, column, what is
            expected and what to do, and how many there are in all; or no row is left. Learns: only the owner may see it.
    """
    columns = (*schema.features, schema.label) if schema.has_label else schema.features
    values, reasons = _read(table, columns)
    kept = ~reasons.any(axis=1)
    if on_violation is OnViolation.REFUSE and not kept.all():
        raise _broken(reasons, columns, table.lines)
    if not kept.any():
        raise ConfideError(ErrorCode.INVALID_DATA, f"all {table.num_rows} rows break the contract of the schema")
    values = values[kept]
    width = schema.num_features
    features = schema.scale(values[:, :width])
    labels = schema.scale_labels(values[:, width]) if schema.has_label else np.empty(0)
    return PreparedRows(_frozen(features), _frozen(labels), _count(reasons[~kept]))


def prepare_query(samples: Samples, schema: TableSchema) -> PreparedQuery:
    """Checks a querier's samples and scales them as the training rows were scaled.

    Args:
        samples: secret; a table read as samples, a data frame, or a mapping from feature names to values (in all of these
            other columns are dropped), or a (samples, features) array of numbers in the schema's order.
        schema: the contract of the model's training rows.

    Returns:
        The samples, secret, in their order.

    Raises:
        ConfideError: INVALID_DATA (the querier's fault), as for `prepare`; samples are never left out.
    """
    sound = _sound_numbers(samples, schema) if isinstance(samples, np.ndarray) else None
    if sound is not None:
        return PreparedQuery(_frozen(schema.scale(sound)))
    table = samples if isinstance(samples, Table) else _to_table(samples, schema)
    values, reasons = _read(table, schema.features)
    if reasons.any():
        raise _broken(reasons, schema.features, table.lines)
    return PreparedQuery(_frozen(schema.scale(values)))


def _read(table: Table, columns: Sequence[Column]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    missing = [Problem(f"column {column.name}", "missing", "add it") for column in columns if column.name not in table.columns]
    if missing:
        raise ConfideError(ErrorCode.INVALID_DATA, f"{len(missing)} problem(s) in the table", problems=missing)
    values = np.empty((table.num_rows, len(columns)))
    reasons = np.empty((table.num_rows, len(columns)), np.uint8)
    for position, column in enumerate(columns):
        values[:, position], reasons[:, position] = read_column(table.columns[column.name], column)
    return values, reasons


def _sound_numbers(samples: NDArray[Any], schema: TableSchema) -> NDArray[np.float64] | None:
    """Returns an array of numbers as it is if every column is one of real numbers and every value lies in its range.

    That is all that is asked of such columns; whatever else an array holds is looked at column by column, to say what is wrong.
    """
    if samples.ndim != 2 or samples.dtype.kind != "f" or not len(samples) or samples.shape[1] != schema.num_features:
        return None
    if any(column.column_type is not ColumnType.FLOAT for column in schema.features):
        return None
    values = samples.astype(np.float64, copy=False)
    low, high = schema.feature_bounds
    return values if bool(((values >= low) & (values <= high)).all()) else None  # NaN lies in no range


def _to_table(samples: Named | NDArray[Any], schema: TableSchema) -> Table:
    if isinstance(samples, np.ndarray):
        if samples.ndim != 2 or samples.shape[1] != schema.num_features:
            raise ConfideError(ErrorCode.INVALID_DATA, f"samples must have the shape (samples, {schema.num_features})")
        samples = {name: samples[:, position] for position, name in enumerate(schema.feature_names)}
    columns = {}
    for name in schema.feature_names:
        if name in samples:
            try:
                array = pa.array(samples[name])
            except (pa.ArrowException, TypeError, OverflowError):
                problem = Problem(f"column {name}", "mixes values of different types", "use numbers only")
                raise ConfideError(ErrorCode.INVALID_DATA, "1 problem(s) in the samples", problems=[problem]) from None
            columns[name] = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    lengths = {len(cells) for cells in columns.values()} or {0}
    if len(lengths) > 1 or 0 in lengths:
        raise ConfideError(ErrorCode.INVALID_DATA, "samples must name the features, with equally many values, at least one")
    return Table(columns, lengths.pop(), None)


def _broken(reasons: NDArray[np.uint8], columns: Sequence[Column], lines: NDArray[np.int64] | None) -> ConfideError:
    found = np.argwhere(reasons)
    problems = []
    for row, position in found[:MAX_REPORTED]:
        column, violation = columns[position], Violation(int(reasons[row, position]))
        line = f" (line {lines[row]})" if lines is not None else ""
        where = f"row {row + 1}{line}, column {column.name}"
        problems.append(Problem(where, f"{violation.text}; expected {column.expected}", violation.remedy))
    num_rows = int(reasons.any(axis=1).sum())
    more = f"; the first {MAX_REPORTED} follow" if len(found) > MAX_REPORTED else ""
    what = f"{len(found)} cell(s) in {num_rows} of {len(reasons)} rows break the contract of the schema{more}"
    return ConfideError(ErrorCode.INVALID_DATA, what, problems=problems)


def _count(reasons: NDArray[np.uint8]) -> dict[Violation, int]:
    """Rows by their first violation, so that the counts add up to the rows left out."""
    first = reasons[np.arange(len(reasons)), (reasons != 0).argmax(axis=1)]
    codes, counts = np.unique(first, return_counts=True)
    return {Violation(int(code)): int(count) for code, count in zip(codes, counts, strict=True)}


def _frozen(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # Adding zero turns -0.0 into 0.0: equal rows have equal bytes, and so equal commitments.
    frozen: NDArray[np.float64] = np.ascontiguousarray(values + 0.0)
    frozen.setflags(write=False)
    return frozen
