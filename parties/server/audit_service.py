"""AuditService: this party as a witness of the others' audit logs.

It cosigns a checkpoint of the caller's own log if that extends everything that it has seen of it, and keeps the checkpoint
before it answers: after a restart it still knows what it vouched for. Two checkpoints that contradict each other, both signed
by the caller, are kept as evidence, whatever becomes of the caller.
"""

from __future__ import annotations

import structlog

from governance.audit import checkpoints
from governance.audit.checkpoints import Checkpoint, open_checkpoint, origin
from governance.audit.entries import EntryKind
from governance.audit.merkle import HASH_BYTES, is_consistent
from parties.server.access import caller
from parties.server.party import Party
from parties.storage.database import Tables
from parties.storage.witness import ForkRecord, WitnessedRecord
from parties.wire import methods
from parties.wire.generated.confide.v1 import audit_pb2
from parties.wire.methods import Handlers
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode

MAX_PROOF_HASHES = 128
_log = structlog.get_logger()


class AuditService:
    """AuditService: see the module."""

    def __init__(self, party: Party) -> None:
        self._party = party

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        return dict((methods.COSIGN.unary_handler(self.cosign), methods.LAST_SEEN.unary_handler(self.last_seen)))

    def cosign(self, request: audit_pb2.CosignRequest) -> audit_pb2.CosignReply:
        """Cosigns a checkpoint of the caller's log, or says from which size the proof has to start.

        Raises:
            ConfideError: LOG_FORKED (the caller's fault): it contradicts what was seen before; BAD_SIGNATURE,
                INVALID_DOCUMENT or INVALID_ARGUMENT (the caller's): not a checkpoint of its log.
        """
        sender = caller().id
        shown = self._open(sender, request.checkpoint)
        if len(request.proof) > MAX_PROOF_HASHES or any(len(part) != HASH_BYTES for part in request.proof):
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a consistency proof holds hashes of 32 bytes")
        with self._party.database.transaction() as tables:
            seen = tables.witness.last_seen(sender)
            seen_size = 0 if seen is None else seen.size
            if shown.size < seen_size or (shown.size > seen_size and request.old_size != seen_size):
                return audit_pb2.CosignReply(seen_size=seen_size)
            extends = seen is None or is_consistent(
                seen.size,
                shown.size,
                old_root=bytes.fromhex(seen.root),
                new_root=shown.root,
                proof=() if seen.size == shown.size else request.proof,
            )
            now = self._party.now()
            if extends:
                tables.witness.put(WitnessedRecord(sender, shown.size, shown.root.hex(), request.checkpoint, now))
            elif seen is not None:
                _keep_evidence(tables, ForkRecord(sender, seen.note, request.checkpoint, now))
        if not extends:
            what = f"the checkpoint of {shown.size} entries does not extend the one of {seen_size} that was seen before"
            _log.error("fork_seen", peer=sender, what=what)
            raise ConfideError(ErrorCode.LOG_FORKED, what, party=sender)
        name = origin(self._party.directory.consortium, self._party.id)
        line = checkpoints.cosign(shown, name=name, key=self._party.member.signing_key, now=now).line
        return audit_pb2.CosignReply(cosignature=line.encode(), seen_size=shown.size)

    def last_seen(self, _request: audit_pb2.LastSeenRequest) -> audit_pb2.LastSeenReply:
        """Tells the last checkpoint of the caller's log that was cosigned here."""
        with self._party.database.transaction() as tables:
            seen = tables.witness.last_seen(caller().id)
        return audit_pb2.LastSeenReply(checkpoint=b"" if seen is None else seen.note)

    def _open(self, sender: str, note: bytes) -> Checkpoint:
        directory = self._party.directory
        log = origin(directory.consortium, sender)
        return open_checkpoint(note, origin=log, key=directory.signing_key(sender))[0]


def _keep_evidence(tables: Tables, fork: ForkRecord) -> None:
    if tables.witness.add_fork(fork):
        facts = {"log": fork.party, "first": sha256_hex(fork.first), "second": sha256_hex(fork.second)}
        tables.audit.append(EntryKind.FORK_SEEN, facts, now=fork.seen)
