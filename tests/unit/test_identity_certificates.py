"""Certificates: what the authority issues, and what is not taken for a member's certificate."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from governance.identity.ca import csr_public_key, issue_certificate, make_csr
from governance.identity.certificates import check_certificate, parse_certificate
from governance.identity.keys import public_key_digest
from governance.identity.names import MemberKind, PeerIdentity
from protocols.errors import ConfideError, ErrorCode
from tests.support.members import NOW, Founder, Keys, a_founder, new_keys

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
PARTY_NAMES = ("confide://cardio/party/hospital-a", "hospital-a.party.confide.internal")


@pytest.fixture(scope="module")
def founder() -> Founder:
    return a_founder()


@pytest.fixture(scope="module")
def keys() -> Keys:
    return new_keys()


def _handmade(
    founder: Founder,
    keys: Keys,
    *,
    uris: tuple[str, ...] = PARTY_NAMES[:1],
    hosts: tuple[str, ...] = PARTY_NAMES[1:],
    usages: tuple[x509.ObjectIdentifier, ...] = (SERVER, CLIENT),
    ca: bool = False,
) -> str:
    """A certificate of the authority with contents that `issue_certificate` would not give it."""
    authority = x509.load_pem_x509_certificate(founder.ca_certificate.encode())
    names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, hosts)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hospital-a")]))
        .issuer_name(authority.subject)
        .public_key(keys.tls.public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    certificate = builder.sign(founder.ca.export_secret_object(), hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _refused(founder: Founder, pem: str) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        check_certificate(pem, ca_certificate=founder.ca_certificate, now=NOW)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED
    return caught.value


def test_party_certificate_as_issued_names_the_party_and_holds_its_key(founder: Founder, keys: Keys) -> None:
    pem = founder.certificate(keys, "hospital-a")
    parsed = check_certificate(pem, ca_certificate=founder.ca_certificate, now=NOW)
    assert parsed.identity == PeerIdentity(MemberKind.PARTY, "cardio", "hospital-a")
    assert parsed.public_key_digest == public_key_digest(keys.tls.public)
    assert parsed.not_before == NOW - timedelta(minutes=5)
    assert parsed.not_after == NOW + timedelta(days=90)


def test_party_certificate_as_issued_has_the_extensions_of_a_leaf(founder: Founder, keys: Keys) -> None:
    certificate = x509.load_pem_x509_certificate(founder.certificate(keys, "hospital-a").encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [PARTY_NAMES[0]]
    assert names.get_values_for_type(x509.DNSName) == [PARTY_NAMES[1]]
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert certificate.serial_number.bit_length() > 64


def test_researcher_certificate_as_issued_may_only_call(founder: Founder, keys: Keys) -> None:
    pem = founder.certificate(keys, "alice", kind=MemberKind.RESEARCHER)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [CLIENT]
    assert parse_certificate(pem).identity == PeerIdentity(MemberKind.RESEARCHER, "cardio", "alice")


def test_certificate_outside_its_time_is_refused(founder: Founder, keys: Keys) -> None:
    pem = founder.certificate(keys, "hospital-a")
    for now in (NOW - timedelta(minutes=6), NOW + timedelta(days=90, seconds=1)):
        with pytest.raises(ConfideError, match="valid from") as caught:
            check_certificate(pem, ca_certificate=founder.ca_certificate, now=now)
        assert caught.value.code is ErrorCode.UNAUTHENTICATED


def test_certificate_of_foreign_authority_of_same_name_is_refused(founder: Founder, keys: Keys) -> None:
    assert "not issued by this consortium" in str(_refused(founder, a_founder().certificate(keys, "hospital-a")))


def test_authority_itself_is_no_member(founder: Founder) -> None:
    _refused(founder, founder.ca_certificate)


def test_handmade_certificate_in_exact_form_is_accepted(founder: Founder, keys: Keys) -> None:
    # The control of the refusals below: the same builder, nothing changed.
    check_certificate(_handmade(founder, keys), ca_certificate=founder.ca_certificate, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"uris": ()},
        {"uris": (PARTY_NAMES[0], "confide://cardio/party/hospital-b")},
        {"uris": ("https://cardio/party/hospital-a",)},
        {"uris": ("confide://cardio/party/hospital-a/x",)},
        {"uris": ("confide://cardio/party/-a",)},
        {"uris": ("confide://cardio/founder/hospital-a",)},
        {"hosts": ()},
        {"hosts": ("hospital-b.party.confide.internal",)},
        {"hosts": (PARTY_NAMES[1], "other.example")},
        {"usages": (CLIENT,)},
        {"usages": (SERVER,)},
        {"usages": (SERVER, CLIENT, ExtendedKeyUsageOID.CODE_SIGNING)},
        {"ca": True},
    ],
)
def test_certificate_of_other_form_is_refused(founder: Founder, keys: Keys, change: dict[str, object]) -> None:
    _refused(founder, _handmade(founder, keys, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x" * 9000])
def test_certificate_that_is_none_is_refused(founder: Founder, pem: str) -> None:
    _refused(founder, pem)


def test_two_certificates_in_one_text_are_refused(founder: Founder, keys: Keys) -> None:
    pem = founder.certificate(keys, "hospital-a")
    _refused(founder, pem + pem)


def test_issue_with_other_names_in_csr_ignores_them(founder: Founder, keys: Keys) -> None:
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hospital-b")]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("confide://cardio/party/hospital-b")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(keys.tls.export_secret_object(), hashes.SHA256())
    )
    pem = issue_certificate(
        founder.ca,
        ca_certificate=founder.ca_certificate,
        csr=csr.public_bytes(serialization.Encoding.PEM).decode(),
        identity=PeerIdentity(MemberKind.PARTY, "cardio", "hospital-a"),
        serial=1,
        now=NOW,
    )
    assert parse_certificate(pem).identity.id == "hospital-a"
    assert "hospital-b" not in x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string()


def test_issue_same_arguments_gives_same_bytes(founder: Founder, keys: Keys) -> None:
    def issue() -> str:
        return issue_certificate(
            founder.ca,
            ca_certificate=founder.ca_certificate,
            csr=make_csr(keys.tls, member="hospital-a"),
            identity=PeerIdentity(MemberKind.PARTY, "cardio", "hospital-a"),
            serial=7,
            now=NOW,
        )

    assert issue() == issue()


def test_csr_with_altered_signature_is_refused(keys: Keys) -> None:
    csr = x509.load_pem_x509_csr(make_csr(keys.tls, member="hospital-a").encode())
    der = bytearray(csr.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1  # the last byte of the ECDSA signature
    altered = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(ConfideError) as caught:
        csr_public_key(altered)
    assert caught.value.code is ErrorCode.BAD_SIGNATURE


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())])
def test_csr_with_other_kind_of_key_is_refused(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hospital-a")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
    with pytest.raises(ConfideError) as caught:
        csr_public_key(csr.public_bytes(serialization.Encoding.PEM).decode())
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_issue_never_outlives_the_authority(founder: Founder, keys: Keys) -> None:
    pem = founder.certificate(keys, "hospital-a", lifetime=timedelta(days=100_000))
    authority = x509.load_pem_x509_certificate(founder.ca_certificate.encode())
    assert parse_certificate(pem).not_after == authority.not_valid_after_utc
