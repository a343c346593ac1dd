"""The approval matrix: whose yes counts, for what exactly, and everything that counts nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from governance.documents import DocumentKind, SignedDocument, sign
from governance.people.person import People
from governance.people.roles import PersonRole
from governance.policy.approval import MAX_COMMENT, Answer, Approval, Question, read_approval, sign_approval, tally
from governance.policy.conditions import JobFacts
from governance.policy.rules import Decision, Kind, decide
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode
from tests.support.people import NOW, Signer, a_person, a_policy, a_rule, an_officer, approval_by

QUESTION = Question("hospital-a", "a1" * 32, "b2" * 32, "c3" * 32)
ALICE = an_officer().key
NORA, EMIL, IDA = an_officer("nora"), an_officer("emil"), an_officer("ida")
STEWARD = a_person("sven", PersonRole.DATA_STEWARD)
OPERATOR = a_person("olaf", PersonRole.OPERATOR, PersonRole.DATA_STEWARD)
AUDITOR = a_person("anna", PersonRole.AUDITOR)
AUTHOR_BY_MEMBER = an_officer("maria", member="alice")
AUTHOR_BY_KEY = an_officer("mia", key=ALICE)
EVERYBODY = (NORA, EMIL, IDA, STEWARD, OPERATOR, AUDITOR, AUTHOR_BY_MEMBER, AUTHOR_BY_KEY)
PEOPLE = People([signer.person for signer in EVERYBODY])
POLICY = a_policy(a_rule("ask", approval_by(2)), people=EVERYBODY)
ASKED = decide(POLICY, JobFacts("train", "alice"), querier_key=ALICE.public)


def counted(*answers: SignedDocument, decision: Decision = ASKED) -> tuple[str, ...]:
    return tally(decision, answers, question=QUESTION, people=PEOPLE).approved


def test_tally_two_different_approvers_are_enough_whatever_their_order() -> None:
    found = tally(ASKED, [IDA.answers(QUESTION), NORA.answers(QUESTION)], question=QUESTION, people=PEOPLE)
    assert (found.is_approved, found.missing, found.approved, found.ignored) == (True, 0, ("nora", "ida"), ())
    assert found.counted == tuple(sha256_hex(signer.answers(QUESTION).to_bytes()) for signer in (NORA, IDA))


def test_tally_the_same_person_twice_counts_once() -> None:
    found = tally(ASKED, [NORA.answers(QUESTION), NORA.answers(QUESTION, minute=5)], question=QUESTION, people=PEOPLE)
    assert (found.is_approved, found.missing, found.approved, len(found.counted)) == (False, 1, ("nora",), 1)


def test_tally_one_denial_ends_it_whatever_else_is_said_before_or_after() -> None:
    no = IDA.answers(QUESTION, Answer.DENY, comment="not for this purpose")
    for answers in ([no, NORA.answers(QUESTION), EMIL.answers(QUESTION)], [NORA.answers(QUESTION), EMIL.answers(QUESTION), no]):
        found = tally(ASKED, answers, question=QUESTION, people=PEOPLE)
        assert (found.is_denied, found.is_approved, found.denied, found.comment) == (
            True,
            False,
            ("ida",),
            "not for this purpose",
        )


def test_tally_approval_and_later_denial_of_one_person_is_a_denial() -> None:
    found = tally(
        ASKED, [NORA.answers(QUESTION), NORA.answers(QUESTION, Answer.DENY, minute=1)], question=QUESTION, people=PEOPLE
    )
    assert found.is_denied


def altered(signed: SignedDocument) -> SignedDocument:
    return replace(signed, body=signed.body.replace(b'"answer":"deny"', b'"answer":"approve"'))


def in_the_name_of(other: Signer, signer: Signer) -> SignedDocument:
    return sign_approval(Approval(QUESTION, other.person.id, Answer.APPROVE, "", NOW), signer.key)


def under_the_id_of_an_approver(signer: Signer) -> SignedDocument:
    document = Approval(QUESTION, "emil", Answer.APPROVE, "", NOW).to_document()
    return sign(document, kind=DocumentKind.APPROVAL, signer=signer.person.id, key=signer.key)


def of_another_kind(signer: Signer) -> SignedDocument:
    document = Approval(QUESTION, signer.person.id, Answer.APPROVE, "", NOW).to_document()
    return sign(document, kind=DocumentKind.AUTHORISATION, signer=signer.person.id, key=signer.key)


NOTHING: dict[str, Callable[[], SignedDocument]] = {
    "another job": lambda: EMIL.answers(replace(QUESTION, job="d4" * 32)),
    "another plan": lambda: EMIL.answers(replace(QUESTION, plan="d4" * 32)),
    "another policy": lambda: EMIL.answers(replace(QUESTION, policy="d4" * 32)),
    "another party": lambda: EMIL.answers(replace(QUESTION, party="hospital-b")),
    "a wrong key": lambda: an_officer("emil").answers(QUESTION),
    "an altered answer": lambda: altered(EMIL.answers(QUESTION, Answer.DENY)),
    "a signature in another's name": lambda: in_the_name_of(EMIL, IDA),
    "a body in another's name": lambda: under_the_id_of_an_approver(IDA),
    "another kind of document": lambda: of_another_kind(EMIL),
    "nobody of the policy": lambda: an_officer("eve").answers(QUESTION),
    "an operator": lambda: OPERATOR.answers(QUESTION),
    "an auditor": lambda: AUDITOR.answers(QUESTION),
    "somebody with a role who is not named": lambda: STEWARD.answers(QUESTION),
    "the author by member id": lambda: AUTHOR_BY_MEMBER.answers(QUESTION),
    "the author by key": lambda: AUTHOR_BY_KEY.answers(QUESTION),
}


@pytest.mark.parametrize("signed", NOTHING.values(), ids=NOTHING)
def test_tally_answer_that_is_not_exactly_what_was_asked_counts_nothing(signed: Callable[[], SignedDocument]) -> None:
    found = tally(ASKED, [NORA.answers(QUESTION), signed()], question=QUESTION, people=PEOPLE)
    assert (found.approved, found.is_approved, found.is_denied) == (("nora",), False, False)
    assert len(found.ignored) == 1


@pytest.mark.parametrize("kind", [Kind.AUTOMATIC, Kind.REFUSED], ids=lambda kind: kind.value)
def test_tally_of_a_job_that_nobody_is_asked_about_counts_nothing(kind: Kind) -> None:
    assert counted(NORA.answers(QUESTION), decision=Decision(kind, "rule")) == ()


def test_decision_authors_and_operators_are_no_approvers() -> None:
    assert ASKED.approvers == ("nora", "emil", "ida")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"answer": "maybe"}, "answer"),
        ({"comment": "x" * (MAX_COMMENT + 1)}, "comment"),
        ({"time": "yesterday"}, "time"),
        ({"format": "confide.approval/2"}, "format"),
        ({"more": 1}, "more"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_read_approval_with_a_broken_field_is_refused(change: dict[str, object], where: str) -> None:
    document = {**Approval(QUESTION, "nora", Answer.APPROVE, "", NOW).to_document(), **change}
    with pytest.raises(ConfideError) as caught:
        read_approval(sign(document, kind=DocumentKind.APPROVAL, signer="nora", key=NORA.key))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
    assert [problem.where for problem in caught.value.problems] == [where]
