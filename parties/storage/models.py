"""Trained models of which this party holds a share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from parties.storage.registry_tables import DeletionRow
from parties.storage.tables import ModelRow
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef


@dataclass(frozen=True)
class ModelRecord:
    """One model version with its lineage.

    Attributes:
        ref: name and version.
        job_id: the training job.
        plan_digest: the plan it was trained under.
        model_document: canonical bytes of its architecture.
        schema_document: canonical bytes of the schema of its rows.
        sealed_name: the sealed file with this party's share.
        commitments: salted commitments of the data sets it was trained on, by `party/name/version`.
        created: when it was kept, UTC.
        usable: false until its job has completed.
        steps: training steps behind it, of all trainings that led to it.
    """

    ref: ModelRef
    job_id: str
    plan_digest: str
    model_document: bytes
    schema_document: bytes
    sealed_name: str
    commitments: Mapping[str, str]
    created: datetime
    usable: bool
    steps: int

    @property
    def object_id(self) -> str:
        """The id under which the share is sealed."""
        return model_object_id(self.ref)


def model_object_id(ref: ModelRef) -> str:
    """Returns the id under which this party's share of a model is sealed."""
    return f"{ref.name}/{ref.version}"


class ModelStore:
    """Models in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, record: ModelRecord) -> None:
        """Keeps a model version.

        Raises:
            ConfideError: JOB_CONFLICT: this version is kept already.
        """
        if self._session.get(ModelRow, (record.ref.name, record.ref.version)) is not None:
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"model {model_object_id(record.ref)} is held already")
        self._session.add(
            ModelRow(
                name=record.ref.name,
                version=record.ref.version,
                job_id=record.job_id,
                plan_digest=record.plan_digest,
                model_document=record.model_document,
                schema_document=record.schema_document,
                sealed_name=record.sealed_name,
                commitments=json.dumps(dict(record.commitments), sort_keys=True),
                created=record.created,
                usable=record.usable,
                steps=record.steps,
            )
        )
        self._session.flush()

    def get(self, ref: ModelRef) -> ModelRecord:
        """Returns a model that may be used.

        Raises:
            ConfideError: UNKNOWN_MODEL (the asker's fault): not held here, or its job has not completed.
        """
        row = self._session.get(ModelRow, (ref.name, ref.version))
        if row is None or not row.usable:
            raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"no usable model {model_object_id(ref)} is held here")
        return _record(row)

    def usable(self) -> tuple[ModelRecord, ...]:
        """Returns the models that may be used, the latest first."""
        query = select(ModelRow).where(ModelRow.usable).order_by(ModelRow.created.desc(), ModelRow.name)
        return tuple(_record(row) for row in self._session.scalars(query))

    def sealed_name(self, ref: ModelRef) -> str | None:
        """Returns the name of a model's sealed file, whether or not it may be used; None if the model is not held here."""
        row = self._session.get(ModelRow, (ref.name, ref.version))
        return None if row is None else row.sealed_name

    def sealed_names(self) -> tuple[str, ...]:
        """Returns the names of all sealed files of models, usable or not; without those that were destroyed.

        A file of a destroyed share can only have come back from a backup: nothing names it, so the next start removes it again.
        """
        same = (DeletionRow.name == ModelRow.name) & (DeletionRow.version == ModelRow.version) & DeletionRow.done.is_not(None)
        query = select(ModelRow.sealed_name).outerjoin(DeletionRow, same).where(DeletionRow.name.is_(None))
        return tuple(self._session.scalars(query))

    def publish(self, job_id: str) -> tuple[ModelRef, ...]:
        """Makes the model of a completed job usable; returns what became so."""
        changed = update(ModelRow).where(ModelRow.job_id == job_id, ~ModelRow.usable).values(usable=True)
        rows = self._session.execute(changed.returning(ModelRow.name, ModelRow.version)).all()
        return tuple(ModelRef(name, version) for name, version in rows)

    def discard(self, job_id: str) -> tuple[str, ...]:
        """Forgets the model of a job that did not complete; one that is usable stays.

        Returns:
            Names of the sealed files to delete after the transaction.
        """
        rows = self._session.scalars(select(ModelRow).where(ModelRow.job_id == job_id, ~ModelRow.usable)).all()
        names = tuple(row.sealed_name for row in rows)
        for row in rows:
            self._session.delete(row)
        self._session.flush()
        return names


def _record(row: ModelRow) -> ModelRecord:
    return ModelRecord(
        ref=ModelRef(row.name, row.version),
        job_id=row.job_id,
        plan_digest=row.plan_digest,
        model_document=row.model_document,
        schema_document=row.schema_document,
        sealed_name=row.sealed_name,
        commitments=json.loads(row.commitments),
        created=row.created,
        usable=row.usable,
        steps=row.steps,
    )
