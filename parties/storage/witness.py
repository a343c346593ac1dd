"""What this party has seen of the others' audit logs, and the evidence if one of them contradicts itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from parties.storage.witness_tables import ForkRow, WitnessedRow

MAX_FORKS_PER_PARTY = 100


@dataclass(frozen=True)
class WitnessedRecord:
    """The newest checkpoint of a party's log that has been cosigned here; public.

    Attributes:
        party: whose log.
        size: how many entries.
        root: of the tree over them, 64 hexadecimal digits.
        note: the checkpoint with that party's own signature, as it arrived.
        seen: when, UTC.
    """

    party: str
    size: int
    root: str
    note: bytes
    seen: datetime


@dataclass(frozen=True)
class ForkRecord:
    """Evidence: two signed checkpoints of one party's log, of which the second does not extend the first; public."""

    party: str
    first: bytes
    second: bytes
    seen: datetime


class WitnessStore:
    """What has been witnessed, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def last_seen(self, party: str) -> WitnessedRecord | None:
        """Returns the newest checkpoint of a party's log that was cosigned here, or None."""
        row = self._session.get(WitnessedRow, party)
        return None if row is None else WitnessedRecord(row.party, row.size, row.root, row.note, row.seen)

    def put(self, record: WitnessedRecord) -> None:
        """Keeps a checkpoint that extends what was seen before, in its place; the caller has checked that it does."""
        row = self._session.get(WitnessedRow, record.party)
        if row is None:
            self._session.add(WitnessedRow(**vars(record)))
        else:
            row.size, row.root, row.note, row.seen = record.size, record.root, record.note, record.seen
        self._session.flush()

    def add_fork(self, record: ForkRecord) -> bool:
        """Keeps evidence of a fork.

        Returns:
            Whether it was new: the same second checkpoint again changes nothing, and of one party no more than
            `MAX_FORKS_PER_PARTY` are kept, since it can sign as many as it likes.
        """
        of_party = select(func.count()).select_from(ForkRow).where(ForkRow.party == record.party)
        known = self._session.scalar(of_party.where(ForkRow.second == record.second))
        if known or (self._session.scalar(of_party) or 0) >= MAX_FORKS_PER_PARTY:
            return False
        self._session.add(ForkRow(**vars(record)))
        self._session.flush()
        return True

    def forks(self) -> tuple[ForkRecord, ...]:
        """Returns all evidence, the oldest first."""
        rows = self._session.scalars(select(ForkRow).order_by(ForkRow.number))
        return tuple(ForkRecord(row.party, row.first, row.second, row.seen) for row in rows)
