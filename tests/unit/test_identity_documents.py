"""Signed documents: what a signature covers, and that nothing else passes for it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.documents import DocumentKind, SignedDocument, sign, sign_bytes, verify
from governance.identity.keys import EcdsaKey, SigningKey, VerifyingKey, generate_ecdsa_key, generate_signing_key
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode

BODY = {"a": 1, "text": 'with "quotes", \\ and ü'}


@pytest.fixture
def key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def _signed(key: SigningKey) -> SignedDocument:
    return sign(BODY, kind=DocumentKind.JOB, signer="alice", key=key)


def _refused(signed: SignedDocument, key: VerifyingKey, *, kind: DocumentKind = DocumentKind.JOB, signer: str = "alice") -> None:
    with pytest.raises(ConfideError) as caught:
        verify(signed, kind=kind, signer=signer, key=key)
    assert caught.value.code is ErrorCode.BAD_SIGNATURE


def test_document_after_round_trip_verifies_and_keeps_its_bytes(key: SigningKey) -> None:
    signed = _signed(key)
    read = SignedDocument.from_bytes(signed.to_bytes())
    assert read == signed
    assert read.body == canonical_bytes(BODY)
    assert verify(read, kind=DocumentKind.JOB, signer="alice", key=key.public) == BODY


def test_signature_known_key_and_body_has_known_message(key: SigningKey) -> None:
    # An independent statement of what is signed: tag, kind, signer and body, separated by NUL.
    message = b"confide signature 1\0job\0alice\0" + canonical_bytes(BODY)
    assert _signed(key).signature == Ed25519PrivateKey.from_private_bytes(bytes(range(32))).sign(message)


def test_verify_altered_body_is_refused(key: SigningKey) -> None:
    _refused(replace(_signed(key), body=canonical_bytes(BODY | {"a": 2})), key.public)


def test_verify_every_altered_signature_byte_is_refused(key: SigningKey) -> None:
    signed = _signed(key)
    for position in range(len(signed.signature)):
        altered = bytearray(signed.signature)
        altered[position] ^= 1
        _refused(replace(signed, signature=bytes(altered)), key.public)


def test_verify_other_kind_is_refused_even_if_relabelled(key: SigningKey) -> None:
    signed = _signed(key)
    _refused(signed, key.public, kind=DocumentKind.SESSION_MESSAGE)
    _refused(replace(signed, kind=DocumentKind.SESSION_MESSAGE), key.public, kind=DocumentKind.SESSION_MESSAGE)


def test_verify_other_signer_is_refused_even_if_relabelled(key: SigningKey) -> None:
    signed = _signed(key)
    _refused(signed, key.public, signer="bob")
    _refused(replace(signed, signer="bob"), key.public, signer="bob")


def test_verify_other_key_is_refused(key: SigningKey) -> None:
    _refused(_signed(key), generate_signing_key().public)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "unheard-of"},
        {"signer": "Not An Id"},
        {"signature": "00"},
        {"signature": 7},
        {"body": 7},
        {"body": '{ "a": 1}'},
        {"format": "confide.signed/9"},
        {"extra": "x"},
    ],
)
def test_envelope_of_wrong_form_is_refused(key: SigningKey, change: dict[str, object]) -> None:
    envelope = {
        "format": "confide.signed/1",
        "kind": "job",
        "signer": "alice",
        "body": canonical_bytes(BODY).decode(),
        "signature": _signed(key).signature.hex(),
    }
    SignedDocument.from_bytes(canonical_bytes(envelope))
    with pytest.raises(ConfideError) as caught:
        SignedDocument.from_bytes(canonical_bytes(envelope | change))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_sign_bytes_that_are_not_canonical_is_refused(key: SigningKey) -> None:
    with pytest.raises(ConfideError) as caught:
        sign_bytes(b'{"b":1, "a":2}', kind=DocumentKind.JOB, signer="alice", key=key)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_secret_keys_show_nothing_and_refuse_pickling() -> None:
    for secret in (generate_signing_key(), generate_ecdsa_key()):
        assert repr(secret).endswith("Key(secret)")
        assert not hasattr(secret, "__dict__")
        with pytest.raises(TypeError):
            pickle.dumps(secret)


def test_secret_keys_after_round_trip_are_the_same(key: SigningKey) -> None:
    assert SigningKey.from_pem(key.export_secret_pem()).public == key.public
    tls = generate_ecdsa_key()
    assert EcdsaKey.from_pem(tls.export_secret_pem()).public == tls.public


def test_secret_key_of_other_kind_is_refused(key: SigningKey) -> None:
    for read in (lambda: EcdsaKey.from_pem(key.export_secret_pem()), lambda: SigningKey.from_pem(b"secret-looking text")):
        with pytest.raises(ConfideError) as caught:
            read()
        assert caught.value.code is ErrorCode.INVALID_CONFIG
        assert "secret-looking" not in str(caught.value)


def test_verifying_key_that_is_no_point_verifies_nothing(key: SigningKey) -> None:
    assert not VerifyingKey("02" + "00" * 31).is_valid(bytes(64), b"message")
