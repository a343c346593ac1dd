"""Targets that read audit logs: entries, notes and checkpoints of other parties, and an export under the auditor's verifier."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.audit import merkle
from governance.audit.checkpoints import (
    Checkpoint,
    check_cosignature,
    cosign,
    find_cosignature,
    open_checkpoint,
    origin,
    sign_checkpoint,
)
from governance.audit.entries import NO_PREVIOUS, EntryKind, entry_body, read_entry
from governance.audit.notes import Note, parse_note
from governance.audit.tiles import bundle_bytes
from governance.documents import DocumentKind, sign
from governance.identity.keys import SigningKey
from governance.identity.names import FOUNDER
from parties.auditing.standalone import Wrong, verify
from tests.fuzz.target import Target
from tests.support.audit_logs import a_job_in_the_log, node_of
from tests.support.members import NOW

# Keys that every process of a campaign knows, so that a corpus stays one.
_KEY, _WITNESS = (SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32)) for byte in (7, 8))
_LOG, _OTHER = origin("cardio", "hospital-a"), origin("cardio", "hospital-b")


@cache
def _bodies() -> Sequence[bytes]:
    bodies: list[bytes] = []
    for index, (kind, facts) in enumerate([(EntryKind.STARTED, {"version": "1", "note": None}), *a_job_in_the_log(1)]):
        previous = merkle.leaf_hash(bodies[-1]).hex() if bodies else NO_PREVIOUS
        bodies.append(entry_body(index=index, time=NOW + timedelta(seconds=index), kind=kind, facts=facts, previous=previous))
    return bodies


@cache
def _checkpoints() -> Sequence[bytes]:
    node = node_of([merkle.leaf_hash(body) for body in _bodies()])
    notes = []
    for size in (4, len(_bodies())):
        head = Checkpoint(_LOG, size, merkle.root(size, node))
        signed = sign_checkpoint(head, key=_KEY)
        line = cosign(head, name=_OTHER, key=_WITNESS, now=NOW)
        notes.append(Note(signed.text, (*signed.signatures, line)).to_bytes())
    return notes


def _read_checkpoint(data: bytes) -> object:
    checkpoint, note = open_checkpoint(data, origin=_LOG, key=_KEY.public)
    line = find_cosignature(note, name=_OTHER, key=_WITNESS.public)
    return None if line is None else check_cosignature(checkpoint, line, name=_OTHER, key=_WITNESS.public)


@cache
def _directory() -> bytes:
    parties = [{"id": "hospital-a", "signing_key": _KEY.public.hex}, {"id": "hospital-b", "signing_key": _WITNESS.public.hex}]
    document = {"consortium": "cardio", "founder_key": _KEY.public.hex, "parties": parties, "version": 1}
    return sign(document, kind=DocumentKind.DIRECTORY, signer=FOUNDER, key=_KEY).to_bytes()


def _exports() -> Sequence[bytes]:
    # The files one after the other, each after its length.
    history, checkpoint = _checkpoints()
    leaves = b"".join(merkle.leaf_hash(body) for body in _bodies())
    return [bundle_bytes([_directory(), checkpoint, bundle_bytes([history]), leaves, bundle_bytes(_bodies())])]


def _verify(data: bytes) -> object:
    files: list[bytes] = []
    while data:
        length = int.from_bytes(data[:2], "big")
        files.append(data[2 : 2 + length])
        data = data[2 + length :]
    names = ("directory.json", "checkpoint", "history", "tile/0/000.p/11", "tile/entries/000.p/11")
    return verify(dict(zip(names, files, strict=False)).get, founder_fingerprint=None, witnesses=1)


TARGETS = (
    Target("log-entry", read_entry, _bodies),
    Target("signed-note", parse_note, _checkpoints),
    Target("log-checkpoint", _read_checkpoint, _checkpoints),
    Target("audit-export", _verify, _exports, (Wrong,)),
)
