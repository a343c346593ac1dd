"""Which enquiries the owner of a published model answers, and every reason against the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from governance.consent.revocation import Effect, Revocation
from governance.encrypted.capacity import answers_kept_unknown
from governance.encrypted.enquiry import Enquiry, sign_enquiry, verify_enquiry
from governance.encrypted.grant import EncryptedGrant, sign_encrypted_grant, verify_encrypted_grant
from governance.encrypted.published import PublishedModel, sign_published, verify_published
from governance.encrypted.rules import EncryptedGrantStanding, EnquiryDecision, Known, decide_enquiry
from protocols.errors import ConfideError, ErrorCode
from tests.support.consent import NOW, ConsentWorld
from tests.support.encrypted import DAY, a_model, a_permission, an_enquiry

WORLD = ConsentWorld()
LINEAR = 31  # features of the linear model, and one more


def _standing(grant: EncryptedGrant, **changes: Any) -> EncryptedGrantStanding:
    return replace(EncryptedGrantStanding(grant, learnt=0, revocation=None, unsound=None), **changes)


def _decide(
    enquiry: Enquiry, model: PublishedModel | None, *standings: EncryptedGrantStanding, now: datetime = NOW, **changes: Any
) -> EnquiryDecision:
    known = Known(
        party="hospital-a",
        published=model,
        agreement=WORLD.agreement,
        revoked_by={},
        grants=standings,
        learnt=0,
        learnt_by_key=0,
        key_since=None,
    )
    return decide_enquiry(enquiry, replace(known, **changes), directory=WORLD.directory, now=now)


def test_covered_enquiry_names_its_grant() -> None:
    model = a_model()
    decision = _decide(an_enquiry(model), model, _standing(a_permission(model)))
    assert decision.findings == ()
    assert decision.grant == a_permission(model)


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"purpose": "marketing"}, ErrorCode.NO_AGREEMENT, "purpose"),
        ({"purpose": "quality"}, ErrorCode.NO_CONSENT, "purposes"),
        ({"agreement": "f" * 64}, ErrorCode.NO_CONSENT, "agreement"),
        ({"evaluator": "hospital-b"}, ErrorCode.INVALID_ARGUMENT, "evaluator"),
        ({"querier": "mallory"}, ErrorCode.NO_CONSENT, "recipients"),
        ({"lane": "packed"}, ErrorCode.INVALID_ARGUMENT, "lane"),
        ({"published": "d" * 64, "version": "d" * 12}, ErrorCode.UNKNOWN_MODEL, "model"),
        ({"max_answers": 501}, ErrorCode.BUDGET_EXHAUSTED, "max_answers_per_key"),
        ({"max_answers": 1001}, ErrorCode.BUDGET_EXHAUSTED, "max_answers"),
        ({"created": NOW + timedelta(hours=1), "expires": NOW + DAY}, ErrorCode.INVALID_ARGUMENT, "created"),
        ({"created": NOW - DAY, "expires": NOW}, ErrorCode.JOB_EXPIRED, "expires"),
    ],
)
def test_enquiry_that_leaves_a_limit_is_refused_by_its_name(changes: dict[str, Any], code: ErrorCode, where: str) -> None:
    model = a_model()
    findings = _decide(an_enquiry(model, **changes), model, _standing(a_permission(model))).findings
    assert (code, where) in [(finding.code, finding.problem.where.split(".")[-1]) for finding in findings]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"expires": NOW}, ErrorCode.GRANT_EXPIRED),
        ({"valid_from": NOW + timedelta(hours=1)}, ErrorCode.NO_CONSENT),
        ({"issuer": "hospital-b"}, ErrorCode.NO_CONSENT),
        ({"model": "prognosis"}, ErrorCode.NO_CONSENT),
        ({"version": "f" * 12}, ErrorCode.NO_CONSENT),
        ({"recipients": ("institution/hospital-c",)}, ErrorCode.NO_CONSENT),
    ],
)
def test_grant_that_does_not_reach_so_far_covers_nothing(changes: dict[str, Any], code: ErrorCode) -> None:
    model = a_model()
    decision = _decide(an_enquiry(model), model, _standing(a_permission(model, **changes)))
    assert decision.grant is None
    assert code in [finding.code for finding in decision.findings]


def test_grant_for_an_institution_reaches_its_researchers() -> None:
    model = a_model()
    assert (
        _decide(an_enquiry(model), model, _standing(a_permission(model, recipients=("institution/hospital-b",)))).findings == ()
    )


def test_revoked_grant_covers_nothing_and_says_why() -> None:
    model = a_model()
    grant = a_permission(model)
    revocation = Revocation("cardio", "hospital-a", grant.grant_id, Effect.STOP, "withdrawn", NOW)
    (finding,) = _decide(an_enquiry(model), model, _standing(grant, revocation=revocation)).findings
    assert finding.code is ErrorCode.GRANT_REVOKED
    assert "withdrawn" in finding.problem.what


def test_what_is_learnt_already_counts_against_the_grant_and_the_key() -> None:
    model = a_model()
    standing = _standing(a_permission(model), learnt=901)
    assert [finding.code for finding in _decide(an_enquiry(model), model, standing).findings] == [ErrorCode.BUDGET_EXHAUSTED]
    findings = _decide(an_enquiry(model), model, _standing(a_permission(model)), learnt_by_key=401).findings
    assert [finding.problem.where.split(".")[-1] for finding in findings] == ["max_answers_per_key"]


def test_key_that_is_too_old_is_refused() -> None:
    model = a_model()
    (finding,) = _decide(an_enquiry(model), model, _standing(a_permission(model)), key_since=NOW - timedelta(hours=1)).findings
    assert finding.problem.where == "key"


def test_linear_model_stays_unknown_to_all_recipients_together() -> None:
    model = a_model(known_after=LINEAR)
    most = answers_kept_unknown(model)
    assert most == (LINEAR - 1) * 2
    standing = _standing(a_permission(model))
    assert _decide(an_enquiry(model, max_answers=most), model, standing).findings == ()
    (finding,) = _decide(an_enquiry(model, max_answers=most - 9), model, standing, learnt=10).findings
    assert finding.code is ErrorCode.BUDGET_EXHAUSTED
    assert "linear" in finding.problem.what


def test_linear_model_that_counts_as_known_is_bound_by_the_grant_alone() -> None:
    model = a_model(known_after=LINEAR)
    standing = _standing(a_permission(model, counts_as_known=True))
    assert _decide(an_enquiry(model, max_answers=400), model, standing, learnt=1000).findings == ()


def test_model_out_of_its_time_answers_nothing() -> None:
    model = a_model()
    decision = _decide(an_enquiry(model), model, _standing(a_permission(model, expires=NOW + 9 * DAY)), now=NOW + DAY)
    assert ErrorCode.JOB_EXPIRED in [finding.code for finding in decision.findings]


def test_documents_are_read_as_written_and_verified_by_their_authors_key() -> None:
    model = a_model(issuer="hospital-a")
    key = WORLD.keys["hospital-a"].signing
    assert verify_published(sign_published(model, key), WORLD.directory) == model
    grant = a_permission(model)
    assert verify_encrypted_grant(sign_encrypted_grant(grant, key), WORLD.directory) == grant
    enquiry = an_enquiry(model)
    assert verify_enquiry(sign_enquiry(enquiry, WORLD.alice.signing), WORLD.directory) == enquiry


@pytest.mark.parametrize(
    "sign",
    [
        lambda key: sign_published(a_model(issuer="hospital-b"), key),
        lambda key: sign_encrypted_grant(a_permission(a_model(), issuer="hospital-b"), key),
    ],
)
def test_document_signed_by_another_party_is_refused(sign: Callable[[Any], Any]) -> None:
    signed = sign(WORLD.keys["hospital-a"].signing)
    verify = verify_published if signed.kind.value == "published-model" else verify_encrypted_grant
    with pytest.raises(ConfideError) as error:
        verify(signed, WORLD.directory)
    assert error.value.code is ErrorCode.BAD_SIGNATURE


@pytest.mark.parametrize(
    "document",
    [
        a_model(plans={}), a_model(plans={"slow": {}}), a_model(outputs=()), a_model(outputs=("a", "a")), a_model(decimals=10),
        a_model(client_activation="relu"), a_model(expires=NOW - DAY), a_model(features=("",)), a_model(commitment="x"),
        a_model(outputs=("=1+1",)), a_model(outputs=("@sum",)), a_model(features=("a\x1b[2J", "b")),
        a_model(outputs=("x" * 129,)),
    ],
)  # fmt: skip
def test_unsound_description_is_not_signed(document: PublishedModel) -> None:
    with pytest.raises(ConfideError) as error:
        sign_published(document, WORLD.keys["hospital-a"].signing)
    assert error.value.code is ErrorCode.INVALID_DOCUMENT
