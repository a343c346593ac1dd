"""Certificates of members, read exactly: one URI that names the member, the key usage of its kind, one P-256 key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from governance.identity.keys import public_key_digest
from governance.identity.names import MemberKind, PeerIdentity, tls_name
from protocols.errors import ConfideError, ErrorCode

MAX_PEM_BYTES = 8 * 1024

# What the library raises for bytes that only look like a certificate; two of these are no ValueError.
UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.UnsupportedGeneralNameType)

USAGES = {
    MemberKind.PARTY: frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}),
    MemberKind.RESEARCHER: frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
}


@dataclass(frozen=True)
class PeerCertificate:
    """What a member's certificate says; public.

    Attributes:
        identity: whom it speaks for.
        public_key_digest: SHA-256 of its public key, which the directory pins.
        not_before: start of its validity, UTC.
        not_after: end of its validity, UTC.
    """

    identity: PeerIdentity
    public_key_digest: str
    not_before: datetime
    not_after: datetime


def parse_certificate(pem: str | bytes) -> PeerCertificate:
    """Reads one member's certificate; does not check who issued it or when it is valid.

    Args:
        pem: exactly one PEM certificate.

    Raises:
        ConfideError: UNAUTHENTICATED (the caller's fault): anything but the exact form that the consortium issues.
    """
    return _parse(load_certificate(pem))


def check_certificate(pem: str | bytes, *, ca_certificate: str | bytes, now: datetime) -> PeerCertificate:
    """Reads a member's certificate and checks that the consortium issued it and that it is valid at a time.

    Raises:
        ConfideError: UNAUTHENTICATED (the caller's fault).
    """
    parsed = check_issued(pem, ca_certificate=ca_certificate)
    if not parsed.not_before <= now <= parsed.not_after:
        raise ConfideError(
            ErrorCode.UNAUTHENTICATED,
            f"the certificate of {parsed.identity.id} is valid from {parsed.not_before:%Y-%m-%d} to {parsed.not_after:%Y-%m-%d}",
            party=parsed.identity.id,
        )
    return parsed


def check_issued(pem: str | bytes, *, ca_certificate: str | bytes) -> PeerCertificate:
    """Reads a member's certificate and checks that the consortium issued it, at whatever time.

    Raises:
        ConfideError: UNAUTHENTICATED (the caller's fault).
    """
    certificate = load_certificate(pem)
    try:
        certificate.verify_directly_issued_by(load_certificate(ca_certificate))
    except (InvalidSignature, *UNREADABLE) as error:  # other issuer's name, other key type, other key
        raise ConfideError(ErrorCode.UNAUTHENTICATED, "the certificate was not issued by this consortium") from error
    return _parse(certificate)


def load_certificate(pem: str | bytes) -> x509.Certificate:
    """Reads exactly one PEM certificate of bounded size.

    Raises:
        ConfideError: UNAUTHENTICATED (its sender's fault).
    """
    data = pem.encode() if isinstance(pem, str) else pem
    if len(data) > MAX_PEM_BYTES or data.count(b"-----BEGIN") != 1:
        raise _refused(f"exactly one certificate of at most {MAX_PEM_BYTES} bytes is expected")
    try:
        return x509.load_pem_x509_certificate(data)
    except UNREADABLE as error:
        raise _refused("the certificate cannot be read") from error


def certificate_public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """Returns the P-256 key of a certificate.

    Raises:
        ConfideError: UNAUTHENTICATED: another kind of key.
    """
    try:
        key = certificate.public_key()
    except UNREADABLE as error:
        raise _refused("the certificate's key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _refused("the certificate does not hold an ECDSA P-256 key")
    return key


def _parse(certificate: x509.Certificate) -> PeerCertificate:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, *UNREADABLE) as error:
        raise _refused("the certificate lacks an extension of a member's certificate") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise _refused(f"the certificate names {len(uris)} URIs instead of one")
    identity = PeerIdentity.from_uri(uris[0])
    hosts = [tls_name(identity.id)] if identity.kind is MemberKind.PARTY else []
    if names.get_values_for_type(x509.DNSName) != hosts or len(names) != 1 + len(hosts):
        raise _refused("the certificate's other names are not those of the member in its URI")
    if frozenset(usage) != USAGES[identity.kind]:
        raise _refused(f"the certificate's key usage is not that of a {identity.kind.value}")
    if constraints.ca:
        raise _refused("the certificate of a member may not issue others")
    digest = public_key_digest(certificate_public_key(certificate))
    return PeerCertificate(identity, digest, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _refused(what: str) -> ConfideError:
    return ConfideError(ErrorCode.UNAUTHENTICATED, what)
