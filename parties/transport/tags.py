"""Authentication of frames from worker to worker: AES-256-GMAC, one key a direction, one nonce a frame.

TLS protects the wire between two party processes. The tag protects a frame on the rest of its way as well: through the party
processes, their sockets and whatever may end TLS in front of them. Keys come from the fresh secret of a pair
(`parties.worker.handshake`); the nonce is the frame's sequence number, which a direction never repeats, so no nonce is used
twice with a key. See docs/adr/0010-frame-authentication.md.

Before a pair has its secret, frames carry tags under a key that anybody can derive. Those find faults, not forgers.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.secrets import SecretBytes

TAG_BYTES = 16
_NONCE_BYTES = 12


class TagKey:
    """The key of one direction of a link; secret, without a text form."""

    __slots__ = ("_cipher",)

    def __init__(self, key: SecretBytes) -> None:
        """Takes 32 bytes that are used for nothing else."""
        self._cipher = AESGCM(key.reveal())

    def __repr__(self) -> str:
        return "TagKey()"

    def tag(self, sequence: int, frame: bytes | memoryview) -> bytes:
        """Returns the 16 bytes that follow a frame; public. A sequence number may be used once."""
        return self._cipher.encrypt(sequence.to_bytes(_NONCE_BYTES, "little"), b"", frame)

    def matches(self, sequence: int, frame: bytes | memoryview, tag: bytes | memoryview) -> bool:
        """Tells whether a holder of this key made the tag for these bytes; takes the same time whatever the tag."""
        try:
            self._cipher.decrypt(sequence.to_bytes(_NONCE_BYTES, "little"), tag, frame)
        except InvalidTag:
            return False
        return True


def opening_key(session: bytes, attempt: int) -> TagKey:
    """Returns the key of a link's first frames, which everybody can derive: it finds faults and frames of another session."""
    return TagKey(SecretBytes(hashlib.sha256(b"confide.frames/1 opening" + session + attempt.to_bytes(4, "little")).digest()))
