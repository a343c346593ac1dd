"""The waiting side of private intersections: sets that this party's operator has offered, and the runs with their peers.

An offer is used once. A run lives in this process alone: if it or the peer goes away, the run is broken off, the set is
destroyed, and nothing is registered; the operators begin again. What is durable is the offer, and the outcome once the rows are
registered.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Condition, Event, Lock, Thread

import structlog

from parties.linking.concluding import break_off, conclude, end_expired
from parties.linking.masking import Maskers
from parties.linking.meeting import RUN_LIMIT, check_schemas, side_of
from parties.linking.staging import Staged
from parties.server.party import Party
from parties.server.terms import log_defect
from parties.storage.linking import IntersectionRecord, IntersectionState
from parties.storage.sealed import Purpose
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.intersection import (
    DIGEST_BYTES,
    PART_ELEMENTS,
    SESSION_BYTES,
    Incoming,
    Meeting,
    Mode,
    Side,
    check_doubled,
    check_masked,
    commit,
    outcome_of,
    part_of,
)

IDLE_S = 300.0  # a peer that doubles the largest set is silent for two minutes
WAIT_S = 5.0  # for a list that is still being doubled; then the peer asks again
_PAUSE_S = 2.0
_log = structlog.get_logger()


@dataclass(eq=False)
class Run:
    """One run under way; `changed` guards everything that changes."""

    record: IntersectionRecord
    meeting: Meeting
    staged: Staged
    masked: Incoming
    doubled: Incoming
    seen: float
    changed: Condition = field(default_factory=Condition)
    doubled_here: list[bytes] = field(default_factory=list)
    is_doubled: bool = False
    promised: bytes = b""
    failure: ConfideError | None = None

    @property
    def peer(self) -> str:
        """The side that dials."""
        return self.meeting.dialling.party

    def is_begun_by(self, dialling: Side, label: str, mode: Mode) -> bool:
        """Whether this is the run that a side has just opened, and nothing of its set has arrived."""
        asked = (self.meeting.dialling, self.meeting.label, self.meeting.mode)
        return asked == (dialling, label, mode) and not self.masked.num_received


class IntersectionDesk:
    """Offers and runs; safe to use from several threads."""

    def __init__(self, party: Party, *, idle_s: float = IDLE_S, wait_s: float = WAIT_S) -> None:
        self._party = party
        self._idle_s = idle_s
        self._wait_s = wait_s
        self._lock = Lock()
        self._runs: dict[str, Run] = {}
        self._stopping = Event()
        self._thread = Thread(target=self._watch, name="intersections", daemon=True)

    def start(self) -> None:
        """Breaks off what another process left under way, then looks after offers and runs on a thread of its own."""
        with self._party.database.transaction() as tables:
            left = [r for r in tables.linking.in_states(IntersectionState.RUNNING) if r.peer < self._party.id]
        for record in left:
            self._break_off(record, ConfideError(ErrorCode.PARTY_RESTARTED, "the party process ended during the intersection"))
        self._thread.start()

    def stop(self) -> None:
        """Breaks off every run and stops the thread."""
        self._stopping.set()
        for run in list(self._runs.values()):
            self._fail(run, ConfideError(ErrorCode.PARTY_RESTARTED, "the party process ended during the intersection"))
        if self._thread.ident is not None:
            self._thread.join()

    def look_after(self) -> None:
        """Ends what is over: offers and runs whose time has passed, runs whose peer is silent, or whose operator ended them."""
        end_expired(self._party.database, self._party.sealed, now=self._party.now())
        late = time.monotonic() - self._idle_s
        for run in list(self._runs.values()):
            with self._party.database.transaction() as tables:
                known = tables.linking.get(run.record.intersection_id)
            if known.state is IntersectionState.FAILED:  # here too, nothing more is shown to the peer
                self._fail(run, ConfideError(ErrorCode[known.failure], known.what, party=self._party.id))
            elif known.state is IntersectionState.DONE:
                self._drop(run)
            elif run.seen < late:
                self._fail(run, ConfideError(ErrorCode.PEER_SILENT, f"{run.peer} does not go on", party=run.peer))

    def open(
        self, peer: str, *, label: str, mode: Mode, size: int, schema_document: bytes, commitment: bytes
    ) -> tuple[Meeting, bytes]:
        """Begins the run that the operator has offered to a peer; uses the offer up. A lost answer is given again.

        Returns:
            The meeting, and the canonical bytes of this side's schema.

        Raises:
            ConfideError: NOT_READY: nothing is offered to the peer under the label; INVALID_ARGUMENT: another mode is;
                INVALID_SCHEMA: the columns of both do not stand side by side; the offer stays in these cases.
        """
        now = self._party.now()
        dialling = side_of(peer, size, schema_document, commitment)
        with self._lock:
            begun = [run for run in self._runs.values() if run.is_begun_by(dialling, label, mode)]
        if begun:
            return begun[0].meeting, begun[0].record.schema_document
        with self._party.database.transaction() as tables:
            record = tables.linking.find_open(peer, label, IntersectionState.OFFERED)
            if record is None or record.expires <= now:
                what = f"{self._party.id} has offered no set to {peer} under this label"
                remedy = "Have the operator there run `confide dataset align` with the same label."
                raise ConfideError(ErrorCode.NOT_READY, what, remedy=remedy, party=self._party.id)
            if record.mode is not mode:
                what = f"{self._party.id} has agreed to the mode {record.mode.value}, not to {mode.value}"
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Agree on --size-only, at both sides or at neither.")
            check_schemas(mode, {peer: schema_document, self._party.id: record.schema_document})
            session = secrets.token_bytes(SESSION_BYTES)
            record = replace(
                record, state=IntersectionState.RUNNING, session=session.hex(), peer_rows=size, expires=now + RUN_LIMIT
            )
            tables.linking.put(record)
        try:
            staged = self._open_set(record)
        except ConfideError as error:
            self._break_off(record, error)
            raise
        waiting = side_of(self._party.id, record.own_rows, record.schema_document, record.commitment)
        meeting = Meeting(self._party.directory.consortium, label, mode, session, dialling, waiting)
        run = Run(
            record=record,
            meeting=meeting,
            staged=staged,
            masked=Incoming(size, party=peer),
            doubled=Incoming(record.own_rows, party=peer),
            seen=time.monotonic(),
        )
        with self._lock:
            self._runs[record.session] = run
        return meeting, record.schema_document

    def put_masked(self, peer: str, session: bytes, offset: int, points: bytes, salt: bytes) -> None:
        """Takes a part of the peer's masked set; doubles the set once it is whole and the one that was committed to.

        Raises:
            ConfideError: UNKNOWN_SESSION; BAD_FRAME or COMMITMENT_DIFFERS (the peer's fault): the run is broken off.
        """
        with self._using(peer, session) as run:
            run.masked.add(offset, points)
            if run.masked.is_complete:
                check_masked(run.masked.points, run.meeting.dialling, salt)
                Thread(target=self._double, args=(run,), name="double", daemon=True).start()

    def get_masked(self, peer: str, session: bytes, offset: int) -> tuple[bytes, bytes]:
        """Returns a part of this side's masked set, and the salt of the commitment to it.

        Raises:
            ConfideError: UNKNOWN_SESSION; BAD_FRAME (the peer's fault): before its own is here, or no part begins there.
        """
        with self._using(peer, session) as run:
            if not run.masked.is_complete:
                raise ConfideError(ErrorCode.BAD_FRAME, "a set is shown after the other side's has arrived", party=peer)
            return part_of(run.staged.masked, offset), run.staged.salt

    def get_doubled(self, peer: str, session: bytes, offset: int, commitment: bytes) -> bytes:
        """Returns a part of the peer's set doubled, against the commitment to this side's set as the peer has doubled it.

        Raises:
            ConfideError: UNKNOWN_SESSION; NOT_READY: it is still being doubled; BAD_FRAME (the peer's fault).
        """
        with self._using(peer, session) as run:
            if len(commitment) != DIGEST_BYTES or run.promised not in (b"", commitment):
                raise ConfideError(ErrorCode.BAD_FRAME, "a doubled set needs one commitment before the other", party=peer)
            if not run.masked.is_complete:
                raise ConfideError(ErrorCode.BAD_FRAME, "a set that has not arrived cannot be doubled", party=peer)
            size = run.meeting.dialling.size
            if not 0 <= offset < size:
                raise ConfideError(ErrorCode.BAD_FRAME, "no part of a set begins there", party=peer)
            run.promised = commitment
            needed = min(offset + PART_ELEMENTS, size)

            def is_there() -> bool:
                rows_known = run.meeting.mode is Mode.ROWS and len(run.doubled_here) >= needed
                return run.failure is not None or run.is_doubled or rows_known

            run.changed.wait_for(is_there, timeout=self._wait_s)
            if run.failure is not None:
                raise run.failure
            if not is_there():
                raise ConfideError(ErrorCode.NOT_READY, "the set is still being doubled", remedy="Ask again.")
            return part_of(run.doubled_here[:needed], offset)

    def put_doubled(self, peer: str, session: bytes, offset: int, points: bytes) -> None:
        """Takes a part of this side's set as the peer has doubled it.

        Raises:
            ConfideError: UNKNOWN_SESSION; BAD_FRAME or COMMITMENT_DIFFERS (the peer's fault): the run is broken off.
        """
        with self._using(peer, session) as run:
            if not run.promised:
                raise ConfideError(ErrorCode.BAD_FRAME, "a doubled set comes after the commitment to it", party=peer)
            run.doubled.add(offset, points)
            if run.doubled.is_complete:
                check_doubled(run.doubled.points, run.meeting.mode, size=run.meeting.waiting.size, party=peer)
                if commit(run.doubled.points, b"") != run.promised:
                    what = "the doubled set is not the one that was committed to"
                    raise ConfideError(ErrorCode.COMMITMENT_DIFFERS, what, party=peer)

    def finish(self, peer: str, session: bytes, *, transcript: str, found: int) -> None:
        """Compares outcomes and registers the common rows; says the same again if it is asked again.

        Raises:
            ConfideError: UNKNOWN_SESSION: the run was broken off, nothing is registered; COMMITMENT_DIFFERS (the peer's fault):
                another outcome; DISK_FULL (this operator's): it may be asked again.
        """
        with self._party.database.transaction() as tables:
            record = tables.linking.find_session(peer, session.hex())
        if record is not None and record.state is IntersectionState.DONE:
            if (record.transcript, record.found) != (transcript, found):
                raise ConfideError(ErrorCode.COMMITMENT_DIFFERS, "the run ended here with another outcome", party=peer)
            return
        with self._using(peer, session) as run:
            if not (run.doubled.is_complete and run.is_doubled):
                raise ConfideError(ErrorCode.BAD_FRAME, "a run is finished before its sets are complete", party=peer)
            outcome = outcome_of(
                run.meeting,
                masked=(run.masked.points, run.staged.masked),
                doubled=(run.doubled_here, run.doubled.points),
                own=1,
            )
            if (outcome.transcript, outcome.found) != (transcript, found):
                what = "both sides have not seen the same: the outcomes differ"
                raise ConfideError(ErrorCode.COMMITMENT_DIFFERS, what, remedy="Begin again.", party=peer)
            record = replace(
                run.record, transcript=outcome.transcript, found=outcome.found, alignment=outcome.alignment if found else ""
            )
            common = run.staged.rows_at(outcome.positions)
            own = self._party
            conclude(own.database, own.sealed, record, common, config=own.config, now=own.now())
            self._drop(run)
        _log.info("sets_intersected", peer=peer)

    def break_off(self, peer: str, session: bytes, code: ErrorCode) -> None:
        """Ends a run that its peer does not go on with, so that this side's operator hears of it at once.

        Raises:
            ConfideError: UNKNOWN_SESSION: it has ended.
        """
        with self._using(peer, session) as run:
            self._fail(run, ConfideError(ErrorCode.PEER_LOST, f"{peer} broke the intersection off: {code.name}", party=peer))

    @contextmanager
    def _using(self, peer: str, session: bytes) -> Iterator[Run]:
        """Holds a run; what shows that the peer does not keep to the protocol ends it."""
        with self._lock:
            run = self._runs.get(session.hex())
        if run is None or run.peer != peer:
            raise self._unknown(peer, session)
        with run.changed:
            run.seen = time.monotonic()
            try:
                if run.failure is not None:
                    raise run.failure
                yield run
            except ConfideError as error:
                if error.code in (ErrorCode.BAD_FRAME, ErrorCode.COMMITMENT_DIFFERS):
                    self._fail(run, error)
                raise

    def _unknown(self, peer: str, session: bytes) -> ConfideError:
        with self._party.database.transaction() as tables:
            record = tables.linking.find_session(peer, session.hex())
        cause = f", {record.failure}: {record.what}" if record is not None and record.failure else ""
        what = f"no such intersection is under way at {self._party.id}{cause}"
        return ConfideError(ErrorCode.UNKNOWN_SESSION, what, remedy="Begin again at both sides.", party=self._party.id)

    def _double(self, run: Run) -> None:
        points: Sequence[bytes] = run.masked.points
        try:
            with Maskers(run.staged.exponent, processes=self._party.config.cores) as maskers:
                for batch in maskers.powers(points):
                    with run.changed:
                        if run.failure is not None:
                            return
                        run.doubled_here.extend(batch)
                        run.changed.notify_all()
        except ConfideError as error:
            at_fault = run.peer if error.code is ErrorCode.BAD_FRAME else self._party.id
            self._fail(run, ConfideError(error.code, error.what, party=at_fault))
            return
        except Exception as error:  # no thread of another run or call sees it, and the peer would wait in vain
            log_defect("", "intersections", error)
            self._fail(run, ConfideError(ErrorCode.INTERNAL, "the set could not be doubled", party=self._party.id))
            return
        with run.changed:
            if run.meeting.mode is Mode.SIZE:
                run.doubled_here.sort()
            run.is_doubled = True
            run.changed.notify_all()

    def _fail(self, run: Run, error: ConfideError) -> None:
        with run.changed:
            run.failure = run.failure or error
            run.changed.notify_all()
        self._drop(run)
        self._break_off(run.record, error)

    def _drop(self, run: Run) -> None:
        with self._lock:
            self._runs.pop(run.record.session, None)

    def _break_off(self, record: IntersectionRecord, error: ConfideError) -> None:
        _log.warning("intersection_broken_off", peer=record.peer, code=error.code.name)
        break_off(self._party.database, self._party.sealed, record, error, now=self._party.now())

    def _open_set(self, record: IntersectionRecord) -> Staged:
        data = self._party.sealed.read(Purpose.INTERSECTION, record.intersection_id, record.sealed_name)
        return Staged.from_secret_bytes(data)

    def _watch(self) -> None:
        while not self._stopping.wait(_PAUSE_S):
            try:
                self.look_after()
            except Exception as error:  # offers must end as long as the party serves
                log_defect("", "intersections", error)
