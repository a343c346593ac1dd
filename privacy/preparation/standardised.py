"""A schema whose ranges follow from released means and deviations of its features, so that rows are shared standardised.

A feature is shared as the place of its value in the schema's range, from -1 to 1. With a range of some deviations around the
mean that is the standardised value, over that many deviations; a model, its evaluation and the samples that it is asked about
all follow the one schema. The new ranges lie within the old ones, which were agreed before anybody looked at rows.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from privacy.preparation.columns import Column, ColumnType, Role
from privacy.preparation.schema import TableSchema, read_schema
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.private_job_checks import contributors
from protocols.row_noise import opened_deviation

DEFAULT_REACH = 3.0  # deviations on either side of the mean
CLAIM_DIGITS = 12
_NAME_CHARS = 63
_CLAIM = re.compile(rf"-([0-9a-f]{{{CLAIM_DIGITS}}})$")
_DIGITS = 4  # significant ones of an end, far finer than what noise leaves


def standardised_schema(
    schema: TableSchema, moments: NDArray[np.float64], *, name: str, least: float, reach: float = DEFAULT_REACH
) -> TableSchema:
    """Returns a schema with ranges of so many deviations around the mean, cut at the old ranges; booleans stay as they are.

    Args:
        schema: under which the moments were released; public.
        moments: (features, 2) float64: means and deviations on the scale on which rows are shared, as the job opened them.
        name: of the new schema.
        least: a deviation below it counts as this one, since noise may have made it smaller; see `least_deviation`.
        reach: deviations on either side of the mean; public, above 0.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): the moments are not those of the schema's features, or no such reach;
            INVALID_SCHEMA: the name.
    """
    if moments.shape != (schema.num_features, 2) or not reach > 0 or not least > 0:
        what = f"means and deviations of {schema.num_features} features, and a positive number of deviations, are expected"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    rows = iter(np.stack([moments[:, 0], np.maximum(moments[:, 1], least)], axis=1).tolist())
    columns = tuple(
        _narrowed(column, *next(rows), reach=reach) if column.role is Role.FEATURE else column for column in schema.columns
    )
    return read_schema(replace(schema, name=name, columns=columns).to_document())


def released_schema(job: Job, moments: NDArray[np.float64]) -> TableSchema:
    """Returns the schema with standardising ranges that follows from released means and deviations; everybody makes the same one.

    Its name ends with the beginning of the job's id, by which it claims that job.

    Args:
        job: that released them, over rows that follow its schema.
        moments: (features, 2) float64, as `combine_output` returns them.

    Raises:
        ConfideError: as `standardised_schema`.
    """
    usual = TableSchema.from_document(job.schema)
    suffix = f"-{job.job_id[:CLAIM_DIGITS]}"
    name = usual.name[: _NAME_CHARS - len(suffix)].rstrip("-") + suffix
    least = least_deviation(opened_deviation(job, owners=len(contributors(job))), job.num_rows)
    return standardised_schema(usual, moments, name=name, least=least)


def claimed_job(name: str) -> str:
    """Returns the beginning of the id of the job that a schema claims by its name to have its ranges from; empty if none."""
    found = _CLAIM.search(name)
    return "" if found is None else found[1]


def least_deviation(noise: float, num_rows: int) -> float:
    """Returns the deviation below which noise cannot be told from a feature's own spread, on the scale on which rows are shared.

    With noise of deviation s on both sums, a variance is off by s sqrt(1 + 4 mean^2) / n, at most sqrt(5) s / n. The root of
    twice that is returned: a feature of a larger spread is seldom given a smaller one, which would cut its values.

    Args:
        noise: standard deviation in each of the opened sums; public.
        num_rows: that they are over; public.
    """
    return math.sqrt(2 * math.sqrt(5) * noise / num_rows)


def _narrowed(column: Column, mean: float, deviation: float, *, reach: float) -> Column:
    if column.low is None or column.high is None:
        return column
    low, high = column.bounds
    half = (high - low) / 2
    ends = (low + (mean + 1 + side * reach * deviation) * half for side in (-1, 1))
    least, most = (_shortened(end, whole=column.column_type is ColumnType.INTEGER) for end in ends)
    least, most = max(least, Decimal(column.low)), min(most, Decimal(column.high))
    return replace(column, low=f"{least:f}", high=f"{most:f}") if least < most else column


def _shortened(value: float, *, whole: bool) -> Decimal:
    return Decimal(round(value)) if whole else Decimal(f"{value:.{_DIGITS}g}")
