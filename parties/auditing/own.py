"""A party's look at its own audit log: everything that an auditor would check, and what only the party has to compare with.

That is the ledger of its budgets: whoever changes it, and not the log, would have a party decide by other charges than it shows.
The entries are read twice, by two programs that share no code: the one that wrote them and the stand-alone verifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from governance.audit.checkpoints import origin
from governance.audit.entries import EntryKind, Fact, LogEntry, read_entry
from governance.audit.merkle import completed_by, leaf_hash
from governance.audit.notes import MAX_NOTE_BYTES
from governance.budget.facts import LOGGED, charge_facts
from parties.auditing.export import look_at_log
from parties.auditing.standalone import Report, Wrong, verify
from parties.config import PartyConfig
from parties.storage.database import Database, one_transaction, open_database
from parties.storage.files import read_public
from protocols.errors import ConfideError, ErrorCode, Problem

_STEP = 1000


def verify_own(config: PartyConfig, *, witnesses: int, seen: Sequence[bytes], now: datetime) -> Report:
    """Verifies the log in a party's database; works while the party serves.

    Args:
        config: the party's configuration.
        witnesses: how many other parties must have cosigned it.
        seen: checkpoints of this log that other parties have seen.
        now: the time, UTC.

    Returns:
        What was verified.

    Raises:
        ConfideError: LOG_DAMAGED (the operator's fault), with the first wrong entry; NOT_ENROLLED before the party has joined;
            else as reading keys, directory and database does.
    """
    shown = config.folder.log_head_file
    trusted = [*seen, *([read_public(shown, max_bytes=MAX_NOTE_BYTES)] if shown.exists() else [])]
    founder = config.folder.member.pinned_founder()
    log = origin(config.folder.member.load_directory().consortium, config.party)
    database = open_database(config.folder.database_file)
    try:
        _read_all(database, log)
        copy = look_at_log(database, config, now=now)
        report = verify(copy.read, founder_fingerprint=founder, witnesses=witnesses, trusted=trusted)
        _compare_ledger(database, log)
    except Wrong as wrong:
        raise _damaged(log, str(wrong)) from wrong
    finally:
        database.close()
    return report


def seen_by(configs: Sequence[PartyConfig]) -> Mapping[str, Sequence[bytes]]:
    """Returns for each of these parties the checkpoints of its log that the others of them have seen."""
    found: dict[str, list[bytes]] = {config.party: [] for config in configs}
    for config in configs:
        with one_transaction(config.folder.database_file) as tables:
            records = [tables.witness.last_seen(party) for party in found if party != config.party]
        for record in records:
            if record is not None:
                found[record.party].append(record.note)
    return found


def _read_all(database: Database, log: str) -> None:
    # Every entry and every hash that is stored with it, as the program that wrote them reads them. `left` holds
    # the left half of what becomes complete next at each level.
    with database.transaction() as tables:
        size = tables.audit.size()
    left: dict[int, bytes] = {}
    for start in range(0, size, _STEP):
        stop = min(start + _STEP, size)
        with database.transaction() as tables:
            entries = tables.audit.entries(start, stop)
            levels = range(1, stop.bit_length())
            stored = {level: tables.audit.nodes(level, start >> level, stop >> level) for level in levels}
        for index, entry in enumerate(entries, start=start):
            _read_one(log, index, entry)
            for level, place, value in completed_by(index, entry.leaf_hash, lambda level, _: left[level]):
                if stored[level][place - (start >> level)] != value:
                    raise _damaged(log, f"entry {index}: the hash of the {2**level} entries that end with it is not stored so")
                if place % 2 == 0:  # an odd one is the right half of the next
                    left[level] = value
            if index % 2 == 0:
                left[0] = entry.leaf_hash


def _compare_ledger(database: Database, log: str) -> None:
    """Every line of the ledger is the charge of the next entry in the log that is about one, and there is none besides."""
    with database.transaction() as tables:
        entries, size = tables.ledger.all(), tables.audit.size()
    charged: list[tuple[EntryKind, Mapping[str, Fact], int]] = []
    for start in range(0, size, _STEP):  # a serving party writes in between, behind what is compared
        with database.transaction() as tables:
            kept = tables.audit.entries(start, min(start + _STEP, size))
        found = [(entry.index, read_entry(entry.body)) for entry in kept]
        charged += [(entry.kind, entry.facts, index) for index, entry in found if entry.kind in LOGGED.values()]
    for entry, (kind, facts, index) in zip(entries, charged, strict=False):
        said = charge_facts(entry)
        if kind is not LOGGED[entry.step] or any(facts.get(name) != value for name, value in said.items()):
            raise _damaged(log, f"entry {index}: the ledger has another charge, of job {entry.job_id} to {entry.account}")
    if len(entries) != len(charged):
        raise _damaged(log, f"the ledger has {len(entries)} lines, and the log {len(charged)} entries about them")


def _read_one(log: str, expected: int, entry: LogEntry) -> None:
    if entry.index != expected:
        raise _damaged(log, f"entry {expected}: it is missing")
    try:
        index = read_entry(entry.body).index
    except ConfideError as error:
        raise _damaged(log, f"entry {entry.index}: {error.what}", error.problems) from error
    if index != entry.index or leaf_hash(entry.body) != entry.leaf_hash:
        raise _damaged(log, f"entry {entry.index}: it does not stand at its place under its hash")


def _damaged(log: str, what: str, problems: Sequence[Problem] = ()) -> ConfideError:
    return ConfideError(ErrorCode.LOG_DAMAGED, f"{log}: {what}", problems=problems, party=log.rsplit("/", 1)[-1])
