"""Bundles of evidence about model versions, in the order in which this party made them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from governance.documents import SignedDocument
from parties.storage.evidence_tables import BundleRow, EvidenceRow, OwnEvidenceRow, OwnModelRow
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
        decided: as which of all bundles it became what later ones are compared with: people have released a version under it, or
            it was the first under which any version of the model was released; None if it did not.
        said: number of this party's last statement when it was made. What came later is not answered by it; so 0 is the strict
            side, and says enough of a model of the party's own, about which nobody tells it anything.
        heard: likewise of the last statement of another party.
    """

    digest: str
    ref: ModelRef
    signed: SignedDocument
    kept: datetime
    released: datetime | None = None
    decided: int | None = None
    said: int = 0
    heard: int = 0


class EvidenceStore:
    """Bundles about versions that are held as shares, in one transaction."""

    _rows: type[BundleRow] = EvidenceRow
    _made_by = "confide model evidence make"

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, record: EvidenceRecord) -> bool:
        """Keeps a bundle; returns whether it is new."""
        if self._session.scalars(select(self._rows).where(self._rows.digest == record.digest)).first() is not None:
            return False
        row = self._rows(
            digest=record.digest,
            model=record.ref.name,
            version=record.ref.version,
            document=record.signed.to_bytes(),
            kept=record.kept,
            released=record.released,
            decided=record.decided,
            said=record.said,
            heard=record.heard,
        )
        self._session.add(row)
        self._session.flush()
        return True

    def of_model(self, name: str) -> tuple[EvidenceRecord, ...]:
        """Returns the bundles about versions of a model, the oldest first."""
        query = select(self._rows).where(self._rows.model == name).order_by(self._rows.number)
        return tuple(_record(row) for row in self._session.scalars(query))

    def find(self, digest: str | None) -> EvidenceRecord | None:
        """Returns a bundle by the digest of its canonical bytes; None if there is none."""
        row = self._session.scalars(select(self._rows).where(self._rows.digest == digest)).first()
        return None if row is None else _record(row)

    def mark_released(self, digest: str, *, now: datetime) -> None:
        """Notes that a version was released under a bundle; the first time stays."""
        row = self._row(digest)
        if row.released is None:
            row.released = now
            self._session.flush()
        # Not the first of each version: by one version after the other a risk would rise in steps that are each within chance.
        others = (self._rows.model == row.model, self._rows.decided.is_not(None))
        if self._session.scalars(select(self._rows.number).where(*others).limit(1)).first() is None:
            self.mark_decided(digest)

    def mark_decided(self, digest: str) -> None:
        """Notes that people have decided under a bundle, so that later ones are compared with it; the first time stays.

        Decisions are counted: a clock that was ahead for a while would let the one of that time be the last for as long.
        """
        row = self._row(digest)
        if row.decided is None:
            row.decided = (self._session.scalar(select(func.max(self._rows.decided))) or 0) + 1
            self._session.flush()

    def last_decided(self, name: str, *, version: str | None = None) -> EvidenceRecord | None:
        """Returns the bundle under which people last released a version of a model, or this version; None if there is none."""
        known = [each for each in self.of_model(name) if each.decided is not None and version in (None, each.ref.version)]
        return max(known, key=lambda record: record.decided or 0, default=None)

    def latest(self, ref: ModelRef) -> EvidenceRecord:
        """Returns the last bundle about a version.

        Raises:
            ConfideError: EVIDENCE_MISSING: there is none here.
        """
        found = [record for record in self.of_model(ref.name) if record.ref == ref]
        if not found:
            what = f"no bundle of evidence about {ref.label} is kept here"
            remedy = f"Make one: `{self._made_by}`."
            raise ConfideError(ErrorCode.EVIDENCE_MISSING, what, remedy=remedy)
        return found[-1]

    def _row(self, digest: str) -> BundleRow:
        return self._session.scalars(select(self._rows).where(self._rows.digest == digest)).one()


class OwnEvidenceStore(EvidenceStore):
    """Bundles about models of this party's own, with the salts of their commitments and their sketches, in one transaction."""

    _rows = OwnEvidenceRow
    _made_by = "confide model evidence own"

    def all(self) -> tuple[EvidenceRecord, ...]:
        """Returns the bundles about all models of this party's own, the oldest first."""
        return tuple(_record(row) for row in self._session.scalars(select(self._rows).order_by(self._rows.number)))

    def keep_model(self, name: str, commitment: str, salt: bytes, sketch: bytes) -> None:
        """Keeps what ties a commitment to its weights, and what such weights are told again by; again changes nothing."""
        if self._session.get(OwnModelRow, commitment) is None:
            self._session.add(OwnModelRow(commitment=commitment, model=name, salt=salt, sketch=sketch))
            self._session.flush()

    def sketches(self) -> tuple[tuple[str, str, bytes], ...]:
        """Returns name, commitment and sketch of every such model; secret."""
        query = select(OwnModelRow.model, OwnModelRow.commitment, OwnModelRow.sketch)
        return tuple((name, commitment, sketch) for name, commitment, sketch in self._session.execute(query))

    def salts(self, name: str) -> tuple[tuple[str, bytes], ...]:
        """Returns the commitments to models of a name that there is evidence about, each with its salt; secret."""
        query = select(OwnModelRow.commitment, OwnModelRow.salt).where(OwnModelRow.model == name)
        return tuple((commitment, salt) for commitment, salt in self._session.execute(query))


def _record(row: BundleRow) -> EvidenceRecord:
    return EvidenceRecord(
        row.digest,
        ModelRef(row.model, row.version),
        SignedDocument.from_bytes(row.document),
        row.kept,
        row.released,
        row.decided,
        row.said,
        row.heard,
    )
