"""The side of a private intersection that dials: the steps of `protocols.identifiers.intersection`, one call after the other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from parties.client.linking import DOUBLED, MASKED, LinkingCalls, SetList
from parties.config import PartyConfig
from parties.linking.concluding import break_off, conclude, keep_with_file
from parties.linking.masking import Maskers
from parties.linking.meeting import check_schemas, side_of
from parties.linking.patience import patiently
from parties.linking.staging import CommonRows, Staged, Terms
from parties.storage.database import Database, Tables
from parties.storage.linking import IntersectionRecord, IntersectionState
from parties.storage.sealed import Purpose, SealedFiles
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.intersection import (
    PART_ELEMENTS,
    SESSION_BYTES,
    Incoming,
    Meeting,
    Mode,
    Outcome,
    check_doubled,
    check_masked,
    commit,
    outcome_of,
    part_of,
)

CONCLUDING_LIMIT = timedelta(days=1)  # for the answer to the last message; until then the common rows stay sealed
_FINISH_WITHIN_S = 60.0
_DOUBLED_WITHIN_S = 600.0
_AWAY = (ErrorCode.PARTY_UNREACHABLE, ErrorCode.PEER_SILENT, ErrorCode.PARTY_BUSY)


@dataclass(frozen=True)
class Dialler:
    """One side's run with a peer that waits.

    Attributes:
        database: of this side.
        sealed: likewise.
        calls: to the peer.
        terms: what its operator has agreed to.
        config: likewise.
    """

    database: Database
    sealed: SealedFiles
    calls: LinkingCalls
    terms: Terms
    config: PartyConfig

    def run(self, record: IntersectionRecord, staged: Staged, *, wait_s: float) -> IntersectionRecord:
        """Meets the peer, runs all steps and registers the common rows; see `parties.linking.alignment.intersect`."""
        with self.database.transaction() as tables:
            tables.linking.put(record)
        try:
            meeting = self._meet(record, staged, wait_s)
            record = replace(record, session=meeting.session.hex(), peer_rows=meeting.waiting.size)
            with self.database.transaction() as tables:
                tables.linking.put(record)
            outcome = self._exchange(meeting, staged)
            common = staged.rows_at(outcome.positions)
            record = self._keep_outcome(record, outcome, common)
        except BaseException as error:
            cause = error if isinstance(error, ConfideError) else ConfideError(ErrorCode.CANCELLED, "the command was ended")
            break_off(self.database, self.sealed, record, cause, now=datetime.now(UTC))
            if record.session:
                with suppress(ConfideError):  # it hears of it at once, or when this side has been silent for long
                    self.calls.break_off(bytes.fromhex(record.session), cause.code.name)
            raise
        return _conclude(self.database, self.sealed, self.calls, record, common, config=self.config)

    def _meet(self, record: IntersectionRecord, staged: Staged, wait_s: float) -> Meeting:
        terms = self.terms
        said = patiently(
            lambda: self.calls.open(
                label=terms.label,
                mode=terms.mode,
                size=record.own_rows,
                schema_document=record.schema_document,
                commitment=staged.commitment,
            ),
            within_s=wait_s,
            waits_for=(*_AWAY, ErrorCode.NOT_READY),
        )
        if len(said.session) != SESSION_BYTES:
            raise ConfideError(ErrorCode.BAD_FRAME, "a session has no id", party=terms.peer)
        check_schemas(terms.mode, {terms.party: record.schema_document, terms.peer: said.schema_document})
        dialling = side_of(terms.party, record.own_rows, record.schema_document, staged.commitment)
        waiting = side_of(terms.peer, said.size, said.schema_document, said.commitment)
        return Meeting(terms.consortium, terms.label, terms.mode, said.session, dialling, waiting)

    def _exchange(self, meeting: Meeting, staged: Staged) -> Outcome:
        peer, mode = meeting.waiting.party, meeting.mode
        self._put(meeting, MASKED, staged.masked, salt=staged.salt)
        theirs, salt = self._get_masked(meeting)
        check_masked(theirs, meeting.waiting, salt)
        try:
            with Maskers(staged.exponent, processes=self.config.cores) as maskers:
                doubled = [point for batch in maskers.powers(theirs) for point in batch]
        except ConfideError as error:
            at_fault = peer if error.code is ErrorCode.BAD_FRAME else meeting.dialling.party
            raise ConfideError(error.code, error.what, party=at_fault) from error
        if mode is Mode.SIZE:
            doubled.sort()
        ours = self._get_doubled(meeting, commit(doubled, b""))
        check_doubled(ours, mode, size=meeting.dialling.size, party=peer)
        self._put(meeting, DOUBLED, doubled)
        return outcome_of(meeting, masked=(staged.masked, theirs), doubled=(ours, doubled), own=0)

    def _put(self, meeting: Meeting, which: SetList, points: Sequence[bytes], *, salt: bytes = b"") -> None:
        for offset in range(0, len(points), PART_ELEMENTS):
            self.calls.put(meeting.session, which, offset, part_of(points, offset), salt=salt)

    def _get_masked(self, meeting: Meeting) -> tuple[Sequence[bytes], bytes]:
        incoming, salt = Incoming(meeting.waiting.size, party=meeting.waiting.party), b""
        while not incoming.is_complete:
            points, salt = self.calls.get(meeting.session, MASKED, incoming.num_received)
            incoming.add(incoming.num_received, points)
        return incoming.points, salt

    def _get_doubled(self, meeting: Meeting, commitment: bytes) -> Sequence[bytes]:
        incoming = Incoming(meeting.dialling.size, party=meeting.waiting.party)

        def ask() -> bytes:
            return self.calls.get(meeting.session, DOUBLED, incoming.num_received, commitment=commitment)[0]

        while not incoming.is_complete:
            points = patiently(ask, within_s=_DOUBLED_WITHIN_S, waits_for=(ErrorCode.NOT_READY,))
            incoming.add(incoming.num_received, points)
        return incoming.points

    def _keep_outcome(self, record: IntersectionRecord, outcome: Outcome, common: CommonRows) -> IntersectionRecord:
        """Seals the common rows before the peer is asked to register: its answer may be lost, these may not."""

        def change(tables: Tables, sealed_name: str) -> IntersectionRecord:
            if tables.linking.get(record.intersection_id).state.is_over:
                raise ConfideError(ErrorCode.DEADLINE_PASSED, "the intersection took too long and was broken off")
            return replace(
                record,
                state=IntersectionState.CONCLUDING,
                expires=datetime.now(UTC) + CONCLUDING_LIMIT,
                transcript=outcome.transcript,
                found=outcome.found,
                alignment=outcome.alignment if outcome.found else "",
                sealed_name=sealed_name,
            )

        return keep_with_file(self.database, self.sealed, record.intersection_id, common.to_secret_bytes(), change)


def conclude_again(
    database: Database, sealed: SealedFiles, calls: LinkingCalls, record: IntersectionRecord, *, config: PartyConfig
) -> IntersectionRecord:
    """Concludes a run whose last message was lost; see `parties.linking.alignment.take_up`."""
    kept = sealed.read(Purpose.INTERSECTION, record.intersection_id, record.sealed_name)
    return _conclude(database, sealed, calls, record, CommonRows.from_secret_bytes(kept), config=config)


def _conclude(
    database: Database,
    sealed: SealedFiles,
    calls: LinkingCalls,
    record: IntersectionRecord,
    common: CommonRows,
    *,
    config: PartyConfig,
) -> IntersectionRecord:
    session, transcript, found = bytes.fromhex(record.session), record.transcript, record.found or 0
    try:
        patiently(
            lambda: calls.finish(session, transcript=transcript, found=found),
            within_s=_FINISH_WITHIN_S,
            waits_for=(*_AWAY, ErrorCode.DISK_FULL),
        )
    except ConfideError as error:
        if error.code in (ErrorCode.UNKNOWN_SESSION, ErrorCode.COMMITMENT_DIFFERS):  # it has registered nothing
            break_off(database, sealed, record, error, now=datetime.now(UTC))
            raise
        what = f"whether {record.peer} has registered the common rows is not known; nothing is registered here yet"
        remedy = "Run the same command again within a day: it asks, and registers the rows if the other side has."
        raise ConfideError(error.code, f"{what}: {error.what}", remedy=remedy, party=record.peer) from error
    try:
        return conclude(database, sealed, record, common, config=config, now=datetime.now(UTC))
    except ConfideError as error:
        what = f"{record.peer} has registered the common rows; here it failed: {error.what}"
        remedy = "Run the same command again within a day: it registers the rows here too."
        raise ConfideError(error.code, what, remedy=remedy) from error
