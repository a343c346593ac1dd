"""Preparations of registered data sets: what the owner signed about them, and what they did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from governance.documents import SignedDocument
from parties.storage.preparation_tables import PreparationRow

if TYPE_CHECKING:  # recipes load libraries that the party process has no other use for
    from governance.preparation import PreparationStatement


@dataclass(frozen=True)
class PreparationRecord:
    """How the rows of one registration were made.

    Attributes:
        name: of the data set.
        version: of the data set.
        signed: the owner's statement, public.
        outcome: counts of rows and steps, names of dropped columns, warnings; stays at the owner.
    """

    name: str
    version: int
    signed: SignedDocument
    outcome: Mapping[str, Any]

    @property
    def statement(self) -> PreparationStatement:
        """What was signed; checked when it was kept."""
        from governance.preparation import PreparationStatement

        return PreparationStatement.from_document(self.signed.document)


class PreparationStore:
    """Preparations in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, record: PreparationRecord) -> None:
        """Keeps the preparation of a registration that is kept in the same transaction."""
        signed, outcome = record.signed.to_bytes(), json.dumps(dict(record.outcome), sort_keys=True)
        self._session.add(PreparationRow(name=record.name, version=record.version, statement=signed, outcome=outcome))
        self._session.flush()

    def find(self, name: str, version: int) -> PreparationRecord | None:
        """Returns the preparation of a registration; None if its rows were registered as they were."""
        row = self._session.get(PreparationRow, (name, version))
        return None if row is None else _record(row)

    def all(self) -> tuple[PreparationRecord, ...]:
        """Returns all preparations, in the order of names and versions."""
        query = select(PreparationRow).order_by(PreparationRow.name, PreparationRow.version)
        return tuple(_record(row) for row in self._session.scalars(query))


def _record(row: PreparationRow) -> PreparationRecord:
    return PreparationRecord(row.name, row.version, SignedDocument.from_bytes(row.statement), json.loads(row.outcome))
