"""Enrolment requests: the author holds both keys, and the fingerprint covers everything."""

from __future__ import annotations

import dataclasses

import pytest

from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.ca import make_csr
from governance.identity.keys import VerifyingKey
from governance.identity.names import MemberKind, Role, check_endpoint, grouped, parse_fingerprint, require_fingerprint
from governance.identity.request import EnrolmentRequest, make_request, read_request
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from tests.support.members import Keys, new_keys


@pytest.fixture(scope="module")
def keys() -> Keys:
    return new_keys()


def _request(keys: Keys, **changes: object) -> SignedDocument:
    wanted: dict[str, object] = {
        "kind": MemberKind.PARTY,
        "member": "hospital-a",
        "endpoint": "a.example:7443",
        "roles": [Role.COMPUTING, Role.DATA_OWNER],
        "institution": None,
    }
    return make_request(**(wanted | changes), tls_key=keys.tls, signing_key=keys.signing)  # type: ignore[arg-type]


def test_request_after_round_trip_is_equal(keys: Keys) -> None:
    request = read_request(SignedDocument.from_bytes(_request(keys).to_bytes()))
    assert request.id == "hospital-a"
    assert request.roles == (Role.DATA_OWNER, Role.COMPUTING)
    assert request.signing_key == keys.signing.public


@pytest.mark.parametrize(
    "change",
    [
        {"id": "hospital-x"},
        {"endpoint": "evil.example:7443"},
        {"roles": (Role.DEALER,)},
        {"csr": make_csr(new_keys().tls, member="hospital-a")},
        {"signing_key": new_keys().signing.public},
    ],
)
def test_fingerprint_changes_with_every_field(keys: Keys, change: dict[str, object]) -> None:
    request = read_request(_request(keys))
    altered: EnrolmentRequest = dataclasses.replace(request, **change)  # type: ignore[arg-type]
    assert altered.fingerprint != request.fingerprint


def test_altered_request_does_not_verify(keys: Keys) -> None:
    signed = _request(keys)
    document = dict(signed.document) | {"endpoint": "evil.example:7443"}
    with pytest.raises(ConfideError) as caught:
        read_request(dataclasses.replace(signed, body=canonical_bytes(document)))
    assert caught.value.code is ErrorCode.BAD_SIGNATURE


def test_request_with_another_members_signing_key_does_not_verify(keys: Keys) -> None:
    # Eve asks for her own TLS key under Alice's signing key, which she does not hold.
    document = dict(_request(keys).document) | {"signing_key": new_keys().signing.public.hex}
    signed = sign(document, kind=DocumentKind.ENROLMENT_REQUEST, signer="hospital-a", key=keys.signing)
    with pytest.raises(ConfideError) as caught:
        read_request(signed)
    assert caught.value.code is ErrorCode.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"id": "founder"}, "id"),
        ({"id": "A B"}, "id"),
        ({"endpoint": None}, "endpoint"),
        ({"endpoint": "nohost"}, "endpoint"),
        ({"roles": []}, "roles"),
        ({"roles": ["queen"]}, "roles"),
        ({"roles": ["dealer", "dealer"]}, "roles"),
        ({"institution": "hospital-b"}, "institution"),
        ({"kind": "dealer"}, "kind"),
        ({"signing_key": "00"}, "signing_key"),
        ({"csr": "x" * 9000}, "csr"),
        ({"extra": 1}, "extra"),
        ({"format": "confide.enrolment-request/2"}, "format"),
    ],
)
def test_request_with_wrong_field_is_refused_by_name(keys: Keys, change: dict[str, object], where: str) -> None:
    document = dict(_request(keys).document) | change
    signed = sign(document, kind=DocumentKind.ENROLMENT_REQUEST, signer="hospital-a", key=keys.signing)
    with pytest.raises(ConfideError) as caught:
        read_request(signed)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
    assert where in [problem.where for problem in caught.value.problems]


def test_request_with_several_mistakes_names_all_at_once(keys: Keys) -> None:
    with pytest.raises(ConfideError) as caught:
        _request(keys, member="No", endpoint="x", roles=[])
    assert {problem.where for problem in caught.value.problems} == {"id", "endpoint", "roles"}


def test_researcher_request_with_roles_is_refused(keys: Keys) -> None:
    with pytest.raises(ConfideError, match="neither an endpoint nor roles"):
        _request(keys, kind=MemberKind.RESEARCHER)


def test_fingerprint_as_people_write_it_is_accepted() -> None:
    digits = "0123456789abcdef" * 4
    shown = grouped(digits)
    assert shown.split("-")[:2] == ["0123", "4567"]
    for written in (shown, shown.upper(), shown.replace("-", " "), digits, shown.replace("-", ":")):
        require_fingerprint(written, digits, of_what="it")


@pytest.mark.parametrize("shown", ["", "0123", "0123456789abcdef" * 4 + "0", "g" * 64])
def test_fingerprint_that_is_not_whole_is_refused(shown: str) -> None:
    with pytest.raises(ConfideError) as caught:
        parse_fingerprint(shown)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_fingerprint_with_one_other_digit_is_refused() -> None:
    with pytest.raises(ConfideError) as caught:
        require_fingerprint("1" * 64, "1" * 63 + "2", of_what="it")
    assert caught.value.code is ErrorCode.FINGERPRINT_DIFFERS


@pytest.mark.parametrize("endpoint", ["a.example:1", "10.0.0.1:65535", "[::1]:7443", "[fe80::1%eth0]:1", "hospital-a:7443"])
def test_endpoint_of_host_and_port_is_accepted(endpoint: str) -> None:
    assert not list(check_endpoint("endpoint", endpoint))


@pytest.mark.parametrize(
    "endpoint",
    [
        "", ":1", "a:0", "a:65536", "a:00000165535", "a:07443", "a:٣", "a b:1", "-a:1", "a..b:1", "[a]:1", "[10.0.0.1]:1",
        "::1:7443", "a:1\n", "[fe80::1%]:1", "[fe80::1%a b]:1", "[fe80::1%x\r\nX-More: y]:1",
    ],
)  # fmt: skip
def test_endpoint_of_other_form_is_refused(endpoint: str) -> None:
    assert list(check_endpoint("endpoint", endpoint))


def test_verifying_key_fingerprint_is_tagged() -> None:
    key = VerifyingKey("ab" * 32)
    assert len(key.fingerprint) == 64
    assert key.fingerprint != VerifyingKey("ac" * 32).fingerprint
