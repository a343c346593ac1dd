"""A serving at this party: who may ask its warm worker what, and the way of a query there and of its answer back.

A desk is opened with the session's worker, takes queries once the worker says that the model is open, and is closed with the
session. Between a query and its answer no process is started and no session begins: the party hands its share of the samples
over to the worker, the workers compute, and every party hands its share of the answer out. Nothing of a query outlives it here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock, Thread
from typing import TypeAlias

from parties.server.party import Party
from parties.server.serving_log import ServingLog
from parties.storage.serving import QueryRecord, Served
from parties.worker.channel import Parcel
from protocols.commitments import bound_query
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Serving
from protocols.plan.plan import Plan

MAX_WAITING = 16  # queries of one serving that are under way at once: each holds a thread and its shares
MAX_SHARE_BYTES = (4 << 20) - (64 << 10)  # a message of the wire has 4 MiB
ANSWER_S = 60.0
_LEAST_REFUSED = 64  # queries that may be refused by the worker, or as many as the quota has queries
_HEX = re.compile(r"[0-9a-f]+")
Say: TypeAlias = "Callable[[Mapping[str, object], Mapping[str, bytes]], None]"


@dataclass(frozen=True)
class Query:
    """What a querier asks; `share` is this party's share of the samples, little-endian int64 bytes, secret."""

    query: str
    num_rows: int
    commitment: str
    share: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """This party's part of an answer.

    Attributes:
        share: refreshed, little-endian int64 bytes; secret.
        nonce: opens this party's commitment, 32 bytes; secret until the share is handed out.
        shape: of the share; public.
        scale_bits: fractional bits of the values; public.
        commitments: of all computing parties, by party, 64 hexadecimal digits each; public.
    """

    share: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    shape: tuple[int, ...]
    scale_bits: int
    commitments: Mapping[str, str]


@dataclass(frozen=True)
class _Pending:
    query: str
    num_rows: int
    answer: Future[Answer]


@dataclass(frozen=True)
class Standing:
    """How a serving stands at this party; public to its querier.

    Attributes:
        job: the serving.
        warm: whether queries are taken.
        queries_left: of the quota.
        rows_left: of the quota.
        until: when it ends at the latest, UTC; None before it is warm.
    """

    job: Job
    warm: bool
    queries_left: int
    rows_left: int
    until: datetime | None


