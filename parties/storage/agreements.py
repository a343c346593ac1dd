"""Agreements that are known here, with the signatures that have arrived."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from governance.consent.agreement import Agreement, SignedAgreement
from governance.documents import DocumentKind, SignedDocument
from parties.storage.consent_tables import AgreementRow, AgreementSignatureRow
from protocols.errors import ConfideError, ErrorCode


class AgreementStore:
    """Agreements in one transaction. It verifies no signature: whoever adds one does so before."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, agreement: SignedAgreement, *, now: datetime) -> bool:
        """Keeps an agreement and its signatures beside those that are kept already; returns whether anything is new.

        A second signature of the same party replaces the first: its key may have changed.
        """
        changed = self._session.get(AgreementRow, agreement.digest) is None
        if changed:
            self._session.add(AgreementRow(digest=agreement.digest, body=agreement.body, created=now))
            self._session.flush()
        for signed in agreement.signatures:
            row = self._session.get(AgreementSignatureRow, (agreement.digest, signed.signer))
            if row is None:
                self._session.add(
                    AgreementSignatureRow(digest=agreement.digest, signer=signed.signer, signature=signed.signature)
                )
                changed = True
            elif row.signature != signed.signature:
                row.signature, changed = signed.signature, True
        self._session.flush()
        return changed

    def find(self, digest: str) -> SignedAgreement | None:
        """Returns an agreement, or None if it is not known here."""
        row = self._session.get(AgreementRow, digest)
        return None if row is None else self._signed(row)

    def get(self, digest: str) -> SignedAgreement:
        """Returns an agreement.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT (the asker's fault).
        """
        found = self.find(digest)
        if found is None:
            raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, f"no agreement {digest[:64]} is known here")
        return found

    def all(self) -> tuple[SignedAgreement, ...]:
        """Returns all agreements, the latest first."""
        query = select(AgreementRow).order_by(AgreementRow.created.desc(), AgreementRow.digest)
        return tuple(self._signed(row) for row in self._session.scalars(query))

    def best_signed(self, limit: int) -> tuple[SignedAgreement, ...]:
        """Returns so many agreements, those with most signatures first, then the latest.

        Anybody may tell others of any number of agreements that nobody else has signed; these come last.
        """
        count = func.count(AgreementSignatureRow.signer)
        query = (
            select(AgreementRow)
            .outerjoin(AgreementSignatureRow, AgreementSignatureRow.digest == AgreementRow.digest)
            .group_by(AgreementRow.digest)
            .order_by(count.desc(), AgreementRow.created.desc(), AgreementRow.digest)
            .limit(limit)
        )
        return tuple(self._signed(row) for row in self._session.scalars(query))

    def _signed(self, row: AgreementRow) -> SignedAgreement:
        query = select(AgreementSignatureRow).where(AgreementSignatureRow.digest == row.digest)
        signatures = tuple(
            SignedDocument(DocumentKind.AGREEMENT, kept.signer, row.body, kept.signature)
            for kept in self._session.scalars(query.order_by(AgreementSignatureRow.signer))
        )
        return SignedAgreement(Agreement.from_bytes(row.body), row.body, signatures)
