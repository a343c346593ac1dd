"""The tables of linking: pseudonym projects with what was evaluated for whom, and private intersections.

Nothing here tells of a person: no identifier, no pseudonym, no point but powers of the base point.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from parties.storage.tables import Table, UtcTime


class PseudonymProjectRow(Table):
    """A project whose pseudonyms this party helps to make, at its current rotation."""

    __tablename__ = "pseudonym_projects"
    project: Mapped[str] = mapped_column(primary_key=True)
    rotation: Mapped[int]
    members: Mapped[str]
    evaluations: Mapped[int]
    opened: Mapped[datetime] = mapped_column(UtcTime)
    closed: Mapped[datetime | None] = mapped_column(UtcTime)


class PseudonymUseRow(Table):
    """How many evaluations this party has made for another one under one key."""

    __tablename__ = "pseudonym_uses"
    project: Mapped[str] = mapped_column(ForeignKey("pseudonym_projects.project"), primary_key=True)
    rotation: Mapped[int] = mapped_column(primary_key=True)
    peer: Mapped[str] = mapped_column(primary_key=True)
    evaluations: Mapped[int]


class PseudonymCheckRow(Table):
    """What the base point became under the keys of the first helpers, or under the own one, at first; public among members."""

    __tablename__ = "pseudonym_checks"
    project: Mapped[str] = mapped_column(ForeignKey("pseudonym_projects.project"), primary_key=True)
    rotation: Mapped[int] = mapped_column(primary_key=True)
    helper: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes]


class IntersectionRow(Table):
    """A private intersection at this side; its rows and its key are in the sealed file for as long as there is one."""

    __tablename__ = "intersections"
    intersection_id: Mapped[str] = mapped_column(primary_key=True)
    peer: Mapped[str] = mapped_column(index=True)
    label: Mapped[str]
    mode: Mapped[str]
    dataset: Mapped[str]
    schema_document: Mapped[bytes]
    own_rows: Mapped[int]
    commitment: Mapped[bytes]
    sealed_name: Mapped[str]  # empty once it is destroyed
    state: Mapped[str] = mapped_column(index=True)
    expires: Mapped[datetime] = mapped_column(UtcTime, index=True)
    session: Mapped[str] = mapped_column(index=True)  # hexadecimal; empty before the sides have met
    peer_rows: Mapped[int]
    transcript: Mapped[str]
    found: Mapped[int | None]
    alignment: Mapped[str]
    dataset_version: Mapped[int | None]
    failure: Mapped[str]  # code of what ended it; empty if nothing did
    what: Mapped[str]
