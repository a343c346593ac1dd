"""A researcher's key files: the secret key under AES-256-GCM, the evaluation keys beside it.

    NAME.key      magic(8) header length(4) header salt-wrapped key nonce(12) ciphertext and tag       mode 0600
    NAME.upload   the evaluation keys as they are uploaded; public, kept so that their digest stays the same

Every file has a random key of its own, wrapped under what opens it (`unlocking`). The header says for which model and lane the
key is and until when; it is authenticated with the content, so a file that was altered or given another header does not open.
The count of opened answers stands inside: it is stored before their values are given out. Whoever restores an older copy
restores an older count.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from governance.consent.reading import time_text
from parties.client.encrypted.keys import QueryKey
from parties.client.encrypted.published import EncryptedModel
from parties.client.encrypted.unlocking import KEY_BYTES, SALT_BYTES, Means, Unlock
from parties.storage.files import exclusive_lock, make_folder, read_public, read_secret, write_secret
from protocols.canonical import canonical_bytes, parse_canonical, sha256_hex
from protocols.ckks.engine import Engine
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.wire import MAX_MESSAGE_BYTES
from protocols.errors import ConfideError, ErrorCode
from protocols.job_fields import read_time
from protocols.secrets import SecretBytes

FORMAT = "confide.query-key/1"
MAX_FILE_BYTES = 16 << 20
_MAGIC = b"CFQKEY\x00\x01"
_LENGTH_BYTES, _NONCE_BYTES, _TAG_BYTES = 4, 12, 16
_MAX_HEADER_BYTES = 4096
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FIELDS = {
    "format", "name", "model", "published", "lane", "plan", "key", "created", "expires", "means", "salt", "nonce", "wrapped",
}  # fmt: skip


@dataclass(frozen=True)
class StoredKey:
    """What can be read of a key file without opening it.

    Attributes:
        name: of the file.
        model: `name@version`.
        published: digest of the description that it was made for.
        lane: of which of its plans.
        plan: digest of that plan.
        key: SHA-256 of the evaluation keys.
        created: UTC.
        expires: UTC.
        means: what opens it.
    """

    name: str
    model: str
    published: str
    lane: str
    plan: str
    key: str
    created: datetime
    expires: datetime
    means: Means


class KeyFiles:
    """The key files of one researcher, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store(self, key: QueryKey, model: EncryptedModel, unlock: Unlock) -> StoredKey:
        """Stores a new key.

        Args:
            key: with the name of its file.
            model: that it was made for.
            unlock: what will open it.

        Raises:
            ConfideError: INVALID_ARGUMENT: not a name; JOB_CONFLICT: a key of this name is there.
        """
        path = self._path(key.name)
        make_folder(self.folder)
        salt, nonce, file_key = (secrets.token_bytes(size) for size in (SALT_BYTES, _NONCE_BYTES, KEY_BYTES))
        about = {
            "format": FORMAT,
            "name": key.name,
            "model": model.label,
            "published": key.published,
            "lane": key.lane,
            "plan": key.plan.digest,
            "key": key.digest,
            "created": time_text(key.created),
            "expires": time_text(key.expires),
            "means": unlock.means.value,
            "salt": salt.hex(),
            "nonce": nonce.hex(),
            "wrapped": AESGCM(unlock.wrapping_key(salt)).encrypt(nonce, file_key, _MAGIC + key.name.encode()).hex(),
        }
        with self._locked(key.name):
            if path.exists():
                raise ConfideError(ErrorCode.JOB_CONFLICT, f"there is a key called {key.name}")
            write_secret(self._upload(key.name), key.message)
            _write(path, _header(about), file_key, key.owner)
        return _stored(about, path)

    @contextmanager
    def opened(self, name: str, model: EncryptedModel, unlock: Unlock) -> Iterator[QueryKey]:
        """Opens a key for the length of a `with` block; no other command can open it meanwhile.

        Args:
            name: of the file.
            model: it must have been made for this one.
            unlock: what opens it.

        Raises:
            ConfideError: UNKNOWN_JOB: no such key; INVALID_ARGUMENT: made for another model, or the passphrase or key file is not
                the one; STATE_DAMAGED: altered; STATE_LOCKED: another command uses it.
        """
        path = self._path(name)
        with self._locked(name):
            header, about, content = _read(path)
            stored = _stored(about, path)
            if stored.published != model.published.digest:
                what = f"the key {name} was made for {stored.model}, not for {model.label} as it is published now"
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Make a new one: `confide infer keygen`.")
            plan = model.plan(stored.lane)
            file_key = _unwrap(about, stored, unlock)
            try:
                secret = AESGCM(file_key).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], header)
            except InvalidTag as error:
                raise _damaged(path) from error
            message = read_public(self._upload(name), max_bytes=MAX_MESSAGE_BYTES)
            if sha256_hex(message) != stored.key or plan.digest != stored.plan:
                raise _damaged(path)
            owner = KeyOwner.from_key_file(Engine(plan.parameters), SecretBytes(secret), secrets.token_bytes)
            yield QueryKey(
                name=name,
                published=stored.published,
                lane=stored.lane,
                plan=plan,
                owner=owner,
                message=message,
                created=stored.created,
                expires=stored.expires,
                keep=lambda owner: _write(path, header, file_key, owner),
            )

    def about(self, name: str) -> StoredKey:
        """Returns what can be read of a key without opening it.

        Raises:
            ConfideError: UNKNOWN_JOB: no such key; STATE_DAMAGED.
        """
        path = self._path(name)
        return _stored(_read(path)[1], path)

    def names(self) -> list[str]:
        """Returns the names of all keys, damaged ones too."""
        return sorted(path.stem for path in self.folder.glob("*.key") if _NAME.fullmatch(path.stem))

    def all(self) -> list[StoredKey]:
        """Returns all keys, by name.

        Raises:
            ConfideError: STATE_DAMAGED: one of them cannot be read.
        """
        return [self.about(name) for name in self.names()]

    def remove(self, name: str) -> None:
        """Removes a key, a damaged one too; what was asked under it and not opened cannot be opened any more.

        Raises:
            ConfideError: UNKNOWN_JOB: no such key; STATE_LOCKED: another command uses it.
        """
        with self._locked(name):
            try:
                self._path(name).unlink()
            except FileNotFoundError as error:
                raise _unknown(self._path(name)) from error
            self._upload(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            what = "a key's name has lower-case letters, digits and hyphens, 63 at most"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
        return self.folder / f"{name}.key"

    def _upload(self, name: str) -> Path:
        return self.folder / f"{name}.upload"

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        path = self._path(name)
        if not self.folder.is_dir():
            raise _unknown(path)
        with exclusive_lock(self.folder / f".{name}.lock", busy=f"another command uses the key {name}"):
            yield


def _header(about: Mapping[str, str]) -> bytes:
    written = canonical_bytes(dict(about))
    return _MAGIC + len(written).to_bytes(_LENGTH_BYTES, "little") + written


def _write(path: Path, header: bytes, file_key: bytes, owner: KeyOwner) -> None:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    write_secret(path, header + nonce + AESGCM(file_key).encrypt(nonce, owner.key_file().reveal(), header))


def _read(path: Path) -> tuple[bytes, dict[str, Any], bytes]:
    """Returns the header as it is authenticated, what it says, and what follows it."""
    if not path.is_file():
        raise _unknown(path)
    data = read_secret(path, max_bytes=MAX_FILE_BYTES)
    start = len(_MAGIC) + _LENGTH_BYTES
    length = int.from_bytes(data[len(_MAGIC) : start], "little")
    if not data.startswith(_MAGIC) or length > _MAX_HEADER_BYTES or len(data) < start + length + _NONCE_BYTES + _TAG_BYTES:
        raise _damaged(path)
    try:
        about = parse_canonical(data[start : start + length])
    except ConfideError as error:
        raise _damaged(path) from error
    return data[: start + length], about, data[start + length :]


def _stored(about: Mapping[str, Any], path: Path) -> StoredKey:
    try:
        if set(about) != _FIELDS or about["format"] != FORMAT or about["name"] != path.stem:
            raise ValueError("not the fields of a key file")
        return StoredKey(
            name=path.stem,
            model=str(about["model"]),
            published=str(about["published"]),
            lane=str(about["lane"]),
            plan=str(about["plan"]),
            key=str(about["key"]),
            created=read_time(about["created"]),
            expires=read_time(about["expires"]),
            means=Means(about["means"]),
        )
    except ValueError as error:
        raise _damaged(path) from error


def _unwrap(about: Mapping[str, Any], stored: StoredKey, unlock: Unlock) -> bytes:
    if unlock.means is not stored.means:
        what = f"the key {stored.name} opens with a {stored.means.value}, not with a {unlock.means.value}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    try:
        salt, nonce, wrapped = (bytes.fromhex(str(about[name])) for name in ("salt", "nonce", "wrapped"))
        return AESGCM(unlock.wrapping_key(salt)).decrypt(nonce, wrapped, _MAGIC + stored.name.encode())
    except (InvalidTag, ValueError) as error:
        what = f"the key {stored.name} does not open with this {stored.means.value}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Try another, or make a new key.") from error


def _unknown(path: Path) -> ConfideError:
    return ConfideError(ErrorCode.UNKNOWN_JOB, f"there is no key called {path.stem}", remedy="Look at `confide infer keys`.")


def _damaged(path: Path) -> ConfideError:
    return ConfideError(ErrorCode.STATE_DAMAGED, f"{path} is no key file, or it was altered", remedy="Make a new key.")
