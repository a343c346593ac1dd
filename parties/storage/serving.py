"""What a party keeps of its servings: the queries that it let in, how much was answered, and what an operator stopped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import String, bindparam, delete, exists, func, insert, or_, select
from sqlalchemy.orm import Session

from parties.storage.consent_tables import AgreementRow, AgreementSignatureRow, GrantRow, RevocationRow
from parties.storage.registry_tables import HeardStatementRow, ModelMarkRow
from parties.storage.serving_tables import ServedQueryRow, ServingEndRow, ServingStopRow
from parties.storage.tables import EndingRow
from protocols.errors import ConfideError, ErrorCode

# Rows are added to them and never changed.
_CONSENTS = (AgreementRow, AgreementSignatureRow, GrantRow, RevocationRow, HeardStatementRow, ModelMarkRow)
_STAMP = select(*(select(func.count()).select_from(row).scalar_subquery() for row in _CONSENTS))
# For every query there is one statement that reads and one that writes; making objects of rows would cost several times as much.
_JOB, _QUERY = bindparam("job_id", type_=String), bindparam("query", type_=String)
_STANDING = select(
    or_(exists().where(ServingEndRow.job_id == _JOB), exists().where(EndingRow.job_id == _JOB)),
    exists().where(ServedQueryRow.job_id == _JOB, ServedQueryRow.query == _QUERY),
)
_LET_IN = insert(ServedQueryRow)


@dataclass(frozen=True)
class QueryRecord:
    """A query that this party lets in; public.

    Attributes:
        job_id: the serving.
        query: the querier's id of it, 32 hexadecimal digits; no two queries of a serving have the same.
        num_rows: its samples.
        commitment: salted, to the samples, 64 hexadecimal digits.
        time: when, UTC.
    """

    job_id: str
    query: str
    num_rows: int
    commitment: str
    time: datetime


@dataclass(frozen=True)
class Served:
    """How much a serving has answered, or may have; public."""

    queries: int
    num_rows: int


class ServingStore:
    """Servings in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def let_in(self, record: QueryRecord) -> None:
        """Keeps a query.

        Raises:
            ConfideError: JOB_CONFLICT (the querier's fault): a query of this id was let in before; NOT_READY (nobody's): the
                serving is over.
        """
        values = vars(record)
        is_over, is_known = self._session.connection().execute(_STANDING, values).one()
        if is_over:  # what it has answered may be counted already, and this one never would be
            raise ConfideError(ErrorCode.NOT_READY, "the serving has ended", remedy="Begin another serving.")
        if is_known:
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"query {record.query} was asked before; an id serves once")
        self._session.connection().execute(_LET_IN, values)

    def take_back(self, job_id: str, query: str) -> None:
        """Forgets a query that this party's worker refused: its share of the answer was never made, so nobody can have it."""
        self._session.execute(delete(ServedQueryRow).where(ServedQueryRow.job_id == job_id, ServedQueryRow.query == query))

    def close(self, job_id: str, *, reason: str, served: Served) -> None:
        """Keeps what the participants agree a serving has answered; again changes nothing."""
        if self._session.get(ServingEndRow, job_id) is None:
            self._session.add(ServingEndRow(job_id=job_id, reason=reason, queries=served.queries, num_rows=served.num_rows))
            self._session.flush()

    def end_of(self, job_id: str) -> tuple[str, Served] | None:
        """Returns why a serving ended and what it answered, or None if that was not agreed."""
        row = self._session.get(ServingEndRow, job_id)
        return None if row is None else (row.reason, Served(row.queries, row.num_rows))

    def let_in_so_far(self, job_id: str) -> Served:
        """Returns how many queries were let in, with their rows: no more than these can have been answered."""
        query = select(func.count(), func.coalesce(func.sum(ServedQueryRow.num_rows), 0)).where(ServedQueryRow.job_id == job_id)
        queries, num_rows = self._session.execute(query).one()
        return Served(int(queries), int(num_rows))

    def used(self, job_id: str) -> Served:
        """Returns what counts against budgets: what the participants agree on, else everything that was let in here."""
        end = self.end_of(job_id)
        return self.let_in_so_far(job_id) if end is None else end[1]

    def consent_stamp(self) -> str:
        """Returns a text that is another one whenever anything was added that a consent to a serving can end by.

        Asked for every query, so that only a change makes the release gate read all documents again.
        """
        return "/".join(map(str, self._session.connection().execute(_STAMP).one()))

    def ask_to_stop(self, job_id: str, now: datetime) -> None:
        """Keeps that an operator wants a serving to end; again changes nothing."""
        if self._session.get(ServingStopRow, job_id) is None:
            self._session.add(ServingStopRow(job_id=job_id, time=now))
            self._session.flush()

    def stops(self) -> frozenset[str]:
        """Returns the ids of all servings that an operator has asked to end."""
        return frozenset(self._session.scalars(select(ServingStopRow.job_id)))
