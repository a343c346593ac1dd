"""What people of the institution signed, and the policies under which they did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from governance.documents import SignedDocument
from parties.storage.approval_tables import ApprovalRequestRow, ApprovalRow, AuthorisationRow, PolicyRow, PreviewRow
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode


@dataclass(frozen=True)
class PolicyRecord:
    """A policy that decided here; `number` counts from 1."""

    number: int
    digest: str
    document: bytes
    since: datetime


@dataclass(frozen=True)
class ApprovalRequest:
    """A job that waits, or waited, for people.

    Attributes:
        job_id: the job.
        plan_digest: the plan that they are asked about.
        policy_digest: the policy that asks them.
        rule: its rule, by name.
        needed: how many must approve.
        approvers: ids of those who may.
        asked: since when, UTC.
    """

    job_id: str
    plan_digest: str
    policy_digest: str
    rule: str
    needed: int
    approvers: tuple[str, ...]
    asked: datetime


class AuthorisationStore:
    """Authorisations in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, signed: SignedDocument, *, now: datetime) -> None:
        """Keeps an authorisation; the same once more is the same."""
        data = signed.to_bytes()
        digest = sha256_hex(data)
        if self._session.get(AuthorisationRow, digest) is None:
            self._session.add(AuthorisationRow(digest=digest, person=signed.signer, document=data, kept=now))
            self._session.flush()

    def all(self) -> tuple[SignedDocument, ...]:
        """Returns all of them, the oldest first."""
        query = select(AuthorisationRow.document).order_by(AuthorisationRow.kept, AuthorisationRow.digest)
        return tuple(SignedDocument.from_bytes(data) for data in self._session.scalars(query))


class PolicyStore:
    """The policies that were in force, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, *, digest: str, document: bytes, now: datetime) -> bool:
        """Keeps the policy in force; returns whether it is another one than the last that was kept."""
        latest = self.latest()
        if latest is not None and latest.digest == digest:
            return False
        number = 1 if latest is None else latest.number + 1
        self._session.add(PolicyRow(number=number, digest=digest, document=document, since=now))
        self._session.flush()
        return True

    def latest(self) -> PolicyRecord | None:
        """Returns the last one, or None before the first."""
        row = self._session.scalars(select(PolicyRow).order_by(PolicyRow.number.desc()).limit(1)).first()
        return None if row is None else PolicyRecord(row.number, row.digest, row.document, row.since)


class ApprovalStore:
    """Requests for approval, what people signed, and what they were shown, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def ask(self, request: ApprovalRequest) -> bool:
        """Keeps what people are asked about a job, in place of what they were asked before; returns whether that is new."""
        known = self.request(request.job_id)
        if known is not None and _same_question(known, request):
            return False
        self._session.execute(delete(ApprovalRequestRow).where(ApprovalRequestRow.job_id == request.job_id))
        self._session.add(ApprovalRequestRow(**{**vars(request), "approvers": " ".join(request.approvers)}))
        self._session.flush()
        return True

    def request(self, job_id: str) -> ApprovalRequest | None:
        """Returns what people are, or were, asked about a job, or None if it never waited for anybody."""
        row = self._session.get(ApprovalRequestRow, job_id)
        return None if row is None else _request(row)

    def requests(self) -> tuple[ApprovalRequest, ...]:
        """Returns every request there is or was, the oldest first."""
        query = select(ApprovalRequestRow).order_by(ApprovalRequestRow.asked, ApprovalRequestRow.job_id)
        return tuple(_request(row) for row in self._session.scalars(query))

    def add(self, job_id: str, signed: SignedDocument, *, now: datetime) -> bool:
        """Keeps somebody's yes or no; returns whether it is new."""
        data = signed.to_bytes()
        digest = sha256_hex(data)
        if self._session.get(ApprovalRow, digest) is not None:
            return False
        self._session.add(ApprovalRow(digest=digest, job_id=job_id, person=signed.signer, document=data, kept=now))
        self._session.flush()
        return True

    def of_job(self, job_id: str) -> tuple[SignedDocument, ...]:
        """Returns what people signed about a job, the oldest first."""
        query = select(ApprovalRow.document).where(ApprovalRow.job_id == job_id).order_by(ApprovalRow.kept, ApprovalRow.digest)
        return tuple(SignedDocument.from_bytes(data) for data in self._session.scalars(query))

    def count(self) -> int:
        """Returns how many have been kept; grows with every one, so that a watcher sees that something is new."""
        return self._session.scalars(select(func.count()).select_from(ApprovalRow)).one()

    def keep_preview(self, job_id: str, document: bytes) -> None:
        """Keeps the preview of a job, in place of an earlier one."""
        self._session.execute(delete(PreviewRow).where(PreviewRow.job_id == job_id))
        self._session.add(PreviewRow(job_id=job_id, document=document))
        self._session.flush()

    def preview(self, job_id: str) -> bytes:
        """Returns the preview of a job as it was kept.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT: there is none here.
        """
        row = self._session.get(PreviewRow, job_id)
        if row is None:
            raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, f"no preview of job {job_id[:32]} is kept here")
        return row.document


def _same_question(one: ApprovalRequest, other: ApprovalRequest) -> bool:
    return all(
        getattr(one, name) == getattr(other, name) for name in ("plan_digest", "policy_digest", "rule", "needed", "approvers")
    )


def _request(row: ApprovalRequestRow) -> ApprovalRequest:
    return ApprovalRequest(
        job_id=row.job_id,
        plan_digest=row.plan_digest,
        policy_digest=row.policy_digest,
        rule=row.rule,
        needed=row.needed,
        approvers=tuple(row.approvers.split()),
        asked=row.asked,
    )
