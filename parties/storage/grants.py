"""Grants that this party has issued, and the jobs that used them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from governance.consent.grant import Grant
from governance.consent.revocation import Revocation
from governance.documents import DocumentKind, SignedDocument
from parties.storage.consent_tables import GrantRow, GrantUseRow
from parties.storage.revocations import RevocationStore
from protocols.errors import ConfideError, ErrorCode


@dataclass(frozen=True)
class GrantRecord:
    """A grant as it stands.

    Attributes:
        grant: what it says.
        signed: the document, verbatim.
        created: when it was issued here, UTC.
        uses: jobs that it covers or covered.
        revocation: its issuer's, or None.
    """

    grant: Grant
    signed: SignedDocument
    created: datetime
    uses: int
    revocation: Revocation | None

    @property
    def grant_id(self) -> str:
        """How it is named."""
        return self.grant.grant_id

    @property
    def derived_until(self) -> datetime:
        """When models that come of it stop being used, UTC."""
        return self.grant.derived_until

    def standing(self, now: datetime) -> str:
        """Returns in a word or two whether it covers jobs on its subject now; for people."""
        if self.revocation is not None:
            return "revoked"
        if now >= self.grant.expires:
            return "expired"
        if now < self.grant.valid_from:
            return "not yet valid"
        return "used up" if self.uses >= self.grant.max_uses else "in force"


class GrantStore:
    """Grants in one transaction. It verifies no signature: whoever adds one does so before."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._revocations = RevocationStore(session)

    def add(self, signed: SignedDocument, *, now: datetime) -> GrantRecord:
        """Keeps a grant; the same one again changes nothing."""
        grant = Grant.from_bytes(signed.body)
        if self._session.get(GrantRow, grant.grant_id) is None:
            self._session.add(
                GrantRow(
                    grant_id=grant.grant_id,
                    subject=grant.subject.label,
                    body=signed.body,
                    signature=signed.signature,
                    created=now,
                )
            )
            self._session.flush()
        return self.get(grant.grant_id)

    def find(self, grant_id: str) -> GrantRecord | None:
        """Returns a grant, or None if this party has issued none of that id."""
        row = self._session.get(GrantRow, grant_id)
        return None if row is None else self._record(row)

    def get(self, grant_id: str) -> GrantRecord:
        """Returns a grant.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT (the asker's fault).
        """
        found = self.find(grant_id)
        if found is None:
            raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, f"this party has issued no grant {grant_id[:32]}")
        return found

    def all(self) -> tuple[GrantRecord, ...]:
        """Returns all grants, the latest first."""
        query = select(GrantRow).order_by(GrantRow.created.desc(), GrantRow.grant_id)
        return tuple(self._record(row) for row in self._session.scalars(query))

    def use(self, grant_id: str, job_id: str) -> None:
        """Counts a job against a grant; the same job again is the same use.

        Raises:
            ConfideError: GRANT_EXHAUSTED (the owner's limit): it has been used as often as it permits; UNKNOWN_DOCUMENT.
        """
        if self._session.get(GrantUseRow, (grant_id, job_id)) is not None:
            return
        record = self.get(grant_id)
        if record.uses >= record.grant.max_uses:
            what = f"grant {grant_id} has been used {record.uses} times, as often as it permits"
            raise ConfideError(ErrorCode.GRANT_EXHAUSTED, what, party=record.grant.issuer)
        self._session.add(GrantUseRow(grant_id=grant_id, job_id=job_id))
        self._session.flush()

    def give_back(self, job_id: str) -> None:
        """Takes back what a job counted, for one that ended before anything was computed for it; again changes nothing."""
        self._session.execute(delete(GrantUseRow).where(GrantUseRow.job_id == job_id))

    def used_by(self, job_id: str) -> tuple[str, ...]:
        """Returns the ids of the grants that a job counts against, in order."""
        query = select(GrantUseRow.grant_id).where(GrantUseRow.job_id == job_id).order_by(GrantUseRow.grant_id)
        return tuple(self._session.scalars(query))

    def jobs(self, grant_id: str) -> tuple[str, ...]:
        """Returns the ids of the jobs that count against a grant, in order."""
        query = select(GrantUseRow.job_id).where(GrantUseRow.grant_id == grant_id).order_by(GrantUseRow.job_id)
        return tuple(self._session.scalars(query))

    def _record(self, row: GrantRow) -> GrantRecord:
        grant = _read(row)
        uses = select(func.count()).select_from(GrantUseRow).where(GrantUseRow.grant_id == row.grant_id)
        revoked = self._revocations.strongest(row.grant_id, grant.issuer)
        return GrantRecord(
            grant=grant,
            signed=SignedDocument(DocumentKind.GRANT, grant.issuer, row.body, row.signature),
            created=row.created,
            uses=self._session.scalars(uses).one(),
            revocation=None if revoked is None else revoked.revocation,
        )


def _read(row: GrantRow) -> Grant:
    """A document that is not the one that was kept would permit what nobody signed."""
    try:
        grant = Grant.from_bytes(row.body)
    except ConfideError as error:
        raise ConfideError(ErrorCode.STATE_DAMAGED, f"grant {row.grant_id} in the database does not read any more") from error
    if grant.grant_id != row.grant_id:
        raise ConfideError(ErrorCode.STATE_DAMAGED, f"grant {row.grant_id} in the database is not the document that was signed")
    return grant
