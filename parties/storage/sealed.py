"""Sealed files: what a party keeps of rows and shares, readable with its storage key only.

Every file has its own random 256-bit key, which encrypts it with AES-256-GCM and lies in front of it, wrapped under the
party's storage key. Purpose and id are authenticated with both, so a file that was altered, swapped with another or moved to
another name does not open. File names are random: they say nothing about the contents.

    magic (8) | wrapping nonce (12) | wrapped key (48) | nonce (12) | ciphertext and tag
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from parties.storage.files import overwrite_start, read_secret, write_secret
from protocols.errors import ConfideError, ErrorCode

KEY_BYTES = 32
MAX_SEALED_BYTES = 1 << 30
_MAGIC = b"CFSEAL\x00\x01"
_PEOPLE = b"confide people of data sets 1"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_WRAPPED_BYTES = KEY_BYTES + _TAG_BYTES
_HEADER_BYTES = len(_MAGIC) + _NONCE_BYTES + _WRAPPED_BYTES + _NONCE_BYTES
_PROBE_BYTES = 256 << 10
_NAME = re.compile(r"[0-9a-f]{32}\.sealed")
_OURS = re.compile(r"\.?[0-9a-f]{32}\.sealed(\.[0-9a-f]{16})?")  # with a dot in front: still being written


class Purpose(Enum):
    """What a sealed file is for; authenticated, so no file passes for one of another purpose."""

    DATASET = "dataset"
    MODEL_SHARE = "model-share"
    OUTPUT_SHARE = "output-share"
    QUERY_SHARE = "query-share"
    CHECKPOINT = "checkpoint"
    PUBLISHED_MODEL = "published-model"
    ENCRYPTED_ANSWER = "encrypted-answer"
    INTERSECTION = "intersection"  # rows that wait for a private intersection, and the key that masks them


class StorageKey:
    """The secret 256-bit key of a party's sealed files; it shows nothing and cannot be pickled."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ConfideError(ErrorCode.INVALID_CONFIG, f"a storage key has {KEY_BYTES} bytes")
        self._key = key

    def __repr__(self) -> str:
        return "StorageKey(secret)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a storage key cannot be pickled")

    def export_secret_bytes(self) -> bytes:
        """Returns the 32 bytes, for a file of mode 0600 and for the cipher."""
        return self._key


def generate_storage_key() -> StorageKey:
    """Draws a new storage key from the operating system."""
    return StorageKey(secrets.token_bytes(KEY_BYTES))


