"""The consortium's certificate authority: one self-signed P-256 certificate, and leaves that it issues to members.

Of a member's certificate signing request only the key counts: every name, usage and date is the authority's.
The same arguments give the same bytes: time and serial numbers are arguments, and ECDSA nonces are derived (RFC 6979).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from governance.identity.certificates import MAX_PEM_BYTES, UNREADABLE, USAGES, load_certificate
from governance.identity.keys import EcdsaKey
from governance.identity.names import MemberKind, PeerIdentity, tls_name
from protocols.errors import ConfideError, ErrorCode

CA_LIFETIME = timedelta(days=3650)
MEMBER_LIFETIME = timedelta(days=90)
BACKDATING = timedelta(minutes=5)  # clocks of institutions differ a little


def generate_serial() -> int:
    """Draws a serial number of 159 random bits."""
    return x509.random_serial_number()


def make_ca_certificate(key: EcdsaKey, *, consortium: str, serial: int, now: datetime, lifetime: timedelta = CA_LIFETIME) -> str:
    """Makes the self-signed certificate of a new consortium.

    Args:
        key: the authority's secret key; it stays with the founder.
        consortium: id of the consortium.
        serial: a random number, see `generate_serial`.
        now: the time of issue, UTC.
        lifetime: how long it is valid.

    Returns:
        The certificate, PEM, public.
    """
    name = _name(f"{consortium} certificate authority")
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public)
        .serial_number(serial)
        .not_valid_before(now - BACKDATING)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(x509.BasicConstraints(ca=True, path_length=0)), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public), critical=False)
    )
    return _signed(builder, key)


def make_csr(key: EcdsaKey, *, member: str) -> str:
    """Makes a certificate signing request, PEM: a proof that the requester holds the key, and nothing else that counts."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(member))
    csr = builder.sign(key.export_secret_object(), hashes.SHA256(), ecdsa_deterministic=True)
    return csr.public_bytes(serialization.Encoding.PEM).decode("ascii")


def csr_public_key(csr: str) -> ec.EllipticCurvePublicKey:
    """Returns the key of a certificate signing request after checking the request's own signature.

    Raises:
        ConfideError: INVALID_DOCUMENT or BAD_SIGNATURE (the requester's fault).
    """
    data = csr.encode()
    if len(data) > MAX_PEM_BYTES or data.count(b"-----BEGIN") != 1:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "exactly one certificate signing request is expected")
    try:
        request = x509.load_pem_x509_csr(data)
        key = request.public_key()
        signed = request.is_signature_valid
    except UNREADABLE as error:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the certificate signing request cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the certificate signing request does not hold an ECDSA P-256 key")
    if not signed:
        raise ConfideError(ErrorCode.BAD_SIGNATURE, "the certificate signing request was not signed with its own key")
    return key


def issue_certificate(
    ca_key: EcdsaKey,
    *,
    ca_certificate: str,
    csr: str,
    identity: PeerIdentity,
    serial: int,
    now: datetime,
    lifetime: timedelta = MEMBER_LIFETIME,
) -> str:
    """Issues a member's certificate for the key of its request.

    Args:
        ca_key: the authority's secret key.
        ca_certificate: its certificate, PEM.
        csr: the member's request, PEM; only its key is used.
        identity: whom the certificate speaks for: decided by the founder, not by the request.
        serial: a random number, see `generate_serial`.
        now: the time of issue, UTC.
        lifetime: how long it is valid; never longer than the authority.

    Returns:
        The certificate, PEM, public.

    Raises:
        ConfideError: INVALID_DOCUMENT or BAD_SIGNATURE (the requester's fault).
    """
    public_key = csr_public_key(csr)
    authority = load_certificate(ca_certificate)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
    if identity.kind is MemberKind.PARTY:
        names.append(x509.DNSName(tls_name(identity.id)))
    usages = sorted(USAGES[identity.kind], key=lambda usage: usage.dotted_string)
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(identity.id))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now - BACKDATING)
        .not_valid_after(min(now + lifetime, authority.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(constraints, critical=True)
        .add_extension(_key_usage(constraints), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public), critical=False)
    )
    return _signed(builder, ca_key)


def _signed(builder: x509.CertificateBuilder, key: EcdsaKey) -> str:
    certificate = builder.sign(key.export_secret_object(), hashes.SHA256(), ecdsa_deterministic=True)
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _key_usage(constraints: x509.BasicConstraints) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not constraints.ca,
        key_cert_sign=constraints.ca,
        crl_sign=constraints.ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
