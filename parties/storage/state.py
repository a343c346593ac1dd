"""Folders of members: where keys, certificate, directory, database and sealed files lie.

<folder>/keys/signing.pem  keys/tls.pem       secret keys, mode 0600, made here, never copied anywhere
<folder>/certificate.pem   directory.json     what the founder gave out
<folder>/founder.txt                          fingerprint of the founder's key, pinned when the member joined
<folder>/keys/storage.key  confide.db  sealed/  lock      a party's folder only
<folder>/log-head                             the newest checkpoint of a party's audit log
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from governance.documents import SignedDocument
from governance.identity.certificates import MAX_PEM_BYTES, check_certificate
from governance.identity.directory import Directory, read_directory
from governance.identity.keys import EcdsaKey, SigningKey, generate_ecdsa_key, generate_signing_key, public_key_digest
from governance.identity.names import MemberKind, PeerIdentity
from parties.storage.files import exclusive_lock, make_folder, read_public, read_secret, write_secret
from parties.storage.sealed import SealedFiles, StorageKey, generate_storage_key
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.errors import ConfideError, ErrorCode


@dataclass(frozen=True)
class Member:
    """What a member needs to act: its secret keys, its certificate and the directory it believes.

    Attributes:
        identity: who it is.
        signing_key: secret key of its documents.
        tls_key: secret key of its certificate.
        certificate: its certificate, PEM.
        directory: the directory, checked.
    """

    identity: PeerIdentity
    signing_key: SigningKey
    tls_key: EcdsaKey
    certificate: str
    directory: Directory


@dataclass(frozen=True)
class MemberFolder:
    """The part of a folder that parties and researchers have in common."""

    root: Path

    @property
    def signing_key_file(self) -> Path:
        """Secret key of documents."""
        return self.root / "keys" / "signing.pem"

    @property
    def tls_key_file(self) -> Path:
        """Secret key of the certificate."""
        return self.root / "keys" / "tls.pem"

    @property
    def certificate_file(self) -> Path:
        """The member's certificate."""
        return self.root / "certificate.pem"

    @property
    def directory_file(self) -> Path:
        """The signed directory."""
        return self.root / "directory.json"

    @property
    def founder_file(self) -> Path:
        """The pinned fingerprint of the founder's key."""
        return self.root / "founder.txt"

    def create_keys(self) -> tuple[SigningKey, EcdsaKey]:
        """Makes the member's keys here, mode 0600.

        Raises:
            ConfideError: JOB_CONFLICT (the operator's fault): there are keys already; they are never overwritten.
        """
        if self.signing_key_file.exists() or self.tls_key_file.exists():
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"{self.root} holds the keys of a member already")
        make_folder(self.signing_key_file.parent)
        signing_key, tls_key = generate_signing_key(), generate_ecdsa_key()
        write_secret(self.signing_key_file, signing_key.export_secret_pem())
        write_secret(self.tls_key_file, tls_key.export_secret_pem())
        return signing_key, tls_key

    def load_signing_key(self) -> SigningKey:
        """Reads the secret key of documents.

        Raises:
            ConfideError: FILE_MODE, INVALID_CONFIG or INVALID_ARGUMENT (the operator's fault).
        """
        return SigningKey.from_pem(read_secret(self.signing_key_file))

    def load_tls_key(self) -> EcdsaKey:
        """Reads the secret key of the certificate.

        Raises:
            ConfideError: FILE_MODE, INVALID_CONFIG or INVALID_ARGUMENT (the operator's fault).
        """
        return EcdsaKey.from_pem(read_secret(self.tls_key_file))

    def pinned_founder(self) -> str | None:
        """Returns the pinned fingerprint, or None before the member has joined."""
        if not self.founder_file.exists():
            return None
        return read_public(self.founder_file, max_bytes=256).decode("ascii", "replace").strip()

    def load_directory(self) -> Directory:
        """Reads the directory that this member holds, and checks it against the pinned founder.

        Raises:
            ConfideError: NOT_ENROLLED before the member has joined; else as `read_directory`.
        """
        founder = self.pinned_founder()
        if founder is None or not self.directory_file.exists():
            raise ConfideError(ErrorCode.NOT_ENROLLED, f"{self.root} holds no directory yet", remedy="Join with `join` first.")
        signed = SignedDocument.from_bytes(read_public(self.directory_file, max_bytes=MAX_DOCUMENT_BYTES))
        return read_directory(signed, founder_fingerprint=founder)

    def load_member(self, *, kind: MemberKind, member: str, now: datetime) -> Member:
        """Reads everything a member needs to act, and checks that it fits together now.

        Args:
            kind: what the folder's configuration says it is.
            member: the id it says.
            now: the time, UTC.

        Raises:
            ConfideError: as the parts; NOT_ENROLLED if directory and keys do not belong together; UNAUTHENTICATED if the
                certificate is out of its time.
        """
        directory = self.load_directory()
        identity = PeerIdentity(kind, directory.consortium, member)
        certificate = read_public(self.certificate_file, max_bytes=MAX_PEM_BYTES).decode("ascii", "replace")
        signing_key, tls_key = self.load_signing_key(), self.load_tls_key()
        require_own_entry(directory, identity, signing_key=signing_key, tls_key=tls_key, now=now)
        if directory.check_peer(certificate, now) != identity:
            raise ConfideError(ErrorCode.NOT_ENROLLED, f"{self.certificate_file} is not the certificate of {member}")
        return Member(identity, signing_key, tls_key, certificate, directory)