class SealedFiles:
    """The sealed files of one party, in one folder."""

    def __init__(self, folder: Path, key: StorageKey) -> None:
        self._folder = folder
        self._wrapping = AESGCM(key.export_secret_bytes())
        self._people_key = hmac.digest(key.export_secret_bytes(), _PEOPLE, "sha256")

    @property
    def people_key(self) -> bytes:
        """The secret key, 32 bytes, of the digests by which this party recognises people in its own data sets."""
        return self._people_key

    def write(self, purpose: Purpose, object_id: str, data: bytes) -> str:
        """Seals `data` into a new file.

        Args:
            purpose: what it is for.
            object_id: what it belongs to, for example `model-name/version`; needed again to open it.
            data: at most 1 GiB; secret.

        Returns:
            The file's name in the folder, random.

        Raises:
            ConfideError: DISK_FULL (the operator's fault); INVALID_ARGUMENT: too large, or the folder cannot be written.
        """
        if len(data) > MAX_SEALED_BYTES:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"at most {MAX_SEALED_BYTES} bytes fit into a sealed file")
        bound = _associated(purpose, object_id)
        file_key = secrets.token_bytes(KEY_BYTES)
        wrapping_nonce, nonce = secrets.token_bytes(_NONCE_BYTES), secrets.token_bytes(_NONCE_BYTES)
        header = _MAGIC + wrapping_nonce + self._wrapping.encrypt(wrapping_nonce, file_key, bound) + nonce
        name = f"{secrets.token_hex(16)}.sealed"
        write_secret(self._folder / name, header + AESGCM(file_key).encrypt(nonce, data, header + bound))
        return name

    def read(self, purpose: Purpose, object_id: str, name: str) -> bytes:
        """Opens a sealed file.

        Args:
            purpose: as it was written.
            object_id: as it was written.
            name: as `write` returned it.

        Raises:
            ConfideError: STATE_DAMAGED (the operator's fault): missing, altered, swapped, or sealed under another key;
                FILE_MODE if others may read it.
        """
        path = self._path(name)
        if not path.is_file():
            raise ConfideError(ErrorCode.STATE_DAMAGED, f"the sealed file of {purpose.value} {object_id} is missing")
        stored = read_secret(path, max_bytes=_HEADER_BYTES + MAX_SEALED_BYTES + _TAG_BYTES)
        bound = _associated(purpose, object_id)
        header, ciphertext = stored[:_HEADER_BYTES], stored[_HEADER_BYTES:]
        wrapping_nonce = header[len(_MAGIC) : len(_MAGIC) + _NONCE_BYTES]
        wrapped = header[len(_MAGIC) + _NONCE_BYTES : -_NONCE_BYTES]
        try:
            if len(header) != _HEADER_BYTES or not header.startswith(_MAGIC) or len(ciphertext) < _TAG_BYTES:
                raise InvalidTag
            file_key = self._wrapping.decrypt(wrapping_nonce, wrapped, bound)
            return AESGCM(file_key).decrypt(header[-_NONCE_BYTES:], ciphertext, header + bound)
        except InvalidTag as error:
            raise ConfideError(
                ErrorCode.STATE_DAMAGED, f"the sealed file of {purpose.value} {object_id} does not open"
            ) from error

    def delete(self, name: str) -> None:
        """Destroys a sealed file: its wrapped key is overwritten on the disk before the file is removed.

        So the rows or shares are gone even where the blocks of the file stay readable. What a file system or a flash disk copied
        aside before is out of reach; the storage key's own safety is what protects that. One that is gone already is no error.
        """
        path = self._path(name)
        try:
            overwrite_start(path, bytes(_HEADER_BYTES))
        except FileNotFoundError:
            return
        path.unlink(missing_ok=True)

    def digest(self, name: str) -> str:
        """Returns the SHA-256 digest of a sealed file as it lies on the disk, 64 hexadecimal digits; empty if there is none.

        It says nothing about the contents: they are encrypted under a random key.
        """
        try:
            with self._path(name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:  # another process may destroy it just now
            return ""

    def sweep(self, named: Collection[str]) -> int:
        """Removes every sealed file that no table names, and what is left of files that were being written.

        Call it inside a transaction whose tables gave the names: whoever seals a file and then names it in a table does both
        in one transaction too, or in the process that sweeps.

        Returns:
            How many files were removed.
        """
        strays = [path for path in self._folder.iterdir() if path.name not in named and _OURS.fullmatch(path.name)]
        for path in strays:
            with suppress(FileNotFoundError):
                overwrite_start(path, bytes(_HEADER_BYTES))
            path.unlink(missing_ok=True)
        return len(strays)

    def probe(self) -> None:
        """Writes and removes a file, to see whether the disk takes anything.

        Raises:
            ConfideError: DISK_FULL or INVALID_ARGUMENT (the operator's fault): it does not.
        """
        name = f"{secrets.token_hex(16)}.sealed"
        write_secret(self._folder / name, bytes(_PROBE_BYTES))
        self.delete(name)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ConfideError(ErrorCode.STATE_DAMAGED, "the database names a sealed file that cannot exist")
        return self._folder / name


def _associated(purpose: Purpose, object_id: str) -> bytes:
    return b"confide sealed 1\0" + purpose.value.encode() + b"\0" + object_id.encode()
