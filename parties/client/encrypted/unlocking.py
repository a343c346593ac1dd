"""What opens a researcher's key files: a passphrase, or a file that she keeps elsewhere. Both give what wraps a file's own key.

A passphrase goes through scrypt (N = 2^17, r = 8, p = 1: 128 MiB, a fraction of a second), a file of 32 random bytes through
HKDF-SHA-256, each with a salt that every key file has of its own.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from parties.storage.files import make_folder, read_secret, write_secret
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

KEY_BYTES = 32
SALT_BYTES = 16
MIN_PASSPHRASE = 12
MAX_PASSPHRASE_BYTES = 1024
_SCRYPT_N = 1 << 17
_INFO = b"confide key file 1"


class Means(Enum):
    """What a key file is opened with; it stands in the file."""

    PASSPHRASE = "passphrase"  # noqa: S105  (the name of a means, not one)
    KEY_FILE = "key-file"


@dataclass(frozen=True)
class Unlock:
    """A secret that opens key files.

    Attributes:
        means: which kind.
        secret: the passphrase's UTF-8, or the content of the key file.
    """

    means: Means
    secret: SecretBytes

    def wrapping_key(self, salt: bytes) -> bytes:
        """Returns the key that wraps the key of a file with this salt; secret."""
        match self.means:
            case Means.PASSPHRASE:
                return Scrypt(salt=salt, length=KEY_BYTES, n=_SCRYPT_N, r=8, p=1).derive(self.secret.reveal())
            case Means.KEY_FILE:
                return HKDF(SHA256(), KEY_BYTES, salt, _INFO).derive(self.secret.reveal())


def by_passphrase(passphrase: str) -> Unlock:
    """Returns what a passphrase opens.

    Raises:
        ConfideError: INVALID_ARGUMENT: it is too short to be one, or too long.
    """
    data = passphrase.encode()
    if len(passphrase) < MIN_PASSPHRASE or len(data) > MAX_PASSPHRASE_BYTES:
        what = f"a passphrase has {MIN_PASSPHRASE} letters at least and {MAX_PASSPHRASE_BYTES} bytes at most"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    return Unlock(Means.PASSPHRASE, SecretBytes(data))


def by_passphrase_file(path: Path) -> Unlock:
    """Returns what the passphrase in the first line of a file opens.

    Raises:
        ConfideError: FILE_MODE: others may read it; INVALID_ARGUMENT: it cannot be read, or holds no passphrase.
    """
    try:
        lines = read_secret(path, max_bytes=MAX_PASSPHRASE_BYTES + 2).decode().splitlines()
    except UnicodeDecodeError as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} is not UTF-8") from error
    return by_passphrase(lines[0] if lines else "")


def by_key_file(path: Path) -> Unlock:
    """Returns what a file of random bytes opens.

    Raises:
        ConfideError: FILE_MODE: others may read it; INVALID_ARGUMENT: it cannot be read, or is no such file.
    """
    data = read_secret(path, max_bytes=KEY_BYTES + 1)
    if len(data) != KEY_BYTES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} does not hold {KEY_BYTES} bytes")
    return Unlock(Means.KEY_FILE, SecretBytes(data))


def make_key_file(path: Path) -> Unlock:
    """Writes a new file of random bytes and returns what it opens; an existing one is used as it is.

    Raises:
        ConfideError: as `by_key_file`, or the place cannot be written.
    """
    if not path.exists():
        make_folder(path.parent)
        write_secret(path, secrets.token_bytes(KEY_BYTES))
    return by_key_file(path)
