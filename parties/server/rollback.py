"""Whether this party's state is older than what it has shown: looked at before the port opens, and whenever a witness doubts.

Three things outlive a database that comes from a backup: the file beside it that holds the newest checkpoint, the checkpoints
that the other parties have cosigned, and this party's signature under each of them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import structlog

from governance.audit.checkpoints import open_checkpoint, origin
from governance.audit.entries import EntryKind, Fact
from governance.audit.notes import MAX_NOTE_BYTES
from parties.server.party import Party
from parties.server.policy import note_policy
from parties.storage.database import Tables
from parties.storage.files import read_public
from parties.transport.peers import Peers
from parties.wire.generated.confide.v1 import audit_pb2
from parties.wire.methods import LAST_SEEN
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem

START_TIMEOUT_S = 3.0
_REMEDY = "restore the newest state; a spent budget or a revocation must not come back from a backup"
_log = structlog.get_logger()


def check_state(party: Party, peers: Peers) -> None:
    """Compares the audit log with everything that shows how far it has been; parties that do not answer are left out.

    Nobody may be within reach, for example when a consortium starts: then the party serves, and no job is countersigned
    before the others have cosigned its log.

    Raises:
        ConfideError: STATE_ROLLED_BACK (the operator's fault), with every contradiction; BAD_SIGNATURE or INVALID_DOCUMENT:
            the file with the newest checkpoint was altered.
    """
    head_file = party.config.folder.log_head_file
    kept = read_public(head_file, max_bytes=MAX_NOTE_BYTES) if head_file.exists() else b""
    if kept:
        _open(party, kept)  # this party wrote it: one that does not verify is not passed over
    others = [entry.id for entry in party.directory.parties if entry.id != party.id]
    notes = {str(head_file): kept, **_ask_all(peers, others)}
    problems = []
    with party.database.transaction() as tables:
        for source, note in notes.items():
            what = contradiction(party, tables, note)
            if what is not None:
                problems.append(Problem(source, what, _REMEDY))
    if problems:
        raise ConfideError(ErrorCode.STATE_ROLLED_BACK, problems=problems, party=party.id)


def contradiction(party: Party, tables: Tables, note: bytes) -> str | None:
    """Returns how this party's log contradicts one of its own signed checkpoints, in words, or None.

    Args:
        party: this party.
        tables: its tables.
        note: what somebody shows as a checkpoint of this party; empty if there is none. What this party has not signed says
            nothing about it: a witness could stop it with a lie.
    """
    if not note:
        return None
    try:
        size, root = _open(party, note)
    except ConfideError as error:
        _log.warning("checkpoint_not_ours", code=error.code.name, what=error.what)
        return None
    held = tables.audit.size()
    if size > held:
        return f"a signed checkpoint of {size} entries; the audit log here has {held}"
    if tables.audit.root(size) != root:
        return f"a signed checkpoint of {size} entries whose root is another than that of the audit log here"
    return None


def ask_last_seen(peers: Peers, party: str, *, timeout_s: float) -> bytes:
    """Asks a party for the last checkpoint of this party's log that it has cosigned; empty if there is none.

    Raises:
        ConfideError: what the party reported, or PARTY_UNREACHABLE, PEER_SILENT, UNAUTHENTICATED.
    """
    return LAST_SEEN.call(peers.channel(party), audit_pb2.LastSeenRequest(), party=party, timeout_s=timeout_s).checkpoint


def log_start(party: Party, *, software_version: str) -> None:
    """Appends what this process serves with: version, configuration, policy and directory, as digests."""
    directory, now = party.directory, party.now()
    with party.database.transaction() as tables:
        tables.audit.append_many(
            [
                (EntryKind.STARTED, {"party": party.id, "software_version": software_version}),
                (EntryKind.CONFIGURATION, {"digest": configuration_digest(party)}),
                (EntryKind.DIRECTORY, {"version": directory.version, "founder": directory.founder_key.fingerprint}),
            ],
            now=now,
        )
        note_policy(tables, party.policy, now=now)


def log_directory(party: Party, version: int) -> None:
    """Appends that another version of the directory was taken over."""
    with party.database.transaction() as tables:
        facts: dict[str, Fact] = {"version": version, "founder": party.directory.founder_key.fingerprint}
        tables.audit.append(EntryKind.DIRECTORY, facts, now=party.now())


def configuration_digest(party: Party) -> str:
    """Returns SHA-256 of the configuration in force, defaults included, 64 hexadecimal digits."""
    return sha256_hex(canonical_bytes({"configuration": party.config.model_dump_json()}))


def _open(party: Party, note: bytes) -> tuple[int, bytes]:
    log = origin(party.directory.consortium, party.id)
    checkpoint, _ = open_checkpoint(note, origin=log, key=party.member.signing_key.public)
    return checkpoint.size, checkpoint.root


def _ask_all(peers: Peers, others: list[str]) -> dict[str, bytes]:
    def ask(other: str) -> bytes:
        try:
            return ask_last_seen(peers, other, timeout_s=START_TIMEOUT_S)
        except ConfideError as error:
            _log.info("witness_not_asked", peer=other, code=error.code.name)
            return b""

    if not others:
        return {}
    with ThreadPoolExecutor(min(len(others), 32), thread_name_prefix="last-seen") as pool:
        return dict(zip(others, pool.map(ask, others), strict=True))
