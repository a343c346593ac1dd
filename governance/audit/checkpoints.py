"""Checkpoints of logs (C2SP tlog-checkpoint) and what witnesses say about them (C2SP tlog-cosignature, version 1, Ed25519).

A checkpoint states: my log has this many entries and this root. A log must never sign two that contradict each other. A
cosignature states: at this time, this is the largest tree of this log that I have seen, and it extends all that I had seen.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from governance.audit.merkle import HASH_BYTES
from governance.audit.notes import Note, NoteSignature, SignatureType, check_note, key_id, parse_note, sign_note
from governance.identity.keys import SIGNATURE_BYTES, SigningKey, VerifyingKey
from protocols.errors import ConfideError, ErrorCode

MAX_CHECKPOINT_LINES = 3  # no extension lines: nobody could audit them
_TIMESTAMP_BYTES = 8
_LATEST = 253_402_300_799  # the last second that a date of four digits names
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_ORIGIN = re.compile(r"[^\s+]{1,256}")


@dataclass(frozen=True)
class Checkpoint:
    """What a log says about itself; public.

    Attributes:
        origin: which log, `confide/<consortium>/<party>`.
        size: how many entries it has.
        root: root of the Merkle tree over them, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text of the note."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin(consortium: str, party: str) -> str:
    """Returns the origin of a party's log, which is also the name of its key in notes."""
    return f"confide/{consortium}/{party}"


def sign_checkpoint(checkpoint: Checkpoint, *, key: SigningKey) -> Note:
    """Signs a checkpoint of one's own log; the caller makes sure that no other one of this size was ever signed."""
    return sign_note(checkpoint.text, name=checkpoint.origin, key=key)


def parse_checkpoint(text: str) -> Checkpoint:
    """Reads the text of a checkpoint strictly.

    Raises:
        ConfideError: INVALID_DOCUMENT (the sender's fault).
    """
    lines = text.split("\n")
    if len(lines) != MAX_CHECKPOINT_LINES + 1 or lines[-1] or not _ORIGIN.fullmatch(lines[0]) or not _SIZE.fullmatch(lines[1]):
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "this is not the text of a checkpoint: origin, size, root")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the root of a checkpoint is not base64") from error
    checkpoint = Checkpoint(lines[0], int(lines[1]), root)
    if len(root) != HASH_BYTES or checkpoint.text != text:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the root of a checkpoint is not 32 bytes in canonical base64")
    return checkpoint


def open_checkpoint(data: bytes, *, origin: str, key: VerifyingKey) -> tuple[Checkpoint, Note]:
    """Reads a signed checkpoint and checks the log's own signature; cosignatures are left to `check_cosignature`.

    Args:
        data: the note.
        origin: the log that is expected.
        key: the key of its party, from the directory.

    Returns:
        What it says, and the note with all its signatures.

    Raises:
        ConfideError: INVALID_DOCUMENT or BAD_SIGNATURE (the sender's fault), also if it is another log's.
    """
    note = parse_note(data)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise ConfideError(ErrorCode.BAD_SIGNATURE, f"a checkpoint of {checkpoint.origin} where one of {origin} is expected")
    check_note(note, name=origin, key=key)
    return checkpoint, note


def cosign(checkpoint: Checkpoint, *, name: str, key: SigningKey, now: datetime) -> NoteSignature:
    """Cosigns a checkpoint as a witness; the caller has checked that it extends everything that it has seen of that log.

    Args:
        checkpoint: what is cosigned.
        name: name of the witness' key: the origin of its own log.
        key: the witness' secret key.
        now: the time, UTC; cut to whole seconds.
    """
    seconds = int(now.timestamp())
    signature = key.sign(_cosigned(checkpoint, seconds))
    return NoteSignature(
        name, key_id(name, SignatureType.COSIGNATURE, key.public), seconds.to_bytes(_TIMESTAMP_BYTES, "big") + signature
    )


def check_cosignature(checkpoint: Checkpoint, signature: NoteSignature, *, name: str, key: VerifyingKey) -> datetime:
    """Checks a witness' cosignature of a checkpoint.

    Args:
        checkpoint: what was cosigned.
        signature: the witness' line.
        name: the only name that is accepted here.
        key: the witness' public key, from the directory.

    Returns:
        When the witness made it, UTC.

    Raises:
        ConfideError: BAD_SIGNATURE (the witness' or the sender's fault).
    """
    value = signature.signature
    if signature.name != name or signature.key_id != key_id(name, SignatureType.COSIGNATURE, key):
        raise ConfideError(ErrorCode.BAD_SIGNATURE, f"this is not a cosignature by {name} with the key that is known")
    seconds = int.from_bytes(value[:_TIMESTAMP_BYTES], "big")
    if len(value) != _TIMESTAMP_BYTES + SIGNATURE_BYTES or seconds > _LATEST:
        raise ConfideError(ErrorCode.BAD_SIGNATURE, f"the cosignature of {name} has not the form of one")
    if not key.is_valid(value[_TIMESTAMP_BYTES:], _cosigned(checkpoint, seconds)):
        raise ConfideError(ErrorCode.BAD_SIGNATURE, f"the cosignature of {name} does not verify")
    return datetime.fromtimestamp(seconds, UTC)


def find_cosignature(note: Note, *, name: str, key: VerifyingKey) -> NoteSignature | None:
    """Returns the line of a note that claims to be a witness' cosignature, unverified, or None."""
    return note.by(name, key_id(name, SignatureType.COSIGNATURE, key))


def _cosigned(checkpoint: Checkpoint, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{checkpoint.text}".encode()
