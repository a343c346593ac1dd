"""Signed notes (C2SP signed-note): a text, a blank line, signature lines; each line names a key and holds what it signed.

    confide/demo/hospital-a
    42
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — confide/demo/hospital-a Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=

A party signs notes with the key of its documents. What is signed can never be taken for one another, by its first bytes:
documents of ours begin with `confide signature 1` and a NUL, which no note holds; a cosignature begins with the line
`cosignature/v1`; the text of a note that we sign begins with the log's origin `confide/...`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from enum import Enum

from governance.identity.keys import SIGNATURE_BYTES, SigningKey, VerifyingKey
from protocols.errors import ConfideError, ErrorCode

MAX_NOTE_BYTES = 64 * 1024
MAX_SIGNATURES = 300  # more than a consortium has parties
KEY_ID_BYTES = 4
_DASH = "\N{EM DASH}"
_NAME = re.compile(r"[^\s+]{1,256}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class SignatureType(Enum):
    """Which kind of signature a line holds; part of its key id. The values are assigned by the specification."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True)
class NoteSignature:
    """One signature line; public.

    Attributes:
        name: name of the key.
        key_id: 4 bytes that tell keys and kinds of signatures of one name apart; no proof of anything.
        signature: what the key made, in the form of its type.
    """

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line, without its final newline."""
        return f"{_DASH} {self.name} {base64.b64encode(self.key_id + self.signature).decode()}"


@dataclass(frozen=True)
class Note:
    """A signed note as it was read; public. Nothing about it is believed before a signature has been checked.

    Attributes:
        text: what is signed, ending in a newline.
        signatures: at least one.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def to_bytes(self) -> bytes:
        """Returns the note, for a file or the wire."""
        return "\n".join((self.text, *(signature.line for signature in self.signatures), "")).encode()

    def by(self, name: str, key_id: bytes) -> NoteSignature | None:
        """Returns the line of one key, or None; other lines are nothing to us, as the specification asks."""
        for signature in self.signatures:
            if signature.name == name and signature.key_id == key_id:
                return signature
        return None


def key_id(name: str, kind: SignatureType, key: VerifyingKey) -> bytes:
    """Returns the id of a key under a name, 4 bytes."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind.value]) + bytes.fromhex(key.hex)).digest()[:KEY_ID_BYTES]


def sign_note(text: str, *, name: str, key: SigningKey) -> Note:
    """Signs a text as a note.

    Args:
        text: public; ends in a newline and holds no other control character.
        name: name of the key.
        key: the signer's secret key.

    Raises:
        ConfideError: INVALID_ARGUMENT: text or name are not those of a note.
    """
    if not text.endswith("\n") or _CONTROL.search(text) or not _NAME.fullmatch(name):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the text or the name is not that of a signed note")
    signature = key.sign(text.encode())
    return Note(text, (NoteSignature(name, key_id(name, SignatureType.ED25519, key.public), signature),))


def check_note(note: Note, *, name: str, key: VerifyingKey) -> None:
    """Checks that the holder of this key signed the note under this name.

    Raises:
        ConfideError: BAD_SIGNATURE (the sender's fault): it did not, or the signature does not verify.
    """
    signature = note.by(name, key_id(name, SignatureType.ED25519, key))
    if signature is None:
        raise ConfideError(ErrorCode.BAD_SIGNATURE, f"the note is not signed by {name[:256]} with the key that is known")
    if len(signature.signature) != SIGNATURE_BYTES or not key.is_valid(signature.signature, note.text.encode()):
        raise ConfideError(ErrorCode.BAD_SIGNATURE, f"the signature of {name} under the note does not verify")


def parse_note(data: bytes) -> Note:
    """Reads a signed note; does not verify it.

    Raises:
        ConfideError: INVALID_DOCUMENT (the sender's fault): too long, not a note, or too many signatures.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"a note of {len(data)} bytes; at most {MAX_NOTE_BYTES} are read")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a note must be UTF-8") from error
    text, blank, signatures = whole.rpartition("\n\n")
    if not blank or _CONTROL.search(whole) or not signatures.endswith("\n"):
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "this is not a signed note")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"a note with more than {MAX_SIGNATURES} signatures")
    return Note(f"{text}\n", tuple(parse_signature(line) for line in lines))


def parse_signature(line: str) -> NoteSignature:
    """Reads one signature line, without its final newline; does not verify it.

    Raises:
        ConfideError: INVALID_DOCUMENT (the sender's fault).
    """
    parts = line.split(" ")
    if len(line) > MAX_NOTE_BYTES or len(parts) != 3 or parts[0] != _DASH or not _NAME.fullmatch(parts[1]):
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a line of a note is not a signature")
    try:
        value = base64.b64decode(parts[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a signature of a note is not base64") from error
    # One encoding only: base64 readers ignore the unused bits of the last digit.
    if len(value) <= KEY_ID_BYTES or base64.b64encode(value).decode() != parts[2]:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a signature of a note is too short or not canonical base64")
    return NoteSignature(parts[1], value[:KEY_ID_BYTES], value[KEY_ID_BYTES:])
