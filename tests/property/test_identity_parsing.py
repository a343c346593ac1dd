"""Whatever arrives, reading it ends in a member, a document or a `ConfideError`: never in another exception."""

from __future__ import annotations

import base64
import functools
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.ca import csr_public_key, make_csr
from governance.identity.directory import read_directory
from governance.identity.names import FOUNDER, MemberKind, Role
from governance.identity.request import make_request, read_request
from parties.config import load_party_config
from protocols.errors import ConfideError
from tests.support.members import NOW, World, a_world, new_keys

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@functools.cache
def _world() -> World:
    return a_world()


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [path, *(p for key, inner in value.items() for p in _paths(inner, (*path, key)))]
    if isinstance(value, list):
        return [path, *(p for number, inner in enumerate(value) for p in _paths(inner, (*path, number)))]
    return [path]


def _with(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    if not path:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = _with(value[path[0]], path[1:], new)
    return copied


@settings(max_examples=80)
@given(data=st.data(), new=JSON)
def test_directory_with_any_field_replaced_is_read_or_refused(data: st.DataObject, new: object) -> None:
    world = _world()
    document = world.directory.to_document()
    path = data.draw(st.sampled_from(_paths(document)[1:]))
    signed = sign(_with(document, path, new), kind=DocumentKind.DIRECTORY, signer=FOUNDER, key=world.founder.signing)
    try:
        directory = read_directory(signed, founder_fingerprint=world.founder.fingerprint)
    except ConfideError:
        return
    assert directory.to_document() == signed.document


@settings(max_examples=80)
@given(data=st.data(), new=JSON)
def test_request_with_any_field_replaced_is_read_or_refused(data: st.DataObject, new: object) -> None:
    keys = _world().hospital_a
    request = make_request(
        kind=MemberKind.PARTY,
        member="hospital-a",
        endpoint="a:1",
        roles=[Role.DEALER],
        institution=None,
        tls_key=keys.tls,
        signing_key=keys.signing,
    )
    document = dict(request.document)
    path = data.draw(st.sampled_from(_paths(document)[1:]))
    changed = _with(document, path, new)
    signed = sign(changed, kind=DocumentKind.ENROLMENT_REQUEST, signer="hospital-a", key=keys.signing)
    try:
        read = read_request(signed)
    except ConfideError:
        return
    assert read.to_document() == signed.document


@settings(max_examples=200)
@given(data=st.data())
def test_envelope_with_any_byte_altered_is_read_or_refused(data: st.DataObject) -> None:
    world = _world()
    whole = bytearray(sign({"a": 1}, kind=DocumentKind.JOB, signer="alice", key=world.alice.signing).to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        signed = SignedDocument.from_bytes(bytes(whole))
    except ConfideError:
        return
    assert signed.to_bytes() == bytes(whole)


def _altered_pem(data: st.DataObject, der: bytes, label: str) -> bytes:
    altered = bytearray(der)
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    body = base64.encodebytes(bytes(altered)).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


# The library warns of some altered fields (a negative serial number); the signature of the issuer is refused all the same.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(max_examples=200)
@given(data=st.data())
def test_certificate_with_any_byte_altered_is_never_another_member(data: st.DataObject) -> None:
    world = _world()
    pem = world.certificate_of("hospital-a")
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    try:
        identity = world.directory.check_peer(_altered_pem(data, der, "CERTIFICATE"), NOW)
    except ConfideError:
        return
    assert identity.id == "hospital-a"


@settings(max_examples=200)
@given(data=st.data())
def test_csr_with_any_byte_altered_is_read_or_refused(data: st.DataObject) -> None:
    csr = x509.load_pem_x509_csr(_csr().encode())
    der = csr.public_bytes(serialization.Encoding.DER)
    try:
        key = csr_public_key(_altered_pem(data, der, "CERTIFICATE REQUEST").decode())
    except ConfideError:
        return
    assert key == csr.public_key()


@functools.cache
def _csr() -> str:
    return make_csr(new_keys().tls, member="hospital-a")


@settings(max_examples=100)
@given(text=st.text(max_size=200))
def test_any_text_is_refused_as_configuration_with_a_reason(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "party.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ConfideError) as caught:
        load_party_config(path)
    assert caught.value.problems
