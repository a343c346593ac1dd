"""Agreements, grants and revocations as documents: one form for one content, every problem at once, signatures that bind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from governance.consent.agreement import (
    Agreement,
    SignedAgreement,
    sign_agreement,
    verify_agreement_signature,
    why_not_in_force,
)
from governance.consent.grant import Grant, sign_grant, verify_grant
from governance.consent.limits import OutputRule, ParameterLimits
from governance.consent.revocation import Effect, Revocation, sign_revocation, verify_revocation
from governance.documents import DocumentKind, SignedDocument, sign_bytes
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import JobType, OutputKind
from tests.support.consent import HOSPITALS, NOW, ConsentWorld, a_grant, a_model_grant, a_revocation, an_agreement

READERS: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "agreement": (Agreement.from_bytes, an_agreement()),
    "agreement with cap": (Agreement.from_bytes, an_agreement(epsilon_cap="1.5", outputs=())),
    "grant": (Grant.from_bytes, a_grant()),
    "model grant": (Grant.from_bytes, a_model_grant()),
    "grant without bounds": (
        Grant.from_bytes,
        a_grant(parameters=ParameterLimits(), outputs=(), computing_parties=(), dealers=()),
    ),
    "revocation": (Revocation.from_bytes, a_revocation("ab" * 16)),
    "revocation of an agreement": (Revocation.from_bytes, a_revocation("ab" * 32, effect=Effect.DELETE)),
}


@pytest.fixture(scope="module")
def world() -> ConsentWorld:
    return ConsentWorld()


@pytest.mark.parametrize("name", READERS)
def test_document_read_back_equals_what_was_written(name: str) -> None:
    read, document = READERS[name]
    assert read(document.to_bytes()) == document


@pytest.mark.parametrize("name", READERS)
def test_document_with_any_field_missing_or_one_more_is_refused(name: str) -> None:
    read, document = READERS[name]
    content = json.loads(document.to_bytes())
    for field in content:
        without = {key: value for key, value in content.items() if key != field}
        with pytest.raises(ConfideError) as caught:
            read(canonical_bytes(without))
        assert (caught.value.code, field in str(caught.value)) == (ErrorCode.INVALID_DOCUMENT, True)
    with pytest.raises(ConfideError, match="extra: unknown field"):
        read(canonical_bytes(content | {"extra": 1}))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"consortium": "Cardio"}, "consortium"),
        ({"purposes": ()}, "purposes"),
        ({"purposes": ("care", "care")}, "purposes"),
        ({"parties": ("hospital-a",)}, "parties"),
        ({"datasets": ("hospital-d/*",)}, "datasets"),
        ({"datasets": ("hospital-a",)}, "datasets"),
        ({"job_types": ()}, "job_types"),
        ({"min_parties": 4}, "min_parties"),
        ({"epsilon_cap": "much"}, "epsilon_cap"),
        ({"expires": NOW - timedelta(days=2)}, "expires"),
    ],
)
def test_agreement_with_an_unsound_field_is_refused(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfideError) as caught:
        Agreement.from_bytes(an_agreement(**changes).to_bytes())
    assert where in [problem.where for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"agreement": "ab"}, "agreement"),
        ({"subject": replace(a_grant().subject, commitment="x")}, "subject.commitment"),
        ({"subject": replace(a_model_grant().subject, version="x")}, "subject.version"),
        ({"job_types": (), "derived_job_types": ()}, "job_types"),
        ({"job_types": (JobType.INFER,)}, "job_types"),
        ({"recipients": ()}, "recipients"),
        ({"recipients": ("institution/",)}, "recipients"),
        ({"outputs": (OutputRule(OutputKind.CORRECT_COUNT, top_k=1),)}, "outputs.correct_count.top_k"),
        ({"outputs": (OutputRule(OutputKind.LABEL, decimals=2),)}, "outputs.label.decimals"),
        ({"outputs": (OutputRule(OutputKind.LABEL, clip="0.1"),)}, "outputs.label.clip"),
        ({"outputs": (OutputRule(OutputKind.PROBABILITY, clip="0.6"),)}, "outputs.probability.clip"),
        ({"outputs": (OutputRule(OutputKind.LABEL), OutputRule(OutputKind.LABEL))}, "outputs"),
        ({"architectures": ("ab",)}, "architectures"),
        ({"parameters": ParameterLimits(max_epochs=10_001)}, "parameters.max_epochs"),
        ({"max_uses": 2_000_000}, "max_uses"),
        ({"derived_until": NOW - timedelta(days=2)}, "derived_until"),
        ({"nonce": ""}, "nonce"),
    ],
)
def test_grant_with_an_unsound_field_is_refused(changes: dict[str, Any], where: str, world: ConsentWorld) -> None:
    for make in (lambda: Grant.from_bytes(a_grant(**changes).to_bytes()),
                 lambda: sign_grant(a_grant(**changes), world.keys["hospital-a"].signing)):  # fmt: skip
        with pytest.raises(ConfideError) as caught:
            make()
        assert where in [problem.where for problem in caught.value.problems]


def test_document_in_another_order_than_its_one_form_is_refused() -> None:
    content = json.loads(an_agreement().to_bytes())
    content["job_types"] = list(reversed(content["job_types"]))
    with pytest.raises(ConfideError, match="one form"):
        Agreement.from_bytes(canonical_bytes(content))


def test_revocation_without_reason_is_refused(world: ConsentWorld) -> None:
    with pytest.raises(ConfideError) as caught:
        sign_revocation(a_revocation("ab" * 16, reason=""), world.keys["hospital-a"].signing)
    assert [problem.where for problem in caught.value.problems] == ["reason"]


def test_agreement_signed_by_all_is_in_force(world: ConsentWorld) -> None:
    again = SignedAgreement.from_bytes(world.agreement.to_bytes())
    assert again == world.agreement
    assert list(why_not_in_force(again, directory=world.directory, revoked_by={}, now=NOW)) == []


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("unsigned", "hospital-c has not signed it yet"),
        ("expired", "it expired at"),
        ("early", "it is valid from"),
        ("revoked", "hospital-b revoked it"),
        ("left", "no party 'hospital-c'"),
        ("new key", "signature of hospital-c does not verify"),
        ("other consortium", "it is one of the consortium neuro"),
    ],
)
def test_agreement_that_is_not_in_force_says_why(case: str, words: str, world: ConsentWorld) -> None:
    signed, directory, now, revoked = world.agreement, world.directory, NOW, {}
    match case:
        case "unsigned":
            signed = world.signed(an_agreement(), by=HOSPITALS[:2])
        case "expired":
            now = NOW + timedelta(days=31)
        case "early":
            now = NOW - timedelta(days=2)
        case "revoked":
            revoked = {"hospital-b": NOW, "mallory": NOW}
        case "left":
            directory = replace(directory, parties=directory.parties[:2])
        case "new key":
            other = replace(directory.parties[2], signing_key=world.alice.signing.public)
            directory = replace(directory, parties=(*directory.parties[:2], other))
        case "other consortium":
            signed = world.signed(an_agreement(consortium="neuro"))
    problems = list(why_not_in_force(signed, directory=directory, revoked_by=revoked, now=now))
    assert [words in problem.what for problem in problems] == [True], problems


def test_signature_under_another_body_does_not_join(world: ConsentWorld) -> None:
    other = sign_agreement(an_agreement(name="other").to_bytes(), party="hospital-a", key=world.keys["hospital-a"].signing)
    with pytest.raises(ConfideError, match="signed another agreement"):
        SignedAgreement.unsigned(an_agreement().to_bytes()).with_signature(other)


def test_signature_of_no_party_of_the_agreement_is_refused(world: ConsentWorld) -> None:
    body = an_agreement(parties=HOSPITALS[:2], datasets=()).to_bytes()
    key = world.keys["hospital-c"].signing
    with pytest.raises(ConfideError, match="no party of the agreement"):
        sign_agreement(body, party="hospital-c", key=key)
    with pytest.raises(ConfideError, match="no party of the agreement"):
        verify_agreement_signature(sign_bytes(body, kind=DocumentKind.AGREEMENT, signer="hospital-c", key=key), world.directory)


def test_signed_document_of_consent_is_its_issuers_alone(world: ConsentWorld) -> None:
    key_a, key_b = world.keys["hospital-a"].signing, world.keys["hospital-b"].signing
    grant, revocation = sign_grant(a_grant(), key_a), sign_revocation(a_revocation("ab" * 16), key_a)
    assert verify_grant(grant, world.directory) == a_grant()
    assert verify_revocation(revocation, world.directory) == a_revocation("ab" * 16)
    verifiers: tuple[tuple[SignedDocument, DocumentKind, Callable[..., object]], ...] = (
        (grant, DocumentKind.GRANT, verify_grant),
        (revocation, DocumentKind.REVOCATION, verify_revocation),
    )
    for signed, kind, verify in verifiers:
        flipped = bytes([signed.signature[0] ^ 1]) + signed.signature[1:]
        altered = (
            replace(signed, signature=flipped),
            replace(signed, body=signed.body.replace(b"hospital-a", b"hospital-b")),
            replace(signed, signer="hospital-b"),
            sign_bytes(signed.body, kind=kind, signer="hospital-b", key=key_b),
            sign_bytes(signed.body, kind=DocumentKind.JOB, signer="hospital-a", key=key_a),
        )
        for document in altered:
            with pytest.raises(ConfideError) as caught:
                verify(document, world.directory)
            assert caught.value.code is ErrorCode.BAD_SIGNATURE


def test_grant_of_another_consortium_is_refused(world: ConsentWorld) -> None:
    signed = sign_grant(a_grant(consortium="neuro"), world.keys["hospital-a"].signing)
    with pytest.raises(ConfideError, match="consortium neuro"):
        verify_grant(signed, world.directory)
