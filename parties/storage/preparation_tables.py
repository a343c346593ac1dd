"""The table of preparations: how the rows of a registration were made from their raw file."""

from __future__ import annotations

from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table


class PreparationRow(Table):
    """What the owner signed of a preparation, and what it did; the seed is in the sealed file of the rows."""

    __tablename__ = "preparations"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    statement: Mapped[bytes]
    outcome: Mapped[str]
    __table_args__ = (ForeignKeyConstraint(["name", "version"], ["datasets.name", "datasets.version"]),)
