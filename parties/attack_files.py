"""What an owner's commands for attacks in the clear read and write: rows under a schema, and a report that nobody has signed yet.

Rows are read as for a registration and kept nowhere. The report holds figures alone; a person of the party states it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from governance.evidence.facts import is_dataset
from governance.risk_report import StatedRisk
from parties.agreements import load_member
from parties.config import PartyConfig
from parties.registration import read_rows
from parties.storage.database import one_transaction
from parties.storage.files import read_public, write_secret
from privacy.preparation.columns import Column, ColumnType
from privacy.preparation.contract import OnViolation, PreparedRows, prepare
from privacy.preparation.schema import TableSchema
from privacy.preparation.schema_file import MAX_SCHEMA_BYTES, schema_from_yaml
from privacy.preparation.table import Content
from privacy.risk.report import RiskReport
from privacy.risk.tables import ReleasedTable
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ModelRef

SEED_BITS = 48


@dataclass(frozen=True)
class Statement:
    """What a report will say beside its figures, and where it is written; public.

    Attributes:
        consortium: its id.
        party: whose rows are attacked.
        ref: of the model version that the report is about.
        datasets: `party/name/version` of the party's rows, ascending.
        out: the file.
    """

    consortium: str
    party: str
    ref: ModelRef
    datasets: tuple[str, ...]
    out: Path

    def write(self, report: RiskReport, *, now: datetime) -> None:
        """Writes what was found, for a person of the party to state; nobody else may read the file.

        Args:
            report: of an attack in the clear.
            now: the time, UTC.

        Raises:
            ConfideError: DISK_FULL or INVALID_ARGUMENT (the operator's fault): it cannot be written there.
        """
        stated = StatedRisk(self.consortium, self.party, self.ref, now.replace(microsecond=0), self.datasets, report)
        write_secret(self.out, canonical_bytes(stated.to_document()))


def statement_about(config: PartyConfig, ref: ModelRef, datasets: tuple[str, ...], out: Path, *, now: datetime) -> Statement:
    """Returns what a report will say, after checking what would keep it from being stated, before time is spent on figures.

    Args:
        config: the owner's.
        ref: of the model version that the report is about.
        datasets: `party/name/version` of the rows that are attacked.
        out: where it is to be written.
        now: the time, UTC.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): no data set, one of somebody else, or no folder for the report;
            UNKNOWN_DATASET: one is not registered here; NOT_ENROLLED or INVALID_CONFIG (the operator's).
    """
    named = tuple(sorted(set(datasets)))
    wrong = [name for name in named if not is_dataset(name) or not name.startswith(f"{config.party}/")]
    if wrong or not named:
        what = f"{', '.join(wrong)}: no data set of {config.party}" if wrong else "nothing says which data sets the rows are from"
        remedy = f"Name each with --dataset {config.party}/NAME/VERSION, as `confide dataset list` shows it."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
    if not out.absolute().parent.is_dir():
        what = f"the report cannot be written to {out}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name a file in a folder that exists.")
    member = load_member(config, now)
    with one_transaction(config.folder.database_file) as tables:
        for name in named:
            _, dataset, version = name.split("/")
            tables.datasets.get(dataset, int(version))
    return Statement(member.directory.consortium, config.party, ref, named, out)


def read_schema_file(path: Path) -> TableSchema:
    """Reads a schema as a registration does.

    Raises:
        ConfideError: INVALID_SCHEMA (its author's fault); INVALID_ARGUMENT: it cannot be read.
    """
    return schema_from_yaml(read_public(path, max_bytes=MAX_SCHEMA_BYTES))


def read_attacked(file: Path, schema: TableSchema) -> PreparedRows:
    """Reads own rows, CSV or Parquet, as a registration does; secret.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault), naming the file: other columns than the schema's, or rows that break it;
            INVALID_ARGUMENT: it cannot be read.
    """
    try:
        return prepare(read_rows(file, schema, Content.LABELLED_ROWS), schema, OnViolation.REFUSE)
    except ConfideError as error:
        if error.code is not ErrorCode.INVALID_DATA:
            raise
        raise ConfideError(error.code, f"{file}: {error.what}", problems=error.problems, remedy=error.remedy) from error


def read_table_files(released: Path, behind: Path, others: Path, schema: TableSchema) -> ReleasedTable:
    """Reads a released table and the rows that it is judged by: every feature, and the label if there is one; secret.

    Args:
        released: what is released.
        behind: rows that it was made from, in the same form.
        others: other rows of the same kind.
        schema: of all three.

    Raises:
        ConfideError: as `read_attacked`.
    """
    columns = _judged(schema)
    parts = [_cells(read_attacked(file, schema), schema) for file in (released, behind, others)]
    return ReleasedTable(parts[0], parts[1], parts[2], np.array([_is_category(column) for column in columns], np.bool_))


def place_of(name: str, columns: tuple[Column, ...]) -> int:
    """Returns which of these columns is called so.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): none.
    """
    names = [column.name for column in columns]
    if name not in names:
        problem = Problem(name, "is none of the columns that can be guessed", f"choose among {', '.join(names[:20])}")
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "what is to be guessed is unknown", problems=[problem])
    return names.index(name)


def place_in_table(name: str, schema: TableSchema) -> int:
    """Returns which column of `read_table_files` is called so.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): none.
    """
    return place_of(name, _judged(schema))


def _judged(schema: TableSchema) -> tuple[Column, ...]:
    return (*schema.features, schema.label) if schema.has_label else schema.features


def _cells(rows: PreparedRows, schema: TableSchema) -> NDArray[np.float64]:
    return np.column_stack([rows.features, rows.labels]) if schema.has_label else rows.features


def _is_category(column: Column) -> bool:
    return column.column_type in (ColumnType.CHOICE, ColumnType.BOOLEAN) or column.classes is not None
