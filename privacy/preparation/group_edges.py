"""Where groups of rows begin and end: in a feature's own unit for people, as it is shared for jobs."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

from privacy.preparation.columns import Column, ColumnType
from privacy.preparation.schema import TableSchema
from protocols.errors import ConfideError, ErrorCode, Problem

_PLACES = Decimal("0.000000001")
_BETWEEN_FALSE_AND_TRUE = "0"


def shared_edges(schema: TableSchema, feature: str, edges: Sequence[str]) -> tuple[str, ...]:
    """Returns edges as a job has them: from -1 to 1, with nine decimals at most.

    Args:
        schema: of the rows; public.
        feature: the name of a feature column.
        edges: decimals in the feature's own unit, ascending; empty for a boolean feature, whose groups are false and true.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault): no such feature, no edges, or edges outside of the feature's range.
    """
    column = _column(schema, feature)
    if column.column_type is ColumnType.BOOLEAN and not edges:
        return (_BETWEEN_FALSE_AND_TRUE,)
    low, high = _bounds(column)
    outside = [edge for edge in edges if not low < Decimal(edge) <= high]
    if outside or not edges:
        what = f"no edge splits {feature}" if not edges else f"outside of {feature}: {', '.join(outside[:6])}"
        problem = Problem("group_edges", what, f"write decimals above {low} and up to {high}, ascending")
        raise ConfideError(ErrorCode.INVALID_JOB, "the rows cannot be grouped so", problems=[problem])
    return tuple(_shortest(2 * (Decimal(edge) - low) / (high - low) - 1) for edge in edges)


def group_names(schema: TableSchema, feature: str, edges: Sequence[str]) -> tuple[str, ...]:
    """Returns what people call the groups that edges of a job make, in order; public.

    Args:
        schema: of the rows.
        feature: the name of a feature column.
        edges: as `shared_edges` returns them.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault): no such feature.
    """
    column = _column(schema, feature)
    if column.column_type is ColumnType.BOOLEAN and len(edges) == 1:
        return f"{feature} false", f"{feature} true"
    low, high = _bounds(column)
    own = [f"{float(low + (Decimal(edge) + 1) / 2 * (high - low)):.6g}" for edge in edges]
    between = [f"{feature} {first} to {last}" for first, last in pairwise(own)]
    return f"{feature} below {own[0]}", *between, f"{feature} from {own[-1]}"


def _column(schema: TableSchema, feature: str) -> Column:
    for column in schema.features:
        if column.name == feature:
            return column
    names = ", ".join(schema.feature_names[:6])
    problem = Problem("group_by", f"{feature!r} is no feature", f"name one of {names}")
    raise ConfideError(ErrorCode.INVALID_JOB, "the rows cannot be grouped so", problems=[problem])


def _bounds(column: Column) -> tuple[Decimal, Decimal]:
    return Decimal(column.low or "0"), Decimal(column.high or "1")


def _shortest(value: Decimal) -> str:
    text = format(value.quantize(_PLACES), "f").rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