@dataclass(frozen=True)
class StateFolder:
    """A party's folder: a member's, with storage key, database and sealed files."""

    root: Path

    @property
    def member(self) -> MemberFolder:
        """Keys, certificate and directory."""
        return MemberFolder(self.root)

    @property
    def storage_key_file(self) -> Path:
        """Secret key of the sealed files."""
        return self.root / "keys" / "storage.key"

    @property
    def database_file(self) -> Path:
        """The database."""
        return self.root / "confide.db"

    @property
    def log_head_file(self) -> Path:
        """The newest checkpoint of the audit log, outside the database: a database from a backup does not reach it."""
        return self.root / "log-head"

    @property
    def sealed_folder(self) -> Path:
        """Where the sealed files lie."""
        return self.root / "sealed"

    def create_storage(self) -> None:
        """Makes the storage key and the folder of the sealed files.

        Raises:
            ConfideError: JOB_CONFLICT (the operator's fault): there is a key already.
        """
        if self.storage_key_file.exists():
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"{self.root} holds a storage key already")
        make_folder(self.sealed_folder)
        make_folder(self.storage_key_file.parent)
        write_secret(self.storage_key_file, generate_storage_key().export_secret_bytes())

    def open_sealed(self) -> SealedFiles:
        """Opens the sealed files.

        Raises:
            ConfideError: FILE_MODE, INVALID_CONFIG or INVALID_ARGUMENT (the operator's fault).
        """
        return SealedFiles(self.sealed_folder, StorageKey(read_secret(self.storage_key_file)))

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Holds the folder for the one process that serves it; commands such as a registration need no lock.

        Raises:
            ConfideError: STATE_LOCKED (the operator's fault): another process serves it.
        """
        with exclusive_lock(self.root / "lock", busy=f"another process serves {self.root}"):
            yield


def require_own_entry(
    directory: Directory, identity: PeerIdentity, *, signing_key: SigningKey, tls_key: EcdsaKey, now: datetime
) -> str:
    """Checks that the directory lists a member with the very keys in its folder.

    Returns:
        The member's certificate, PEM.

    Raises:
        ConfideError: NOT_ENROLLED (the operator's fault); UNAUTHENTICATED if the certificate is out of its time.
    """
    party = identity.kind is MemberKind.PARTY
    entry = directory.party(identity.id) if party else directory.researcher(identity.id)
    shown = check_certificate(entry.certificate, ca_certificate=directory.ca_certificate, now=now)
    if entry.signing_key != signing_key.public or shown.public_key_digest != public_key_digest(tls_key.public):
        raise ConfideError(
            ErrorCode.NOT_ENROLLED,
            f"the directory lists {identity.id} with other keys than this folder holds",
            remedy="Send the founder the request that belongs to these keys.",
        )
    return entry.certificate
