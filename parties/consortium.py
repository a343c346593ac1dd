"""The founder's work: the consortium's authority, approvals, and the signed directory.

    <folder>/keys/founder.pem  keys/ca.pem     secret, mode 0600
    <folder>/ca.pem                            the authority's certificate
    <folder>/directory.json                    the newest signed directory, for every member
    <folder>/history/directory-000001.json     every version that was signed

The folder needs no network and may lie on a machine without one; requests and directories travel as files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from governance.documents import SignedDocument
from governance.identity.ca import MEMBER_LIFETIME, generate_serial, issue_certificate, make_ca_certificate
from governance.identity.certificates import MAX_PEM_BYTES
from governance.identity.directory import Directory, PartyEntry, ResearcherEntry, read_directory, sign_directory
from governance.identity.keys import EcdsaKey, SigningKey, generate_ecdsa_key, generate_signing_key
from governance.identity.names import MemberKind, PeerIdentity, Role, require_fingerprint
from governance.identity.request import EnrolmentRequest, read_request
from parties.storage.files import exclusive_lock, make_folder, read_public, read_secret, write_public, write_secret
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.errors import ConfideError, ErrorCode

E = TypeVar("E", PartyEntry, ResearcherEntry)


@dataclass(frozen=True)
class ConsortiumFolder:
    """Where the founder keeps the consortium."""

    root: Path

    @property
    def founder_key_file(self) -> Path:
        """Secret key that signs directories."""
        return self.root / "keys" / "founder.pem"

    @property
    def ca_key_file(self) -> Path:
        """Secret key of the authority."""
        return self.root / "keys" / "ca.pem"

    @property
    def ca_certificate_file(self) -> Path:
        """Certificate of the authority."""
        return self.root / "ca.pem"

    @property
    def directory_file(self) -> Path:
        """The newest signed directory."""
        return self.root / "directory.json"

    def history_file(self, version: int) -> Path:
        """Where one signed version is kept."""
        return self.root / "history" / f"directory-{version:06d}.json"


def init_consortium(folder: Path, *, consortium: str, now: datetime) -> Directory:
    """Founds a consortium: makes its keys and certificate, and signs version 1 of the directory, which is empty.

    Args:
        folder: where everything is kept; made if missing.
        consortium: its id.
        now: the time, UTC.

    Returns:
        The directory; the fingerprint of its `founder_key` is what members must learn out of band.

    Raises:
        ConfideError: JOB_CONFLICT: there is a consortium already; INVALID_DOCUMENT: not an id.
    """
    place = ConsortiumFolder(folder)
    if place.founder_key_file.exists() or place.ca_key_file.exists():
        raise ConfideError(ErrorCode.JOB_CONFLICT, f"{folder} holds a consortium already")
    founder_key, ca_key = generate_signing_key(), generate_ecdsa_key()
    certificate = make_ca_certificate(ca_key, consortium=consortium, serial=generate_serial(), now=now)
    directory = Directory(
        consortium=consortium,
        version=1,
        issued=now.replace(microsecond=0),
        ca_certificate=certificate,
        founder_key=founder_key.public,
        parties=(),
        researchers=(),
    )
    signed = sign_directory(directory, founder_key)
    make_folder(place.founder_key_file.parent)
    make_folder(place.history_file(1).parent)
    with _changing(place):
        write_secret(place.founder_key_file, founder_key.export_secret_pem())
        write_secret(place.ca_key_file, ca_key.export_secret_pem())
        write_public(place.ca_certificate_file, certificate.encode())
        _keep(place, directory, signed)
    return directory


def load_consortium(folder: Path) -> Directory:
    """Reads the newest directory of a consortium at its founder.

    Raises:
        ConfideError: INVALID_ARGUMENT if there is none; else as `read_directory` (the folder was altered).
    """
    place = ConsortiumFolder(folder)
    signed = SignedDocument.from_bytes(read_public(place.directory_file, max_bytes=MAX_DOCUMENT_BYTES))
    founder_key = SigningKey.from_pem(read_secret(place.founder_key_file))
    return read_directory(signed, founder_fingerprint=founder_key.public.fingerprint)


def approve(
    folder: Path,
    request_data: bytes,
    *,
    fingerprint: str,
    roles: Iterable[Role] | None,
    now: datetime,
    lifetime: timedelta = MEMBER_LIFETIME,
) -> Directory:
    """Takes a member into the directory: issues its certificate, and signs and keeps the next version.

    A request of a member that is in the directory already, with the same keys, renews its certificate and takes over its
    new endpoint and roles.

    Args:
        folder: the consortium's folder.
        request_data: the request as it arrived.
        fingerprint: what the member read out over another channel; without it anybody could enrol as anybody.
        roles: what a party may do; None for what it asked.
        now: the time, UTC.
        lifetime: how long the certificate is valid.

    Returns:
        The new directory.

    Raises:
        ConfideError: FINGERPRINT_DIFFERS; INVALID_DOCUMENT or BAD_SIGNATURE (the author's fault); JOB_CONFLICT: the id
            belongs to other keys; STATE_LOCKED: another approval is under way.
    """
    request = read_request(SignedDocument.from_bytes(request_data))
    require_fingerprint(fingerprint, request.fingerprint, of_what=f"the request of {request.id}")
    place = ConsortiumFolder(folder)
    with _changing(place):
        old = load_consortium(folder)
        certificate = issue_certificate(
            EcdsaKey.from_pem(read_secret(place.ca_key_file)),
            ca_certificate=read_public(place.ca_certificate_file, max_bytes=MAX_PEM_BYTES).decode("ascii", "replace"),
            csr=request.csr,
            identity=PeerIdentity(request.kind, old.consortium, request.id),
            serial=generate_serial(),
            now=now,
            lifetime=lifetime,
        )
        granted = request.roles if roles is None else tuple(role for role in Role if role in set(roles))
        return _sign_next(place, _with_member(old, request, granted, certificate), now)


def remove(folder: Path, *, member: str, now: datetime) -> Directory:
    """Takes a member out of the directory, and signs and keeps the next version.

    The member is out at every party that has taken over this version, whatever its certificate says.

    Args:
        folder: the consortium's folder.
        member: id of a party or researcher.
        now: the time, UTC.

    Returns:
        The new directory.

    Raises:
        ConfideError: NOT_ENROLLED: no such member; INVALID_DOCUMENT: researchers still belong to the party; STATE_LOCKED.
    """
    place = ConsortiumFolder(folder)
    with _changing(place):
        old = load_consortium(folder)
        old.signing_key(member)  # refuses a member that is not there
        parties = tuple(entry for entry in old.parties if entry.id != member)
        researchers = tuple(entry for entry in old.researchers if entry.id != member)
        return _sign_next(place, replace(old, parties=parties, researchers=researchers), now)


def publish(folder: Path, out: Path) -> Directory:
    """Copies the newest signed directory to a file for the members, after checking it.

    Raises:
        ConfideError: as `load_consortium`; INVALID_ARGUMENT if the file cannot be written.
    """
    directory = load_consortium(folder)
    write_public(out, read_public(ConsortiumFolder(folder).directory_file, max_bytes=MAX_DOCUMENT_BYTES))
    return directory


def _with_member(old: Directory, request: EnrolmentRequest, roles: tuple[Role, ...], certificate: str) -> Directory:
    if request.kind is MemberKind.PARTY:
        party = PartyEntry(request.id, request.endpoint or "", roles, certificate, request.signing_key)
        return replace(old, parties=_put(old.parties, party))
    researcher = ResearcherEntry(request.id, request.institution, certificate, request.signing_key)
    return replace(old, researchers=_put(old.researchers, researcher))


def _put(entries: tuple[E, ...], new: E) -> tuple[E, ...]:
    known = {entry.id: entry for entry in entries}
    if new.id in known and known[new.id].signing_key != new.signing_key:
        raise ConfideError(ErrorCode.JOB_CONFLICT, f"{new.id} is in the directory with another key")
    return tuple((known | {new.id: new}).values())  # a member that is replaced keeps its place


def _sign_next(place: ConsortiumFolder, changed: Directory, now: datetime) -> Directory:
    directory = replace(changed, version=changed.version + 1, issued=now.replace(microsecond=0))
    signed = sign_directory(directory, SigningKey.from_pem(read_secret(place.founder_key_file)))
    _keep(place, directory, signed)
    return directory


def _keep(place: ConsortiumFolder, directory: Directory, signed: SignedDocument) -> None:
    # History first: a version that members hold is never missing at its founder.
    write_public(place.history_file(directory.version), signed.to_bytes())
    write_public(place.directory_file, signed.to_bytes())


@contextmanager
def _changing(place: ConsortiumFolder) -> Iterator[None]:
    with exclusive_lock(place.root / "lock", busy=f"another process changes the consortium in {place.root}"):
        yield
