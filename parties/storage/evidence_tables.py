"""The table of evidence: the bundles that a holder has made about its model versions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class EvidenceRow(Table):
    """One bundle as it was signed; the number is its place among those of this party."""

    __tablename__ = "evidence"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(unique=True)
    model: Mapped[str] = mapped_column(index=True)
    version: Mapped[str]
    document: Mapped[bytes]
    kept: Mapped[datetime] = mapped_column(UtcTime)
    released: Mapped[datetime | None] = mapped_column(UtcTime)
