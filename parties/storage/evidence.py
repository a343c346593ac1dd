"""Bundles of evidence about model versions, in the order in which this party made them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from governance.documents import SignedDocument
from parties.storage.evidence_tables import EvidenceRow
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef


@dataclass(frozen=True)
class EvidenceRecord:
    """A bundle that this party made.

    Attributes:
        digest: of its canonical bytes, 64 hexadecimal digits.
        ref: the model version.
        signed: the bundle.
        kept: when, UTC.
        released: when the version was first released under it, UTC; None if it was not.
    """

    digest: str
    ref: ModelRef
    signed: SignedDocument
    kept: datetime
    released: datetime | None = None


class EvidenceStore:
    """Bundles in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, record: EvidenceRecord) -> bool:
        """Keeps a bundle; returns whether it is new."""
        if self._session.scalars(select(EvidenceRow).where(EvidenceRow.digest == record.digest)).first() is not None:
            return False
        row = EvidenceRow(
            digest=record.digest,
            model=record.ref.name,
            version=record.ref.version,
            document=record.signed.to_bytes(),
            kept=record.kept,
            released=record.released,
        )
        self._session.add(row)
        self._session.flush()
        return True

    def of_model(self, name: str) -> tuple[EvidenceRecord, ...]:
        """Returns the bundles about versions of a model, the oldest first."""
        query = select(EvidenceRow).where(EvidenceRow.model == name).order_by(EvidenceRow.number)
        return tuple(_record(row) for row in self._session.scalars(query))

    def mark_released(self, digest: str, *, now: datetime) -> None:
        """Notes that a version was released under a bundle; the first time stays."""
        row = self._session.scalars(select(EvidenceRow).where(EvidenceRow.digest == digest)).one()
        if row.released is None:
            row.released = now
            self._session.flush()

    def last_released(self, name: str) -> EvidenceRecord | None:
        """Returns the bundle under which a version of a model was released last, or None."""
        released = [record for record in self.of_model(name) if record.released is not None]
        return max(released, key=lambda record: record.released or record.kept, default=None)

    def latest(self, ref: ModelRef) -> EvidenceRecord:
        """Returns the last bundle about a version.

        Raises:
            ConfideError: EVIDENCE_MISSING: there is none here.
        """
        found = [record for record in self.of_model(ref.name) if record.ref == ref]
        if not found:
            what = f"no bundle of evidence about {ref.label} is kept here"
            remedy = "Make one: `confide model evidence make`."
            raise ConfideError(ErrorCode.EVIDENCE_MISSING, what, remedy=remedy)
        return found[-1]


def _record(row: EvidenceRow) -> EvidenceRecord:
    return EvidenceRecord(
        row.digest, ModelRef(row.model, row.version), SignedDocument.from_bytes(row.document), row.kept, row.released
    )
