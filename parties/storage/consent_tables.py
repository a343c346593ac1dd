"""The tables of agreements, grants, their uses, and revocations."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class AgreementRow(Table):
    """An agreement that is known here, signed or not."""

    __tablename__ = "agreements"
    digest: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[bytes]
    created: Mapped[datetime] = mapped_column(UtcTime, index=True)


class AgreementSignatureRow(Table):
    """One party's signature under an agreement."""

    __tablename__ = "agreement_signatures"
    digest: Mapped[str] = mapped_column(ForeignKey("agreements.digest"), primary_key=True)
    signer: Mapped[str] = mapped_column(primary_key=True)
    signature: Mapped[bytes]


class GrantRow(Table):
    """A grant that this party has issued."""

    __tablename__ = "grants"
    grant_id: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(index=True)
    body: Mapped[bytes]
    signature: Mapped[bytes]
    created: Mapped[datetime] = mapped_column(UtcTime, index=True)


class GrantUseRow(Table):
    """One job that a grant covers; it counts until it is given back."""

    __tablename__ = "grant_uses"
    grant_id: Mapped[str] = mapped_column(ForeignKey("grants.grant_id"), primary_key=True)
    job_id: Mapped[str] = mapped_column(primary_key=True, index=True)


class RevocationRow(Table):
    """The end of an agreement or grant, of this party's or of another's; kept even if its subject is not known here."""

    __tablename__ = "revocations"
    subject: Mapped[str] = mapped_column(primary_key=True)
    issuer: Mapped[str] = mapped_column(primary_key=True)
    effect: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[bytes]
    signature: Mapped[bytes]
    received: Mapped[datetime] = mapped_column(UtcTime)
