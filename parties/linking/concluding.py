"""The end of a private intersection at one side: rows, audit entry and state become durable together, or nothing does."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

import numpy as np

from governance.audit.entries import EntryKind, Fact
from parties.config import PartyConfig
from parties.linking.staging import CommonRows
from parties.registration import People, keep_rows
from parties.storage.database import Database, Tables
from parties.storage.datasets import DatasetRecord
from parties.storage.linking import IntersectionRecord, IntersectionState, ended
from parties.storage.sealed import Purpose, SealedFiles
from privacy.preparation.commitment import SALT_BYTES
from privacy.preparation.schema import TableSchema
from protocols.canonical import parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode

_COMPLETE, _BROKEN_OFF = "complete", "broken-off"


def conclude(
    database: Database,
    sealed: SealedFiles,
    record: IntersectionRecord,
    common: CommonRows,
    *,
    config: PartyConfig,
    now: datetime,
) -> IntersectionRecord:
    """Ends a run whose outcome stands in its record: registers the common rows, if there are any, and destroys the set.

    Args:
        database: of this side.
        sealed: likewise.
        record: with session, transcript, found and alignment.
        common: the common rows in the common order, secret; none in a run that tells sizes.
        config: of this side, whose key signs how a recipe made the rows.
        now: the time, UTC.

    Returns:
        The intersection as it is kept.

    Raises:
        ConfideError: UNKNOWN_SESSION: it was ended meanwhile; DISK_FULL (the operator's fault): nothing has changed.
    """

    def end(tables: Tables, registered: DatasetRecord | None) -> IntersectionRecord:
        if tables.linking.get(record.intersection_id).state.is_over:
            raise ConfideError(ErrorCode.UNKNOWN_SESSION, "the intersection has ended here")
        version = None if registered is None else registered.version
        done = replace(record, state=IntersectionState.DONE, sealed_name="", dataset_version=version)
        tables.linking.put(done)
        tables.audit.append(EntryKind.SETS_INTERSECTED, _facts(done, _COMPLETE), now=now)
        return done

    done: list[IntersectionRecord] = []
    made = common.made

    def also(tables: Tables, registered: DatasetRecord) -> Mapping[str, Fact] | None:
        done.append(end(tables, registered))
        if made is None:
            return None
        preparation = made.signed(registered, party=config.party, key=config.folder.member.load_signing_key())
        tables.preparations.add(preparation)
        return {"preparation": sha256_hex(preparation.signed.body)}

    if common.rows.num_rows:
        keep_rows(
            database,
            sealed,
            name=record.dataset,
            schema=TableSchema.from_document(parse_canonical(record.schema_document)),
            rows=common.rows,
            alignment=record.alignment,
            # An identifier that stands twice is refused before, and so are people of another population.
            people=People(1, is_counted=True, digests=np.unique(common.whose.people), population=common.whose.population),
            salt=secrets.token_bytes(SALT_BYTES),
            now=now,
            besides={} if made is None else made.besides(),
            also=also,
        )
    else:
        with database.transaction() as tables:
            done.append(end(tables, None))
    _destroy(sealed, record)
    return done[0]


def keep_with_file(
    database: Database,
    sealed: SealedFiles,
    intersection_id: str,
    contents: bytes,
    change: Callable[[Tables, str], IntersectionRecord],
) -> IntersectionRecord:
    """Seals something and keeps the intersection that names it, together or not at all.

    Args:
        database: of this side.
        sealed: likewise.
        intersection_id: of the intersection.
        contents: what is sealed, secret.
        change: returns the intersection as it is to be kept, naming the sealed file, or stops everything by raising.

    Raises:
        ConfideError: DISK_FULL or INVALID_ARGUMENT (the operator's fault): nothing is kept; else what `change` raises.
    """
    written = ""
    try:
        with database.transaction() as tables:
            written = sealed.write(Purpose.INTERSECTION, intersection_id, contents)
            record = change(tables, written)
            tables.linking.put(record)
    except BaseException:  # whatever stopped the transaction, no rows and no key stay behind that nothing knows
        if written:
            sealed.delete(written)
        raise
    return record


def break_off(database: Database, sealed: SealedFiles, record: IntersectionRecord, error: ConfideError, *, now: datetime) -> None:
    """Ends a run that cannot go on, and destroys the set; one that has ended stays as it is.

    If the sides had met, the audit log says so: the other side may have learned what was to be disclosed.
    """
    with database.transaction() as tables:
        known = tables.linking.get(record.intersection_id)
        if known.state.is_over:
            return
        known = ended(known, error.code, error.what)
        tables.linking.put(known)
        if known.session:
            tables.audit.append(EntryKind.SETS_INTERSECTED, _facts(known, _BROKEN_OFF), now=now)
    _destroy(sealed, record)


def end_expired(database: Database, sealed: SealedFiles, *, now: datetime) -> None:
    """Breaks off every intersection whose time is over."""
    with database.transaction() as tables:
        states = (state for state in IntersectionState if not state.is_over)
        late = [record for record in tables.linking.in_states(*states) if record.expires <= now]
    for record in late:
        break_off(database, sealed, record, ConfideError(ErrorCode.DEADLINE_PASSED, _lateness(record)), now=now)


def _lateness(record: IntersectionRecord) -> str:
    match record.state:
        case IntersectionState.CONCLUDING:
            return f"whether {record.peer} has registered the common rows was never learned; nothing is registered here"
        case IntersectionState.RUNNING:
            return f"the intersection with {record.peer} took too long"
        case _:
            return f"{record.peer} did not take part in time"


def _facts(record: IntersectionRecord, outcome: str) -> dict[str, Fact]:
    return {
        "peer": record.peer,
        "label": record.label,
        "mode": record.mode.value,
        "outcome": outcome,
        "session": record.session,
        "own_rows": record.own_rows,
        "peer_rows": record.peer_rows,
        "own_set": record.commitment.hex(),
        "found": record.found,
        "transcript": record.transcript,
        "alignment": record.alignment,
    }


def _destroy(sealed: SealedFiles, record: IntersectionRecord) -> None:
    if record.sealed_name:
        sealed.delete(record.sealed_name)
