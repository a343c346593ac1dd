"""An owner's own rows as a data set to measure techniques on; the figures stay with the owner."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from parties.augmentation.data_sets import MeasuredSet
from parties.registration import read_rows
from parties.storage.files import read_public
from privacy.augmentation.evaluation import LabelledSet
from privacy.augmentation.technique import Medium
from privacy.preparation.columns import ColumnType
from privacy.preparation.contract import OnViolation, prepare
from privacy.preparation.schema import TableSchema
from privacy.preparation.schema_file import MAX_SCHEMA_BYTES, schema_from_yaml
from privacy.preparation.table import Content
from protocols.errors import ConfideError, ErrorCode
from protocols.job_parts import Task

LEAST_ROWS = 100
MAX_GROUPS = 20


def own_set(file: Path, schema_file: Path, *, group: str | None) -> MeasuredSet:
    """Returns an owner's rows, read at once.

    Args:
        file: CSV or Parquet, secret.
        schema_file: the schema (YAML), with a label of classes.
        group: a feature whose groups are compared; None for no comparison.

    Raises:
        ConfideError: INVALID_SCHEMA (the author's fault): no label of classes; INVALID_ARGUMENT: the group is no feature with 2
            to `MAX_GROUPS` values; INVALID_DATA (the owner's): rows that break the schema, or fewer than `LEAST_ROWS`.
    """
    schema = schema_from_yaml(read_public(schema_file, max_bytes=MAX_SCHEMA_BYTES))
    if not schema.has_label or schema.label.task is Task.REAL:
        raise ConfideError(ErrorCode.INVALID_SCHEMA, "techniques are measured on rows with a label of classes")
    rows = prepare(read_rows(file, schema, Content.LABELLED_ROWS), schema, OnViolation.REFUSE)
    if rows.num_rows < LEAST_ROWS:
        raise ConfideError(ErrorCode.INVALID_DATA, f"a technique cannot be measured on fewer than {LEAST_ROWS} rows")
    groups = None
    if group is not None:
        names = [column.name for column in schema.features]
        values, groups = np.unique(rows.features[:, names.index(group)], return_inverse=True) if group in names else ((), None)
        if not 2 <= len(values) <= MAX_GROUPS:
            what = f"the group must be a feature with 2 to {MAX_GROUPS} different values"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=f"Name one of {', '.join(names)}.")
    data = LabelledSet("own rows", rows.features, rows.labels.astype(np.int64), groups, _grid(schema))
    return MeasuredSet(data.name, Medium.TABLE, "your rows", "", lambda: data)


def _grid(schema: TableSchema) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The distance of neighbouring values of each feature, scaled."""
    steps = [
        0.0 if column.column_type is ColumnType.FLOAT else 2 / (column.bounds[1] - column.bounds[0]) for column in schema.features
    ]
    return np.array(steps)
