"""The tables of encrypted inference: what is published, who may ask, enquiries, and what was answered."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class PublishedModelRow(Table):
    """A model of this party that answers encrypted queries; its weights are sealed beside the database."""

    __tablename__ = "published_models"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[bytes]
    signature: Mapped[bytes]
    manifest: Mapped[bytes]
    salt: Mapped[bytes]
    sealed_name: Mapped[str] = mapped_column(unique=True)
    published: Mapped[datetime] = mapped_column(UtcTime)
    withdrawn: Mapped[datetime | None] = mapped_column(UtcTime)


class EncryptedGrantRow(Table):
    """A grant for a published model that this party has issued."""

    __tablename__ = "encrypted_grants"
    grant_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    body: Mapped[bytes]
    signature: Mapped[bytes]
    created: Mapped[datetime] = mapped_column(UtcTime, index=True)


class EnquiryRow(Table):
    """An enquiry that this party has accepted; what it sets aside stands in the ledger too."""

    __tablename__ = "enquiries"
    enquiry_id: Mapped[str] = mapped_column(primary_key=True)
    grant_id: Mapped[str] = mapped_column(ForeignKey("encrypted_grants.grant_id"), index=True)
    model: Mapped[str] = mapped_column(index=True)
    querier: Mapped[str] = mapped_column(index=True)
    key: Mapped[str] = mapped_column(index=True)
    body: Mapped[bytes]
    signature: Mapped[bytes]
    max_answers: Mapped[int]
    accepted: Mapped[datetime] = mapped_column(UtcTime)
    expires: Mapped[datetime] = mapped_column(UtcTime, index=True)
    ended: Mapped[datetime | None] = mapped_column(UtcTime, index=True)
    reason: Mapped[str | None]


class EncryptedAnswerRow(Table):
    """One request that is answered, written before its answer leaves; nothing of the query or the answer is here."""

    __tablename__ = "encrypted_answers"
    enquiry_id: Mapped[str] = mapped_column(ForeignKey("enquiries.enquiry_id"), primary_key=True)
    request: Mapped[str] = mapped_column(primary_key=True)
    answers: Mapped[int]
    time: Mapped[datetime] = mapped_column(UtcTime, index=True)
