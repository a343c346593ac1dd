"""The directory: one signed, versioned list of who belongs to the consortium.

Every member holds the same directory and believes nothing else about who is who. The founder signs it; a newer version
supersedes an older one, never the other way round. A member's keys are pinned here: a certificate of the consortium with
another key than the pinned one is refused, so a member that is taken out of the directory is out at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from governance.documents import DocumentKind, SignedDocument, sign, verify
from governance.identity.certificates import (
    MAX_PEM_BYTES,
    PeerCertificate,
    check_certificate,
    check_issued,
    load_certificate,
    parse_certificate,
)
from governance.identity.fields import Fields, fields_of, finish
from governance.identity.keys import SigningKey, VerifyingKey
from governance.identity.names import FOUNDER, MemberKind, PeerIdentity, Role, check_id, grouped
from governance.identity.request import check_party_fields
from protocols.canonical import Document
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import TIME_FORMAT

FORMAT = "confide.directory/1"
MAX_PARTIES = 256
MAX_RESEARCHERS = 1_000
_NAMES = {"format", "consortium", "version", "issued", "ca_certificate", "founder_key", "parties", "researchers"}
_PARTY_NAMES = {"id", "endpoint", "roles", "certificate", "signing_key"}
_RESEARCHER_NAMES = {"id", "institution", "certificate", "signing_key"}


@dataclass(frozen=True)
class PartyEntry:
    """One institution; public.

    Attributes:
        id: its id.
        endpoint: `host:port` at which the others reach its one public port.
        roles: what it may do in sessions.
        certificate: its TLS certificate, PEM.
        signing_key: public key of its documents.
    """

    id: str
    endpoint: str
    roles: tuple[Role, ...]
    certificate: str
    signing_key: VerifyingKey


@dataclass(frozen=True)
class ResearcherEntry:
    """One researcher; public. `institution` is the id of the party she belongs to, or None."""

    id: str
    institution: str | None
    certificate: str
    signing_key: VerifyingKey


@dataclass(frozen=True)
class Directory:
    """Who belongs to the consortium; public. Made by `read_directory`, which checks it, or by the founder.

    Attributes:
        consortium: its id.
        version: counts from 1.
        issued: when the founder signed it, UTC, whole seconds.
        ca_certificate: the authority that issued every member's certificate, PEM.
        founder_key: the public key that signs directories; members compare its fingerprint out of band, once.
        parties: in the order of their enrolment.
        researchers: in the order of their enrolment.
    """

    consortium: str
    version: int
    issued: datetime
    ca_certificate: str
    founder_key: VerifyingKey
    parties: tuple[PartyEntry, ...]
    researchers: tuple[ResearcherEntry, ...]

    @property
    def dealers(self) -> tuple[str, ...]:
        """Ids of the parties that may deal."""
        return self.with_role(Role.DEALER)

    def with_role(self, role: Role) -> tuple[str, ...]:
        """Returns the ids of the parties that hold a role."""
        return tuple(party.id for party in self.parties if role in party.roles)

    def party(self, party: str) -> PartyEntry:
        """Returns a party's entry.

        Raises:
            ConfideError: NOT_ENROLLED.
        """
        for entry in self.parties:
            if entry.id == party:
                return entry
        raise ConfideError(ErrorCode.NOT_ENROLLED, f"no party {party[:63]!r} in version {self.version} of the directory")

    def researcher(self, researcher: str) -> ResearcherEntry:
        """Returns a researcher's entry.

        Raises:
            ConfideError: NOT_ENROLLED.
        """
        for entry in self.researchers:
            if entry.id == researcher:
                return entry
        raise ConfideError(
            ErrorCode.NOT_ENROLLED, f"no researcher {researcher[:63]!r} in version {self.version} of the directory"
        )

    def signing_key(self, member: str) -> VerifyingKey:
        """Returns the key that verifies a member's documents; ids are unique over parties and researchers.

        Raises:
            ConfideError: NOT_ENROLLED.
        """
        for _, entry in _members(self):
            if entry.id == member:
                return entry.signing_key
        raise ConfideError(ErrorCode.NOT_ENROLLED, f"no member {member[:63]!r} in version {self.version} of the directory")

    def check_peer(self, pem: str | bytes, now: datetime) -> PeerIdentity:
        """Decides who is at the other end of a connection.

        Args:
            pem: the certificate that the peer proved to hold in the handshake.
            now: the time, UTC.

        Returns:
            The member, enrolled in this directory with this very key.

        Raises:
            ConfideError: UNAUTHENTICATED (the peer's fault): another authority, out of its time, not of a member's form, of
                another consortium, not in the directory, or with another key than the pinned one.
        """
        shown = check_certificate(pem, ca_certificate=self.ca_certificate, now=now)
        identity = shown.identity
        try:
            entry = self.party(identity.id) if identity.kind is MemberKind.PARTY else self.researcher(identity.id)
        except ConfideError as error:
            raise ConfideError(ErrorCode.UNAUTHENTICATED, error.what) from error
        pinned = parse_certificate(entry.certificate)
        if identity.consortium != self.consortium or shown.public_key_digest != pinned.public_key_digest:
            raise ConfideError(
                ErrorCode.UNAUTHENTICATED, f"the certificate of {identity.id} does not hold the key in the directory"
            )
        return identity

    def supersedes(self, old: Directory) -> bool:
        """Returns whether this is a later version of the same consortium's directory, under the same founder."""
        same = self.consortium == old.consortium and self.founder_key == old.founder_key
        return same and self.version > old.version

    def to_document(self) -> Document:
        """Returns the directory as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "version": self.version,
            "issued": self.issued.strftime(TIME_FORMAT),
            "ca_certificate": self.ca_certificate,
            "founder_key": self.founder_key.hex,
            "parties": [
                {
                    "id": party.id,
                    "endpoint": party.endpoint,
                    "roles": [role.value for role in party.roles],
                    "certificate": party.certificate,
                    "signing_key": party.signing_key.hex,
                }
                for party in self.parties
            ],
            "researchers": [
                {
                    "id": researcher.id,
                    "institution": researcher.institution,
                    "certificate": researcher.certificate,
                    "signing_key": researcher.signing_key.hex,
                }
                for researcher in self.researchers
            ],
        }


def sign_directory(directory: Directory, key: SigningKey) -> SignedDocument:
    """Signs a directory as the founder, after checking it as every member will.

    Raises:
        ConfideError: INVALID_DOCUMENT: the directory would be refused; all problems at once.
    """
    finish(list(_check(directory)), what="the directory")
    return sign(directory.to_document(), kind=DocumentKind.DIRECTORY, signer=FOUNDER, key=key)


def read_directory(signed: SignedDocument, *, founder_fingerprint: str) -> Directory:
    """Reads a directory and checks everything that needs no clock.

    Args:
        signed: the document as it arrived.
        founder_fingerprint: fingerprint of the founder's key, 64 hexadecimal digits, compared out of band.

    Raises:
        ConfideError: INVALID_DOCUMENT, FINGERPRINT_DIFFERS or BAD_SIGNATURE (its sender's fault).
    """
    problems: list[Problem] = []
    fields = fields_of(signed.document, names=_NAMES, form=FORMAT, problems=problems)
    directory = Directory(
        consortium=fields.text("consortium"),
        version=fields.whole("version", least=1),
        issued=fields.time("issued"),
        ca_certificate=fields.text("ca_certificate", most=MAX_PEM_BYTES),
        founder_key=fields.verifying_key("founder_key"),
        parties=tuple(_party(n, e, problems) for n, e in enumerate(fields.items("parties", most=MAX_PARTIES))),
        researchers=tuple(_researcher(n, e, problems) for n, e in enumerate(fields.items("researchers", most=MAX_RESEARCHERS))),
    )
    finish(problems, what="the directory")
    if directory.founder_key.fingerprint != founder_fingerprint:
        raise ConfideError(
            ErrorCode.FINGERPRINT_DIFFERS,
            f"the directory is signed under a key with fingerprint {grouped(directory.founder_key.fingerprint)}",
        )
    verify(signed, kind=DocumentKind.DIRECTORY, signer=FOUNDER, key=directory.founder_key)
    finish(list(_check(directory)), what="the directory")
    return directory


def _party(number: int, entry: object, problems: list[Problem]) -> PartyEntry:
    fields = Fields(entry, names=_PARTY_NAMES, where=f"parties.{number}", problems=problems)
    return PartyEntry(
        id=fields.text("id"),
        endpoint=fields.text("endpoint"),
        roles=fields.choices("roles", Role),
        certificate=fields.text("certificate", most=MAX_PEM_BYTES),
        signing_key=fields.verifying_key("signing_key"),
    )


def _researcher(number: int, entry: object, problems: list[Problem]) -> ResearcherEntry:
    fields = Fields(entry, names=_RESEARCHER_NAMES, where=f"researchers.{number}", problems=problems)
    return ResearcherEntry(
        id=fields.text("id"),
        institution=fields.optional_text("institution"),
        certificate=fields.text("certificate", most=MAX_PEM_BYTES),
        signing_key=fields.verifying_key("signing_key"),
    )


def _check(directory: Directory) -> Iterable[Problem]:
    yield from check_id("consortium", directory.consortium)
    try:
        load_certificate(directory.ca_certificate)
    except ConfideError as error:
        yield Problem("ca_certificate", error.what, "ask the founder")
    known = {party.id for party in directory.parties}
    for party in directory.parties:
        yield from check_party_fields(f"parties.{party.id}.", endpoint=party.endpoint, roles=party.roles)
    for researcher in directory.researchers:
        if researcher.institution is not None and researcher.institution not in known:
            yield Problem(f"researchers.{researcher.id}.institution", "is no party of the directory", "enrol it first")
    tls_keys: list[str] = []
    for kind, entry in _members(directory):
        yield from check_id(f"{kind.value}.id", entry.id)
        expected = PeerIdentity(kind, directory.consortium, entry.id)
        certificate = _issued(entry.certificate, directory)
        if certificate is None or certificate.identity != expected:
            yield Problem(entry.id, "its certificate is not one that this consortium issued to it", "enrol it again")
        else:
            tls_keys.append(certificate.public_key_digest)
    members = [entry for _, entry in _members(directory)]
    # Two members with one key could speak for each other.
    signing_keys = [directory.founder_key.hex, *(entry.signing_key.hex for entry in members)]
    for what, values in (("id", [entry.id for entry in members]), ("signing key", signing_keys), ("TLS key", tls_keys)):
        if any(count > 1 for count in Counter(values).values()):
            yield Problem("", f"two members have the same {what}", "enrol one of them anew")


def _members(directory: Directory) -> Iterable[tuple[MemberKind, PartyEntry | ResearcherEntry]]:
    yield from ((MemberKind.PARTY, party) for party in directory.parties)
    yield from ((MemberKind.RESEARCHER, researcher) for researcher in directory.researchers)


def _issued(pem: str, directory: Directory) -> PeerCertificate | None:
    try:
        return check_issued(pem, ca_certificate=directory.ca_certificate)
    except ConfideError:  # it becomes a problem of the directory, with the member's name
        return None
