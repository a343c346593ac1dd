"""What the owner of published models keeps: models, grants, enquiries, and how many numbers each has been answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Select, case, func, select
from sqlalchemy.orm import Session

from governance.documents import DocumentKind, SignedDocument
from governance.encrypted.enquiry import Enquiry
from governance.encrypted.grant import EncryptedGrant
from governance.encrypted.published import PublishedModel
from parties.storage.encrypted_tables import EncryptedAnswerRow, EncryptedGrantRow, EnquiryRow, PublishedModelRow
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef

_MODELS_READ = 64


@dataclass(frozen=True)
class PublishedRecord:
    """A published model as it stands here.

    Attributes:
        model: what is public.
        signed: the document, verbatim.
        manifest: canonical bytes of its architecture.
        salt: of its commitment, 32 bytes; secret.
        sealed_name: the sealed file with its weights.
        published: when, UTC.
        withdrawn: when it was withdrawn, or None.
    """

    model: PublishedModel
    signed: SignedDocument
    manifest: bytes
    salt: bytes
    sealed_name: str
    published: datetime
    withdrawn: datetime | None

    @property
    def object_id(self) -> str:
        """Under which its weights are sealed."""
        return sealed_id(self.model.ref)


@dataclass(frozen=True)
class EncryptedGrantRecord:
    """A grant for a published model as it was issued.

    Attributes:
        grant: what it says.
        signed: the document, verbatim.
        created: when it was issued here, UTC.
        learnt: numbers answered or set aside under it.
    """

    grant: EncryptedGrant
    signed: SignedDocument
    created: datetime
    learnt: int


@dataclass(frozen=True)
class EnquiryRecord:
    """An accepted enquiry as it stands.

    Attributes:
        enquiry: what it asks.
        grant_id: the grant that it counts against.
        accepted: when, UTC.
        answered: numbers that its answers can hold so far.
        requests: how many requests were answered.
        ended: when it ended, or None while it is open.
        reason: why it ended, in a word.
    """

    enquiry: Enquiry
    grant_id: str
    accepted: datetime
    answered: int
    requests: int
    ended: datetime | None
    reason: str | None


# Once it has ended, only what was answered counts; until then all that it set aside.
_ANSWERED = (
    select(func.coalesce(func.sum(EncryptedAnswerRow.answers), 0))
    .where(EncryptedAnswerRow.enquiry_id == EnquiryRow.enquiry_id)
    .scalar_subquery()
)
_LEARNT = case((EnquiryRow.ended.is_(None), EnquiryRow.max_answers), else_=_ANSWERED)


def sealed_id(model: ModelRef) -> str:
    """Returns the name under which the weights of a published model are sealed."""
    return model.label


class EncryptedStore:
    """Encrypted inference in one transaction. It verifies no signature: whoever adds a document does so before."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # Models.

    def publish(
        self, signed: SignedDocument, *, manifest: bytes, salt: bytes, sealed_name: str, now: datetime
    ) -> PublishedRecord:
        """Keeps a published model.

        Raises:
            ConfideError: JOB_CONFLICT (the operator's fault): it is published already.
        """
        model = PublishedModel.from_bytes(signed.body)
        if self._session.get(PublishedModelRow, (model.name, model.ref.version)) is not None:
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"{model.ref.label} is published already")
        row = PublishedModelRow(
            name=model.name,
            version=model.ref.version,
            body=signed.body,
            signature=signed.signature,
            manifest=manifest,
            salt=salt,
            sealed_name=sealed_name,
            published=now,
            withdrawn=None,
        )
        self._session.add(row)
        self._session.flush()
        return _published(row)

    def find_model(self, model: ModelRef) -> PublishedRecord | None:
        """Returns a published model, withdrawn or not, or None."""
        row = self._session.get(PublishedModelRow, (model.name, model.version))
        return None if row is None else _published(row)

    def models(self) -> tuple[PublishedRecord, ...]:
        """Returns all published models, the latest first."""
        query = select(PublishedModelRow).order_by(PublishedModelRow.published.desc(), PublishedModelRow.version)
        return tuple(_published(row) for row in self._session.scalars(query))

    def withdraw(self, model: ModelRef, now: datetime) -> PublishedRecord:
        """Keeps that a model answers nothing any more; again changes nothing.

        Raises:
            ConfideError: UNKNOWN_MODEL (the operator's fault).
        """
        row = self._session.get(PublishedModelRow, (model.name, model.version))
        if row is None:
            raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"{model.label} is not published here")
        row.withdrawn = row.withdrawn or now
        self._session.flush()
        return _published(row)

    def withdrawn(self) -> frozenset[str]:
        """Returns the models that answer nothing any more, each `name@version`."""
        query = select(PublishedModelRow.name, PublishedModelRow.version).where(PublishedModelRow.withdrawn.is_not(None))
        return frozenset(ModelRef(name, version).label for name, version in self._session.execute(query))

    def sealed_names(self) -> tuple[str, ...]:
        """Returns the names of all sealed files of published models; those of withdrawn ones are no longer needed."""
        return tuple(self._session.scalars(select(PublishedModelRow.sealed_name).where(PublishedModelRow.withdrawn.is_(None))))

    # Grants.

    def add_grant(self, signed: SignedDocument, *, now: datetime) -> EncryptedGrantRecord:
        """Keeps a grant; the same one again changes nothing."""
        grant = EncryptedGrant.from_bytes(signed.body)
        row = self._session.get(EncryptedGrantRow, grant.grant_id)
        if row is None:
            row = EncryptedGrantRow(
                grant_id=grant.grant_id, model=grant.ref.label, body=signed.body, signature=signed.signature, created=now
            )
            self._session.add(row)
            self._session.flush()
        return self._grant(row)

    def find_grant(self, grant_id: str) -> EncryptedGrantRecord | None:
        """Returns a grant for a published model, or None if this party has issued none of that id."""
        row = self._session.get(EncryptedGrantRow, grant_id)
        return None if row is None else self._grant(row)

    def grants(self, model: ModelRef | None = None) -> tuple[EncryptedGrantRecord, ...]:
        """Returns the grants for a published model, or for all, the latest first."""
        query = select(EncryptedGrantRow).order_by(EncryptedGrantRow.created.desc(), EncryptedGrantRow.grant_id)
        if model is not None:
            query = query.where(EncryptedGrantRow.model == model.label)
        return tuple(self._grant(row) for row in self._session.scalars(query))

    # Enquiries.

    def accept(self, signed: SignedDocument, *, grant_id: str, now: datetime) -> EnquiryRecord:
        """Keeps an accepted enquiry; the same one again changes nothing."""
        enquiry = Enquiry.from_bytes(signed.body)
        row = self._session.get(EnquiryRow, enquiry.enquiry_id)
        if row is None:
            row = EnquiryRow(
                enquiry_id=enquiry.enquiry_id,
                grant_id=grant_id,
                model=enquiry.ref.label,
                querier=enquiry.querier,
                key=enquiry.key,
                body=signed.body,
                signature=signed.signature,
                max_answers=enquiry.max_answers,
                accepted=now,
                expires=enquiry.expires,
                ended=None,
                reason=None,
            )
            self._session.add(row)
            self._session.flush()
        return self._enquiry(row)

    def find_enquiry(self, enquiry_id: str) -> EnquiryRecord | None:
        """Returns an accepted enquiry, or None."""
        row = self._session.get(EnquiryRow, enquiry_id)
        return None if row is None else self._enquiry(row)

    def open_enquiries(self) -> tuple[EnquiryRecord, ...]:
        """Returns all enquiries that have not ended, the oldest first."""
        query = select(EnquiryRow).where(EnquiryRow.ended.is_(None)).order_by(EnquiryRow.accepted, EnquiryRow.enquiry_id)
        return tuple(self._enquiry(row) for row in self._session.scalars(query))

    def enquiries_under(self, grant_id: str) -> tuple[EnquiryRecord, ...]:
        """Returns all enquiries that count against a grant, the oldest first."""
        query = select(EnquiryRow).where(EnquiryRow.grant_id == grant_id).order_by(EnquiryRow.accepted, EnquiryRow.enquiry_id)
        return tuple(self._enquiry(row) for row in self._session.scalars(query))

    def answer(self, enquiry_id: str, request: str, *, answers: int, now: datetime) -> EnquiryRecord:
        """Debits an answer that is about to leave.

        Args:
            enquiry_id: of which enquiry.
            request: chosen by the querier, 32 hexadecimal digits; one id is answered once.
            answers: numbers that the answer can hold.
            now: the time, UTC.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT, NOT_READY (the enquiry has ended), JOB_CONFLICT (the id was used), QUOTA_EXHAUSTED
                (the querier's fault).
        """
        row = self._session.get(EnquiryRow, enquiry_id)
        if row is None:
            raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, f"this party has accepted no enquiry {enquiry_id[:32]}")
        if row.ended is not None or now >= row.expires:
            raise ConfideError(
                ErrorCode.NOT_READY, f"the enquiry has ended: {row.reason or 'expired'}", remedy="Make another one."
            )
        if self._session.get(EncryptedAnswerRow, (enquiry_id, request)) is not None:
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"request {request} was answered before; an id serves once")
        record = self._enquiry(row)
        left = row.max_answers - record.answered
        if answers > left:
            what = f"an answer can hold {answers} numbers; {left} of {row.max_answers} are left of the enquiry"
            raise ConfideError(ErrorCode.QUOTA_EXHAUSTED, what, remedy="Make another enquiry.")
        self._session.add(EncryptedAnswerRow(enquiry_id=enquiry_id, request=request, answers=answers, time=now))
        self._session.flush()
        return self._enquiry(row)

    def is_answered(self, enquiry_id: str, request: str) -> bool:
        """Returns whether a request was answered before: its id served."""
        return self._session.get(EncryptedAnswerRow, (enquiry_id, request)) is not None

    def end(self, enquiry_id: str, *, reason: str, now: datetime) -> EnquiryRecord:
        """Ends an enquiry: only what was answered counts from now on; again changes nothing.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT (the asker's fault).
        """
        row = self._session.get(EnquiryRow, enquiry_id)
        if row is None:
            raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, f"this party has accepted no enquiry {enquiry_id[:32]}")
        if row.ended is None:
            row.ended, row.reason = now, reason
            self._session.flush()
        return self._enquiry(row)

    # What is learnt.

    def learnt_of_model(self, model: ModelRef, *, but_for: tuple[str, ...] = ()) -> int:
        """Returns the numbers answered or set aside of a model over its life, but for those under some grants."""
        query = select(func.coalesce(func.sum(_LEARNT), 0)).where(EnquiryRow.model == model.label)
        return self._number(query.where(EnquiryRow.grant_id.not_in(but_for)) if but_for else query)

    def learnt_by_key(self, model: ModelRef, key: str) -> int:
        """Returns the numbers of a model answered or set aside under one key."""
        return self._number(
            select(func.coalesce(func.sum(_LEARNT), 0)).where(EnquiryRow.model == model.label, EnquiryRow.key == key)
        )

    def key_since(self, key: str) -> datetime | None:
        """Returns when a key was first named in an accepted enquiry, or None."""
        query = select(EnquiryRow.accepted).where(EnquiryRow.key == key).order_by(EnquiryRow.accepted).limit(1)
        return self._session.scalar(query)

    def key_owner(self, key: str) -> str | None:
        """Returns which querier first named a key in an accepted enquiry, or None."""
        query = select(EnquiryRow.querier).where(EnquiryRow.key == key).order_by(EnquiryRow.accepted).limit(1)
        return self._session.scalar(query)

    def requests_since(self, querier: str, grant_id: str, since: datetime) -> int:
        """Returns how many requests of a querier were answered under a grant since a time."""
        query = select(func.count()).select_from(EncryptedAnswerRow).join(EnquiryRow, _SAME)
        return self._number(
            query.where(EnquiryRow.querier == querier, EnquiryRow.grant_id == grant_id, EncryptedAnswerRow.time >= since)
        )

    def _number(self, query: Select[int]) -> int:
        return int(self._session.execute(query).scalar_one())

    def _grant(self, row: EncryptedGrantRow) -> EncryptedGrantRecord:
        grant = EncryptedGrant.from_bytes(row.body)
        if grant.grant_id != row.grant_id:
            what = f"grant {row.grant_id} in the database is not the document that was signed"
            raise ConfideError(ErrorCode.STATE_DAMAGED, what)
        learnt = self._number(select(func.coalesce(func.sum(_LEARNT), 0)).where(EnquiryRow.grant_id == row.grant_id))
        signed = SignedDocument(DocumentKind.ENCRYPTED_GRANT, grant.issuer, row.body, row.signature)
        return EncryptedGrantRecord(grant, signed, row.created, learnt)

    def _enquiry(self, row: EnquiryRow) -> EnquiryRecord:
        enquiry = Enquiry.from_bytes(row.body)
        if enquiry.enquiry_id != row.enquiry_id:
            what = f"enquiry {row.enquiry_id} in the database is not the document that was signed"
            raise ConfideError(ErrorCode.STATE_DAMAGED, what)
        answered = select(func.coalesce(func.sum(EncryptedAnswerRow.answers), 0), func.count()).where(
            EncryptedAnswerRow.enquiry_id == row.enquiry_id
        )
        numbers, requests = self._session.execute(answered).one()
        return EnquiryRecord(enquiry, row.grant_id, row.accepted, int(numbers), int(requests), row.ended, row.reason)


_SAME = EncryptedAnswerRow.enquiry_id == EnquiryRow.enquiry_id


@lru_cache(maxsize=_MODELS_READ)
def _model_of(body: bytes) -> PublishedModel:
    """Reads a description once: it is asked for with every query, and reading takes tens of milliseconds."""
    return PublishedModel.from_bytes(body)


def _published(row: PublishedModelRow) -> PublishedRecord:
    model = _model_of(row.body)
    if (model.name, model.ref.version) != (row.name, row.version):
        what = f"published model {row.name}@{row.version} in the database is not the document that was signed"
        raise ConfideError(ErrorCode.STATE_DAMAGED, what)
    signed = SignedDocument(DocumentKind.PUBLISHED_MODEL, model.issuer, row.body, row.signature)
    return PublishedRecord(model, signed, row.manifest, row.salt, row.sealed_name, row.published, row.withdrawn)
