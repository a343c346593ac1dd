"""Statements between parties: what this party says to all others, and what it has heard from them.

Whoever makes a statement keeps it here in the transaction that makes it true; the serving process then tells it to everybody,
and answers with it whoever asks later (`parties/server/statements.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from governance.documents import DocumentKind, SignedDocument
from parties.storage.registry_tables import HeardStatementRow, StatementCursorRow, StatementRow
from protocols.canonical import sha256_hex


@dataclass(frozen=True)
class StatementRecord:
    """A statement with its number among those of this party, or among those that have arrived; counts from 1; public."""

    number: int
    document: SignedDocument


class StatementStore:
    """Statements in one transaction; `party` is not kept with own ones, so readers give it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def say(self, document: SignedDocument, *, now: datetime) -> int:
        """Keeps a statement that this party has signed, to be told to everybody; the same one again changes nothing.

        Returns:
            Its number.
        """
        same = (StatementRow.kind == document.kind.value) & (StatementRow.body == document.body)
        known = self._session.scalar(select(StatementRow.number).where(same))
        if known is not None:
            return known
        row = StatementRow(kind=document.kind.value, body=document.body, signature=document.signature, made=now)
        self._session.add(row)
        self._session.flush()
        return row.number

    def last_number(self) -> int:
        """Returns the number of the latest own statement, 0 if there is none."""
        return self._session.scalar(select(func.max(StatementRow.number))) or 0

    def last_heard(self) -> int:
        """Returns the number of the latest statement of another party, 0 if there is none."""
        return self._session.scalar(select(func.max(HeardStatementRow.number))) or 0

    def after(self, number: int, *, party: str, limit: int) -> tuple[StatementRecord, ...]:
        """Returns the own statements after a number, in their order.

        Args:
            number: 0 for all.
            party: this party, which signed them.
            limit: at most so many.
        """
        query = select(StatementRow).where(StatementRow.number > number).order_by(StatementRow.number).limit(limit)
        return tuple(
            StatementRecord(row.number, SignedDocument(DocumentKind(row.kind), party, row.body, row.signature))
            for row in self._session.scalars(query)
        )

    def hear(self, document: SignedDocument, *, now: datetime) -> bool:
        """Keeps a verified statement of another party.

        Returns:
            Whether it is new; the same one again changes nothing.
        """
        if self.has_heard(document):
            return False
        row = HeardStatementRow(
            signer=document.signer,
            digest=_digest(document),
            kind=document.kind.value,
            body=document.body,
            signature=document.signature,
            heard=now,
        )
        self._session.add(row)
        self._session.flush()
        return True

    def has_heard(self, document: SignedDocument) -> bool:
        """Returns whether a statement is kept already."""
        same = (HeardStatementRow.signer == document.signer) & (HeardStatementRow.digest == _digest(document))
        return self._session.scalar(select(HeardStatementRow.number).where(same)) is not None

    def num_heard(self, signer: str, kind: DocumentKind) -> int:
        """Returns how many statements of one kind by a party are kept."""
        same = (HeardStatementRow.signer == signer) & (HeardStatementRow.kind == kind.value)
        query = select(func.count()).select_from(HeardStatementRow).where(same)
        return self._session.scalar(query) or 0

    def bytes_heard(self, signer: str) -> int:
        """Returns how many bytes the kept statements of a party have together."""
        query = select(func.sum(func.length(HeardStatementRow.body))).where(HeardStatementRow.signer == signer)
        return self._session.scalar(query) or 0

    def heard(self, kind: DocumentKind, *, by: Collection[str] | None = None) -> tuple[SignedDocument, ...]:
        """Returns the statements of others of one kind, of these parties or of all, in the order in which they arrived."""
        return tuple(record.document for record in self.heard_records(kind, by=by))

    def heard_records(self, kind: DocumentKind, *, by: Collection[str] | None = None) -> tuple[StatementRecord, ...]:
        """Returns what `heard` does, with numbers."""
        query = select(HeardStatementRow).where(HeardStatementRow.kind == kind.value)
        if by is not None:
            query = query.where(HeardStatementRow.signer.in_(list(by)))
        ordered = query.order_by(HeardStatementRow.number)
        return tuple(
            StatementRecord(row.number, SignedDocument(kind, row.signer, row.body, row.signature))
            for row in self._session.scalars(ordered)
        )

    def own(self, kind: DocumentKind, *, party: str) -> tuple[SignedDocument, ...]:
        """Returns the statements of this party of one kind, in their order."""
        return tuple(record.document for record in self.own_records(kind, party=party))

    def own_records(self, kind: DocumentKind, *, party: str) -> tuple[StatementRecord, ...]:
        """Returns what `own` does, with numbers."""
        query = select(StatementRow).where(StatementRow.kind == kind.value).order_by(StatementRow.number)
        return tuple(
            StatementRecord(row.number, SignedDocument(kind, party, row.body, row.signature))
            for row in self._session.scalars(query)
        )

    def cursor(self, party: str) -> int:
        """Returns up to which number another party has been asked; 0 if never."""
        row = self._session.get(StatementCursorRow, party)
        return 0 if row is None else row.number

    def move_cursor(self, party: str, number: int) -> None:
        """Notes up to which number another party's statements have been taken in."""
        row = self._session.get(StatementCursorRow, party)
        if row is None:
            self._session.add(StatementCursorRow(party=party, number=number))
        else:
            row.number = number
        self._session.flush()


def _digest(document: SignedDocument) -> str:
    return sha256_hex(document.kind.value.encode() + b"\0" + document.body)
