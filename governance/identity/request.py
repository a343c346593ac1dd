"""The enrolment request: what a member asks the founder to put into the directory.

The request is signed with the very key it asks to enrol, and holds a certificate signing request signed with the TLS key, so
its author holds both. That proves nothing about who the author is: a person compares the fingerprint out of band.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from governance.documents import DocumentKind, SignedDocument, sign, verify
from governance.identity.ca import csr_public_key, make_csr
from governance.identity.certificates import MAX_PEM_BYTES
from governance.identity.fields import fields_of, finish
from governance.identity.keys import EcdsaKey, SigningKey, VerifyingKey
from governance.identity.names import MemberKind, Role, check_endpoint, check_id
from protocols.canonical import Document, canonical_bytes, sha256_hex
from protocols.errors import Problem

FORMAT = "confide.enrolment-request/1"
_NAMES = {"format", "kind", "id", "endpoint", "roles", "institution", "csr", "signing_key"}


@dataclass(frozen=True)
class EnrolmentRequest:
    """A request to become a member; public.

    Attributes:
        kind: party or researcher.
        id: the wanted id.
        endpoint: party only: `host:port` at which the others reach it.
        roles: party only: the wanted roles.
        institution: researcher only: the party she belongs to, or None.
        csr: certificate signing request, PEM.
        signing_key: public Ed25519 key of its documents.
    """

    kind: MemberKind
    id: str
    endpoint: str | None
    roles: tuple[Role, ...]
    institution: str | None
    csr: str
    signing_key: VerifyingKey

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical bytes, 64 hexadecimal digits: what founder and member compare out of band."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def to_document(self) -> Document:
        """Returns the request as a document."""
        return {
            "format": FORMAT,
            "kind": self.kind.value,
            "id": self.id,
            "endpoint": self.endpoint,
            "roles": [role.value for role in self.roles],
            "institution": self.institution,
            "csr": self.csr,
            "signing_key": self.signing_key.hex,
        }


def make_request(
    *,
    kind: MemberKind,
    member: str,
    endpoint: str | None,
    roles: Iterable[Role],
    institution: str | None,
    tls_key: EcdsaKey,
    signing_key: SigningKey,
) -> SignedDocument:
    """Makes and signs a request; the secret keys stay with the caller.

    Raises:
        ConfideError: INVALID_DOCUMENT: an id, endpoint or role that no member may have; all problems at once.
    """
    wanted = set(roles)
    request = EnrolmentRequest(
        kind=kind,
        id=member,
        endpoint=endpoint,
        roles=tuple(role for role in Role if role in wanted),
        institution=institution,
        csr=make_csr(tls_key, member=member),
        signing_key=signing_key.public,
    )
    finish(list(_check(request)), what="the enrolment request")
    return sign(request.to_document(), kind=DocumentKind.ENROLMENT_REQUEST, signer=member, key=signing_key)


def read_request(signed: SignedDocument) -> EnrolmentRequest:
    """Reads a request and checks that its author holds both keys in it.

    Raises:
        ConfideError: INVALID_DOCUMENT or BAD_SIGNATURE (the author's fault).
    """
    problems: list[Problem] = []
    fields = fields_of(signed.document, names=_NAMES, form=FORMAT, problems=problems)
    request = EnrolmentRequest(
        kind=fields.choice("kind", MemberKind, otherwise=MemberKind.RESEARCHER),
        id=fields.text("id"),
        endpoint=fields.optional_text("endpoint"),
        roles=fields.choices("roles", Role),
        institution=fields.optional_text("institution"),
        csr=fields.text("csr", most=MAX_PEM_BYTES),
        signing_key=fields.verifying_key("signing_key"),
    )
    finish(problems or list(_check(request)), what="the enrolment request")
    verify(signed, kind=DocumentKind.ENROLMENT_REQUEST, signer=request.id, key=request.signing_key)
    csr_public_key(request.csr)
    return request


def check_party_fields(where: str, *, endpoint: str | None, roles: Iterable[Role]) -> Iterable[Problem]:
    """Yields what is wrong with the fields that only a party has."""
    yield from check_endpoint(f"{where}endpoint", endpoint or "")
    if not list(roles):
        yield Problem(f"{where}roles", "a party has at least one role", f"name some of {', '.join(r.value for r in Role)}")


def check_wanted(
    kind: MemberKind, member: str, *, endpoint: str | None, roles: Iterable[Role], institution: str | None
) -> Iterable[Problem]:
    """Yields what is wrong with what a member asks for, keys aside; meant to be asked before keys are made."""
    yield from check_id("id", member)
    if kind is MemberKind.PARTY:
        yield from check_party_fields("", endpoint=endpoint, roles=roles)
        if institution is not None:
            yield Problem("institution", "a party is an institution itself", "leave it empty")
        return
    if endpoint is not None or list(roles):
        yield Problem("roles", "a researcher has neither an endpoint nor roles", "leave both empty")
    if institution is not None:
        yield from check_id("institution", institution)


def _check(request: EnrolmentRequest) -> Iterable[Problem]:
    return check_wanted(
        request.kind,
        request.id,
        endpoint=request.endpoint,
        roles=request.roles,
        institution=request.institution,
    )
