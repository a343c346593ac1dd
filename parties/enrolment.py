"""A member's side of enrolment: keys made on the spot, a request to send, a directory to believe.

Nobody but the member ever holds its secret keys. The directory is believed because its founder's fingerprint was compared
out of band once; from then on the founder is pinned and only newer versions are taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from governance.documents import SignedDocument
from governance.identity.directory import Directory, read_directory
from governance.identity.names import MemberKind, PeerIdentity, Role, check_endpoint, parse_fingerprint, require_fingerprint
from governance.identity.request import EnrolmentRequest, check_wanted, make_request, read_request
from parties.config import (
    PARTY_FILE,
    RESEARCHER_FILE,
    PartyConfig,
    ResearcherConfig,
    write_party_config,
    write_researcher_config,
)
from parties.policy_file import write_policy
from parties.storage.files import make_folder, read_public, write_public
from parties.storage.state import MemberFolder, require_own_entry
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.errors import ConfideError, ErrorCode, Problem

REQUEST_FILE = "request.json"


@dataclass(frozen=True)
class Enrolment:
    """What a new member sends and says.

    Attributes:
        config_file: the configuration that was written.
        request_file: the request to send to the founder; public.
        request: its content; the founder must hear its fingerprint from the member, over another channel.
    """

    config_file: Path
    request_file: Path
    request: EnrolmentRequest


def init_party(folder: Path, *, party: str, endpoint: str, listen: str, roles: Iterable[Role]) -> Enrolment:
    """Sets up an institution's folder: configuration, keys (mode 0600), storage key, and a request for the founder.

    Args:
        folder: where everything goes; made if missing.
        party: the wanted id.
        endpoint: `host:port` at which the others reach it.
        listen: `host:port` that its process binds to.
        roles: what it wants to do.

    Raises:
        ConfideError: JOB_CONFLICT: the folder holds a member already; INVALID_ARGUMENT: values are wrong, all at once.
    """
    wanted = tuple(roles)
    problems = list(check_wanted(MemberKind.PARTY, party, endpoint=endpoint, roles=wanted, institution=None))
    _require_sound([*problems, *check_endpoint("listen", listen)])
    make_folder(folder)
    _require_new(folder / PARTY_FILE)
    config = write_party_config(folder / PARTY_FILE, party=party, listen=listen)
    write_policy(config.policy, reason="this party has not said yet which jobs it takes part in")
    enrolment = _request(
        folder / PARTY_FILE, config.folder.member, MemberKind.PARTY, party, endpoint=endpoint, roles=wanted, institution=None
    )
    config.folder.create_storage()
    return enrolment


def init_researcher(folder: Path, *, researcher: str, institution: str | None) -> Enrolment:
    """Sets up a researcher's folder: configuration, keys (mode 0600), and a request for the founder.

    Args:
        folder: where everything goes; made if missing.
        researcher: the wanted id.
        institution: id of the party she belongs to, or None.

    Raises:
        ConfideError: JOB_CONFLICT: the folder holds a member already; INVALID_ARGUMENT: values are wrong, all at once.
    """
    wanted = check_wanted(MemberKind.RESEARCHER, researcher, endpoint=None, roles=(), institution=institution)
    _require_sound(list(wanted))
    make_folder(folder)
    _require_new(folder / RESEARCHER_FILE)
    config = write_researcher_config(folder / RESEARCHER_FILE, researcher=researcher)
    return _request(
        folder / RESEARCHER_FILE,
        config.folder,
        MemberKind.RESEARCHER,
        researcher,
        endpoint=None,
        roles=(),
        institution=institution,
    )


def join_party(config: PartyConfig, directory_data: bytes, *, founder_fingerprint: str | None, now: datetime) -> Directory:
    """Takes over a directory at a party; see `join`."""
    return join(
        config.folder.member,
        directory_data,
        kind=MemberKind.PARTY,
        member=config.party,
        founder_fingerprint=founder_fingerprint,
        now=now,
    )


def join_researcher(
    config: ResearcherConfig, directory_data: bytes, *, founder_fingerprint: str | None, now: datetime
) -> Directory:
    """Takes over a directory at a researcher; see `join`."""
    return join(
        config.folder,
        directory_data,
        kind=MemberKind.RESEARCHER,
        member=config.researcher,
        founder_fingerprint=founder_fingerprint,
        now=now,
    )


def join(
    folder: MemberFolder,
    directory_data: bytes,
    *,
    kind: MemberKind,
    member: str,
    founder_fingerprint: str | None,
    now: datetime,
) -> Directory:
    """Takes over a directory and the member's certificate in it.

    Args:
        folder: the member's folder.
        directory_data: the signed directory as it arrived.
        kind: party or researcher.
        member: the member's id.
        founder_fingerprint: what the founder read out over another channel; needed the first time, then it is pinned.
        now: the time, UTC.

    Returns:
        The directory, checked and kept.

    Raises:
        ConfideError: INVALID_ARGUMENT: no fingerprint the first time; FINGERPRINT_DIFFERS, BAD_SIGNATURE or
            INVALID_DOCUMENT: not from this founder; NOT_ENROLLED: the member, with its keys, is not in it; UNAUTHENTICATED:
            its certificate is out of its time; STALE_DIRECTORY: older than the one that is held, or another one under the
            same version.
    """
    signed = SignedDocument.from_bytes(directory_data)
    directory = read_directory(signed, founder_fingerprint=_founder(folder, founder_fingerprint))
    if folder.directory_file.exists():
        _require_newer(folder, directory, directory_data)
    certificate = require_own_entry(
        directory,
        PeerIdentity(kind, directory.consortium, member),
        signing_key=folder.load_signing_key(),
        tls_key=folder.load_tls_key(),
        now=now,
    )
    # The pin goes first: a folder never holds a directory whose founder it does not insist on.
    write_public(folder.founder_file, f"{directory.founder_key.fingerprint}\n".encode())
    write_public(folder.certificate_file, certificate.encode())
    write_public(folder.directory_file, directory_data)
    return directory


def _founder(folder: MemberFolder, shown: str | None) -> str:
    pinned = folder.pinned_founder()
    if pinned is not None:
        if shown is not None:
            require_fingerprint(shown, pinned, of_what="the founder pinned here")
        return pinned
    if shown is None:
        raise ConfideError(
            ErrorCode.INVALID_ARGUMENT,
            "the founder's fingerprint is needed to join for the first time",
            remedy="Ask the founder to read it out, over another channel than the directory came by.",
        )
    return parse_fingerprint(shown)


def _require_newer(folder: MemberFolder, directory: Directory, directory_data: bytes) -> None:
    held = folder.load_directory()
    if directory.supersedes(held):
        return
    held_data = read_public(folder.directory_file, max_bytes=MAX_DOCUMENT_BYTES)
    if directory_data != held_data:
        raise ConfideError(
            ErrorCode.STALE_DIRECTORY,
            f"version {directory.version} of {directory.consortium} does not supersede version {held.version} of"
            f" {held.consortium}, which is held here",
            remedy="Ask the founder for the newest directory.",
        )


def _request(
    config_file: Path,
    folder: MemberFolder,
    kind: MemberKind,
    member: str,
    *,
    endpoint: str | None,
    roles: Iterable[Role],
    institution: str | None,
) -> Enrolment:
    signing_key, tls_key = folder.create_keys()
    signed = make_request(
        kind=kind,
        member=member,
        endpoint=endpoint,
        roles=roles,
        institution=institution,
        tls_key=tls_key,
        signing_key=signing_key,
    )
    request_file = config_file.with_name(REQUEST_FILE)
    write_public(request_file, signed.to_bytes())
    return Enrolment(config_file, request_file, read_request(signed))


def _require_new(config_file: Path) -> None:
    if config_file.exists():
        raise ConfideError(ErrorCode.JOB_CONFLICT, f"{config_file} exists already; nothing is overwritten")


def _require_sound(problems: list[Problem]) -> None:
    if problems:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "this member cannot be set up", problems=problems)