class Desk:
    """One serving; `ask` is called on many threads, `heard` on the one that listens to the worker."""

    def __init__(self, party: Party, job: Job, plan: Plan, log: ServingLog) -> None:
        """Takes a serving whose worker is being started."""
        if job.serving is None:
            raise ConfideError(ErrorCode.INTERNAL, "a desk is of a serving")
        self.job = job
        self._serving: Serving = job.serving
        self._party = party
        self._plan = plan
        self._scale_bits = next((output.scale_bits for output in plan.outputs), 0)
        self._log = log
        self._lock = Lock()
        self._say: Say | None = None
        self._seen: set[bytes] = set()
        self._pending: dict[str, _Pending] = {}  # by the name that the worker knows, see `bound_query`
        self._asked = Served(0, 0)
        self._answered = Served(0, 0)  # what has been handed out, or is about to be
        self._refused = 0
        self._until: datetime | None = None
        self._closed: ConfideError | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the worker owes nothing: while it waits for queries it makes no step, and has not stalled."""
        with self._lock:
            return not self._pending

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more queries."""
        with self._lock:
            return self._closed is not None

    def standing(self) -> Standing:
        """Returns how it stands."""
        with self._lock:
            return Standing(
                job=self.job,
                warm=self._until is not None and self._closed is None,
                queries_left=self._serving.max_queries - self._asked.queries,
                rows_left=self._serving.max_rows - self._asked.num_rows,
                until=self._until,
            )

    def connect(self, say: Say) -> None:
        """Takes the way to the worker."""
        with self._lock:
            self._say = say

    def ask(self, query: Query) -> Answer:
        """Hands a query to the worker and waits for this party's part of the answer; its entry in the log is durable then.

        Learns: this party and its worker one share of the samples, uniform alone, their number, and one share of the answer.

        Raises:
            ConfideError: NOT_READY (nobody's fault): it is not warm, or any more; QUOTA_EXHAUSTED, INVALID_ARGUMENT or
                JOB_CONFLICT (the querier's); PARTY_BUSY: too many are under way; RELEASE_WITHHELD: a rule of this party's gate;
                DISK_FULL (this party's operator's); PEER_SILENT: no answer in time; what the worker says of the query.
        """
        answer = self._let_in(query)
        name = bound_query(query.query, query.commitment)
        try:
            record = QueryRecord(self.job.job_id, query.query, query.num_rows, query.commitment, self._party.now())
            kept = self._log.keep(self.job, self._plan, record)
            self._tell({"type": "query", "query": name, "rows": query.num_rows}, {"share": query.share})
            found = answer.result(timeout=ANSWER_S)
            kept.result(timeout=ANSWER_S)
        except TimeoutError as error:
            what = f"no answer to query {query.query} within {ANSWER_S:.0f} s"
            raise ConfideError(ErrorCode.PEER_SILENT, what, party=self._party.id) from error
        finally:
            with self._lock:
                self._pending.pop(name, None)
        return found

    def stop(self) -> None:
        """Asks the worker to end the serving, once what is under way is answered; without effect on one that is over."""
        try:
            self._tell({"type": "stop"}, {})
        except ConfideError:
            return  # it has no worker yet, or no more

    def heard(self, parcel: Parcel) -> None:
        """Takes what the worker says of the serving.

        Raises:
            ConfideError: INTERNAL (ours): it is not what a worker says.
        """
        header = parcel.header
        match header["event"]:
            case "serving":
                with self._lock:
                    self._until = self._party.now() + timedelta(seconds=self._serving.lifetime_s)
            case "answer":
                self._settle(header["query"], self._answer(parcel))
            case "refused":
                code = ErrorCode.__members__.get(str(header["code"]), ErrorCode.INTERNAL)
                self._give_back(str(header["query"]))
                self._settle(header["query"], ConfideError(code, str(header["what"])))
            case "drained":
                served = Served(_whole(header["queries"]), _whole(header["rows"]))
                self._check_drained(served)
                with self._party.database.transaction() as tables:
                    tables.serving.close(self.job.job_id, reason=str(header["reason"])[:64], served=served)
                self.close(f"the serving has ended: {header['reason']}")
            case other:
                raise ConfideError(ErrorCode.INTERNAL, f"a serving worker says {str(other)[:32]}")

    def close(self, what: str, *, accused: str = "", remedy: str = "") -> None:
        """Takes no more queries; those under way fail. Safe to call again: the first reason stands.

        Args:
            what: why.
            accused: the party whose failure ended it, if one did.
            remedy: what to do about that.
        """
        remedy = remedy or "Begin another serving, or submit an inference."
        with self._lock:
            if self._closed is None:
                self._closed = ConfideError(ErrorCode.NOT_READY, what, remedy=remedy, party=accused)
            self._seen.clear()
            for pending in self._pending.values():
                if not pending.answer.done():  # under the lock: a worker may say something at this very moment
                    pending.answer.set_exception(self._closed)

    def _let_in(self, query: Query) -> Future[Answer]:
        self._check(query)
        serving = self._serving
        with self._lock:
            if self._closed is not None:
                raise self._closed
            if self._until is None:
                what = "the model is not warm yet"
                raise ConfideError(ErrorCode.NOT_READY, what, remedy="Wait until every computing party lists it as warm.")
            if self._party.now() >= self._until:  # the lead ends it by a clock of its own, which this party need not believe
                raise ConfideError(ErrorCode.NOT_READY, "the serving's lifetime is over", remedy="Begin another serving.")
            if self._refused >= max(_LEAST_REFUSED, serving.max_queries):
                what = f"{self._refused} queries of this serving did not reach all computing parties alike, as many as may"
                raise ConfideError(ErrorCode.QUOTA_EXHAUSTED, what, party=self._party.id)
            if bytes.fromhex(query.query) in self._seen:
                raise ConfideError(ErrorCode.JOB_CONFLICT, f"query {query.query} was asked before; an id serves once")
            queries_left, rows_left = serving.max_queries - self._asked.queries, serving.max_rows - self._asked.num_rows
            if queries_left < 1 or rows_left < query.num_rows:
                what = f"a query of {query.num_rows} row(s); {queries_left} queries and {rows_left} rows are left"
                raise ConfideError(ErrorCode.QUOTA_EXHAUSTED, what, party=self._party.id)
            if len(self._pending) >= MAX_WAITING:
                what = f"{MAX_WAITING} queries of this serving are under way, as many as may be"
                raise ConfideError(ErrorCode.PARTY_BUSY, what, remedy="Wait for their answers, then ask again.")
            self._seen.add(bytes.fromhex(query.query))
            self._asked = Served(self._asked.queries + 1, self._asked.num_rows + query.num_rows)
            pending = _Pending(query.query, query.num_rows, Future())
            return self._pending.setdefault(bound_query(query.query, query.commitment), pending).answer

    def _check(self, query: Query) -> None:
        features = self.job.model.input_features
        for name, text, length in (("query", query.query, 32), ("commitment", query.commitment, 64)):
            if len(text) != length or not _HEX.fullmatch(text):
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{name} must be {length} hexadecimal digits")
        if query.num_rows < 1 or len(query.share) != 8 * features * query.num_rows:
            what = (
                f"the share has {len(query.share)} bytes and is said to be of {query.num_rows} row(s); "
                f"a row of this model has {features} features of 8 bytes"
            )
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
        if len(query.share) > MAX_SHARE_BYTES:
            most = MAX_SHARE_BYTES // (8 * features)
            raise ConfideError(ErrorCode.TOO_LARGE, f"{query.num_rows} rows; one query has at most {most} rows of this model")

    def _tell(self, header: Mapping[str, object], blobs: Mapping[str, bytes]) -> None:
        with self._lock:
            say = self._say
        if say is None:
            raise ConfideError(ErrorCode.NOT_READY, "the serving has no worker yet")
        say(header, blobs)

    def _answer(self, parcel: Parcel) -> Answer:
        commitments = {str(party): str(text) for party, text in parcel.header["commitments"].items()}
        if set(commitments) != set(self.job.computing_parties):
            raise ConfideError(ErrorCode.INTERNAL, "an answer has one commitment of each computing party")
        shape = tuple(_whole(size) for size in parcel.header["shape"])
        return Answer(parcel.blobs["output"], parcel.blobs["nonce"], shape, self._scale_bits, commitments)

    def _settle(self, query: object, outcome: Answer | ConfideError) -> None:
        with self._lock:
            pending = self._pending.get(str(query))
            if pending is None or pending.answer.done():  # whoever asked has given up
                return
            if isinstance(outcome, Answer):
                self._answered = Served(self._answered.queries + 1, self._answered.num_rows + pending.num_rows)
                pending.answer.set_result(outcome)
            else:
                pending.answer.set_exception(outcome)

    def _give_back(self, query: str) -> None:
        with self._lock:
            pending = self._pending.get(query)
            if pending is None or pending.answer.done():  # given up here: it counts, as nobody could say otherwise
                return
            self._refused += 1
            self._asked = Served(self._asked.queries - 1, self._asked.num_rows - pending.num_rows)
        self._log.take_back(self.job.job_id, pending.query)

    def _check_drained(self, served: Served) -> None:
        """Checks the worker's word by what passed here: budgets get back what it says was not used."""
        if self._party.id not in self.job.computing_parties:  # the dealer sees no query
            return
        with self._lock:
            answered, asked = self._answered, self._asked
        fits = answered.queries <= served.queries <= asked.queries and answered.num_rows <= served.num_rows <= asked.num_rows
        if not fits:
            raise ConfideError(ErrorCode.INTERNAL, "a worker says that it answered fewer or more queries than passed here")


