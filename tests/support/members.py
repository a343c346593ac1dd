"""A consortium for tests: a founder in memory, members with keys, and directories that the founder signed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from governance.documents import SignedDocument
from governance.identity.ca import MEMBER_LIFETIME, generate_serial, issue_certificate, make_ca_certificate, make_csr
from governance.identity.directory import Directory, PartyEntry, ResearcherEntry, sign_directory
from governance.identity.keys import EcdsaKey, SigningKey, generate_ecdsa_key, generate_signing_key
from governance.identity.names import MemberKind, PeerIdentity, Role

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ALL_ROLES = tuple(Role)


@dataclass(frozen=True)
class Keys:
    """A member's secret keys."""

    signing: SigningKey
    tls: EcdsaKey


def new_keys() -> Keys:
    return Keys(generate_signing_key(), generate_ecdsa_key())


@dataclass(frozen=True)
class Founder:
    """Who holds the authority's and the directory's keys."""

    consortium: str
    signing: SigningKey
    ca: EcdsaKey
    ca_certificate: str

    @property
    def fingerprint(self) -> str:
        return self.signing.public.fingerprint

    def certificate(
        self,
        keys: Keys,
        member: str,
        *,
        kind: MemberKind = MemberKind.PARTY,
        now: datetime = NOW,
        lifetime: timedelta = MEMBER_LIFETIME,
    ) -> str:
        return issue_certificate(
            self.ca,
            ca_certificate=self.ca_certificate,
            csr=make_csr(keys.tls, member=member),
            identity=PeerIdentity(kind, self.consortium, member),
            serial=generate_serial(),
            now=now,
            lifetime=lifetime,
        )

    def party(self, keys: Keys, member: str, *, roles: tuple[Role, ...] = ALL_ROLES) -> PartyEntry:
        certificate = self.certificate(keys, member)
        return PartyEntry(member, f"{member}.example:7443", roles, certificate, keys.signing.public)

    def researcher(self, keys: Keys, member: str, *, institution: str | None = None) -> ResearcherEntry:
        certificate = self.certificate(keys, member, kind=MemberKind.RESEARCHER)
        return ResearcherEntry(member, institution, certificate, keys.signing.public)

    def directory(
        self, *, version: int = 1, parties: tuple[PartyEntry, ...] = (), researchers: tuple[ResearcherEntry, ...] = ()
    ) -> Directory:
        return Directory(
            consortium=self.consortium,
            version=version,
            issued=NOW,
            ca_certificate=self.ca_certificate,
            founder_key=self.signing.public,
            parties=parties,
            researchers=researchers,
        )

    def signed(self, directory: Directory) -> SignedDocument:
        return sign_directory(directory, self.signing)


def a_founder(consortium: str = "cardio") -> Founder:
    signing, ca = generate_signing_key(), generate_ecdsa_key()
    certificate = make_ca_certificate(ca, consortium=consortium, serial=generate_serial(), now=NOW)
    return Founder(consortium, signing, ca, certificate)


@dataclass(frozen=True)
class World:
    """A founder, two parties and a researcher, and the directory that lists them."""

    founder: Founder
    hospital_a: Keys
    hospital_b: Keys
    alice: Keys
    directory: Directory

    def certificate_of(self, member: str) -> str:
        for entry in (*self.directory.parties, *self.directory.researchers):
            if entry.id == member:
                return entry.certificate
        raise KeyError(member)

    def without(self, party: str) -> Directory:
        left = tuple(entry for entry in self.directory.parties if entry.id != party)
        return replace(self.directory, version=self.directory.version + 1, parties=left)


def a_world() -> World:
    founder = a_founder()
    hospital_a, hospital_b, alice = new_keys(), new_keys(), new_keys()
    directory = founder.directory(
        version=3,
        parties=(
            founder.party(hospital_a, "hospital-a", roles=(Role.DATA_OWNER, Role.COMPUTING)),
            founder.party(hospital_b, "hospital-b", roles=(Role.DEALER,)),
        ),
        researchers=(founder.researcher(alice, "alice", institution="hospital-a"),),
    )
    return World(founder, hospital_a, hospital_b, alice, directory)
