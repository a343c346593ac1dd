"""Revocations that this party has issued or heard of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from governance.consent.revocation import Effect, Revocation
from governance.documents import DocumentKind, SignedDocument
from parties.storage.consent_tables import RevocationRow


@dataclass(frozen=True)
class RevocationRecord:
    """A revocation as it is kept: what it says, the signed document, and when it arrived here, UTC."""

    revocation: Revocation
    signed: SignedDocument
    received: datetime


class RevocationStore:
    """Revocations in one transaction. It verifies no signature: whoever adds one does so before."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, signed: SignedDocument, *, now: datetime) -> bool:
        """Keeps a revocation; returns whether it is new.

        Another one of the same issuer, subject and effect adds nothing; one with a further effect does.
        """
        revocation = Revocation.from_bytes(signed.body)
        key = (revocation.subject, revocation.issuer, revocation.effect.value)
        if self._session.get(RevocationRow, key) is not None:
            return False
        self._session.add(
            RevocationRow(
                subject=revocation.subject,
                issuer=revocation.issuer,
                effect=revocation.effect.value,
                body=signed.body,
                signature=signed.signature,
                received=now,
            )
        )
        self._session.flush()
        return True

    def of(self, subject: str) -> tuple[RevocationRecord, ...]:
        """Returns the revocations of an agreement or grant, the first that arrived first.

        Whether an issuer could revoke it is the reader's question: a grant ends by its own issuer alone.
        """
        query = select(RevocationRow).where(RevocationRow.subject == subject).order_by(RevocationRow.received)
        return tuple(_record(row) for row in self._session.scalars(query))

    def strongest(self, subject: str, issuer: str) -> RevocationRecord | None:
        """Returns an issuer's revocation of a subject, the one with deletion if there are two, or None."""
        kept = {record.revocation.effect: record for record in self.of(subject) if record.revocation.issuer == issuer}
        return kept.get(Effect.DELETE) or kept.get(Effect.STOP)

    def all(self) -> tuple[RevocationRecord, ...]:
        """Returns all revocations, the first that arrived first."""
        query = select(RevocationRow).order_by(RevocationRow.received, RevocationRow.subject)
        return tuple(_record(row) for row in self._session.scalars(query))


def _record(row: RevocationRow) -> RevocationRecord:
    signed = SignedDocument(DocumentKind.REVOCATION, row.issuer, row.body, row.signature)
    return RevocationRecord(Revocation.from_bytes(row.body), signed, row.received)