class Desks:
    """The desks of the servings that run at this party; safe to use from several threads."""

    def __init__(self, party: Party) -> None:
        self._party = party
        self._log = ServingLog(party)
        self._lock = Lock()
        self._desks: dict[str, Desk] = {}
        self._stopping: set[Desk] = set()

    def start(self) -> None:
        """Begins to keep queries."""
        self._log.start()

    def stop(self) -> None:
        """Closes every desk, then ends when everything before is kept."""
        for desk in self.all():
            desk.close("the party is being stopped")
        self._log.stop()

    def open(self, job: Job, plan: Plan) -> Desk:
        """Opens the desk of a serving whose worker is being started; one of an earlier worker is replaced."""
        desk = Desk(self._party, job, plan, self._log)
        with self._lock:
            self._desks[job.job_id] = desk
        return desk

    def remove(self, desk: Desk) -> None:
        """Forgets a desk that is closed."""
        with self._lock:
            if self._desks.get(desk.job.job_id) is desk:
                del self._desks[desk.job.job_id]

    def find(self, job_id: str) -> Desk | None:
        """Returns the desk of a serving, or None."""
        with self._lock:
            return self._desks.get(job_id)

    def all(self) -> tuple[Desk, ...]:
        """Returns every desk."""
        with self._lock:
            return tuple(self._desks.values())

    def obey(self) -> None:
        """Ends the servings that an operator of this party has asked to end."""
        desks = self.all()
        if not desks:
            return
        with self._party.database.transaction() as tables:
            stops = tables.serving.stops()
        for desk in desks:
            with self._lock:
                is_due = desk.job.job_id in stops and desk not in self._stopping
                if is_due:
                    self._stopping.add(desk)
            if is_due:
                # Aside: a worker that takes nothing must not keep the caller from looking after the consents of other sessions.
                Thread(target=self._stop, args=(desk,), name="stop-serving", daemon=True).start()

    def _stop(self, desk: Desk) -> None:
        try:
            desk.stop()
        finally:
            with self._lock:
                self._stopping.discard(desk)


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ConfideError(ErrorCode.INTERNAL, "a worker counts with whole numbers")
    return value
