"""The tables of evidence: the bundles that a party has made about model versions that it holds, and about models of its own."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class BundleRow(Table):
    """One bundle as it was signed; the number is its place among those of this party."""

    __abstract__ = True
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(unique=True)
    model: Mapped[str] = mapped_column(index=True)
    version: Mapped[str]
    document: Mapped[bytes]
    kept: Mapped[datetime] = mapped_column(UtcTime)
    released: Mapped[datetime | None] = mapped_column(UtcTime)
    decided: Mapped[int | None]
    said: Mapped[int]
    heard: Mapped[int]


class EvidenceRow(BundleRow):
    """About a version that is held as shares."""

    __tablename__ = "evidence"


class OwnEvidenceRow(BundleRow):
    """About a model of this party's own; names of such models and of those held as shares have nothing to do with each other."""

    __tablename__ = "own_evidence"


class OwnModelRow(Table):
    """A model of this party's own that there is evidence about.

    The salt is what ties the commitment to the weights; the sketch tells whether another model is this one but for some digits.
    """

    __tablename__ = "own_models"
    commitment: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    salt: Mapped[bytes]
    sketch: Mapped[bytes]
