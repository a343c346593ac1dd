"""Registered data sets: what is public about them, and where their rows are sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from parties.storage.tables import DatasetRow
from privacy.preparation.schema import TableSchema
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode


@dataclass(frozen=True)
class DatasetRecord:
    """One registration.

    Attributes:
        name: the data set's name at this owner.
        version: counts registrations under the name, from 1.
        schema_document: canonical bytes of its schema, public.
        num_rows: rows that passed the contract, public.
        left_out: how many rows were left out, by reason; stays at the owner.
        commitment: salted commitment to the prepared rows, public.
        alignment: digest that only data sets of the same people in the same order share, public; empty if there is none.
        sealed_name: the sealed file with rows and salt.
        created: when it was registered, UTC.
        rows_per_person: so many rows a person has at most; None if nobody has said or counted.
        is_counted: whether they were counted, by a column that names people; else the owner has declared them.
        population: whose rows these are, as the owner declares; all data sets of one share a budget.
    """

    name: str
    version: int
    schema_document: bytes
    num_rows: int
    left_out: Mapping[str, int]
    commitment: str
    alignment: str
    sealed_name: str
    created: datetime
    rows_per_person: int | None
    is_counted: bool
    population: str

    @property
    def schema(self) -> TableSchema:
        """Its schema, public."""
        return TableSchema.from_document(parse_canonical(self.schema_document))

    @property
    def object_id(self) -> str:
        """The id under which its rows are sealed."""
        return dataset_object_id(self.name, self.version)


def dataset_object_id(name: str, version: int) -> str:
    """Returns the id under which the rows of a registration are sealed."""
    return f"{name}/{version}"


class DatasetStore:
    """Data sets in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def next_version(self, name: str) -> int:
        """Returns the version that the next registration under a name gets."""
        latest = self._session.scalar(select(func.max(DatasetRow.version)).where(DatasetRow.name == name))
        return 1 + (latest or 0)

    def add(self, record: DatasetRecord) -> None:
        """Keeps a registration.

        Raises:
            ConfideError: JOB_CONFLICT: this version exists; another process registered at the same time.
        """
        if record.version != self.next_version(record.name):
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"version {record.version} of {record.name} is taken or skips one")
        self._session.add(
            DatasetRow(
                name=record.name,
                version=record.version,
                schema_document=record.schema_document,
                num_rows=record.num_rows,
                left_out=json.dumps(dict(record.left_out), sort_keys=True),
                commitment=record.commitment,
                alignment=record.alignment,
                sealed_name=record.sealed_name,
                created=record.created,
                rows_per_person=record.rows_per_person,
                is_counted=record.is_counted,
                population=record.population,
            )
        )
        self._session.flush()

    def get(self, name: str, version: int | None = None) -> DatasetRecord:
        """Returns a registration, the latest of a name if no version is given.

        Raises:
            ConfideError: UNKNOWN_DATASET (the asker's fault).
        """
        query = select(DatasetRow).where(DatasetRow.name == name).order_by(DatasetRow.version.desc()).limit(1)
        row = self._session.scalar(query if version is None else query.where(DatasetRow.version == version))
        if row is None:
            shown = name if version is None else f"{name} version {version}"
            raise ConfideError(ErrorCode.UNKNOWN_DATASET, f"no data set {shown} is registered here")
        return _record(row)

    def sealed_names(self) -> tuple[str, ...]:
        """Returns the names of all sealed files of registrations."""
        return tuple(self._session.scalars(select(DatasetRow.sealed_name)))

    def all(self) -> tuple[DatasetRecord, ...]:
        """Returns every registration, in the order of names and versions."""
        return tuple(map(_record, self._session.scalars(select(DatasetRow).order_by(DatasetRow.name, DatasetRow.version))))

    def latest(self) -> tuple[DatasetRecord, ...]:
        """Returns the latest registration of every name, in the order of names."""
        return tuple({record.name: record for record in self.all()}.values())

    def populations(self) -> dict[str, str]:
        """Returns the population of every data set, by its name: that of its latest version."""
        query = select(DatasetRow.name, DatasetRow.population).order_by(DatasetRow.name, DatasetRow.version)
        return {row.name: row.population for row in self._session.execute(query)}


def _record(row: DatasetRow) -> DatasetRecord:
    return DatasetRecord(
        name=row.name,
        version=row.version,
        schema_document=row.schema_document,
        num_rows=row.num_rows,
        left_out=json.loads(row.left_out),
        commitment=row.commitment,
        alignment=row.alignment,
        sealed_name=row.sealed_name,
        created=row.created,
        rows_per_person=row.rows_per_person,
        is_counted=row.is_counted,
        population=row.population,
    )
