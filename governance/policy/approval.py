"""Approvals: a person's signed yes or no to one job with one plan at one party, and how they are counted.

An approval binds the job's digest, the plan's digest, the party and the policy that asks. A changed job is another job, and a
policy that changed asks anew: what was signed for anything else counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from governance.documents import DocumentKind, SignedDocument, sign, verify
from governance.identity.fields import fields_of, finish
from governance.identity.keys import SigningKey
from governance.people.person import People
from governance.policy.rules import Decision, Kind
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, Problem
from protocols.job import TIME_FORMAT

FORMAT = "confide.approval/1"
MAX_COMMENT = 500
_NAMES = {"format", "party", "job", "plan", "policy", "person", "answer", "comment", "time"}


class Answer(Enum):
    """What a person says to a job."""

    APPROVE = "approve"
    DENY = "deny"


@dataclass(frozen=True)
class Question:
    """What people are asked about: digests of 64 hexadecimal digits.

    Attributes:
        party: the party that asks its people.
        job: digest of the job.
        plan: digest of the plan that the party derived.
        policy: digest of the policy that asks.
    """

    party: str
    job: str
    plan: str
    policy: str


@dataclass(frozen=True)
class Approval:
    """What a person signed; public among the people of the institution, its digest stands in the audit log.

    Attributes:
        question: what she was asked.
        person: her id.
        answer: yes or no.
        comment: her reason; a denial's is told to the querier.
        time: when, UTC, whole seconds.
    """

    question: Question
    person: str
    answer: Answer
    comment: str
    time: datetime

    def to_document(self) -> dict[str, object]:
        """Returns the approval as a document."""
        return {
            "format": FORMAT,
            **vars(self.question),
            "person": self.person,
            "answer": self.answer.value,
            "comment": self.comment,
            "time": self.time.strftime(TIME_FORMAT),
        }


@dataclass(frozen=True)
class Tally:
    """How the answers to a question stand.

    Attributes:
        approved: ids of the different people whose yes counts, in the order of the decision's approvers.
        denied: ids of those whose no counts.
        needed: how many must approve.
        counted: digests of the signed documents whose yes counts, in the order of `approved`; one for each person.
        comment: of the first denial; empty without one.
        ignored: what does not count, in words: who signed what, and why it counts nothing.
    """

    approved: tuple[str, ...]
    denied: tuple[str, ...]
    needed: int
    counted: tuple[str, ...] = ()
    comment: str = ""
    ignored: tuple[str, ...] = ()

    @property
    def is_denied(self) -> bool:
        """Whether somebody said no; one is enough."""
        return bool(self.denied)

    @property
    def is_approved(self) -> bool:
        """Whether enough different people said yes, and nobody no."""
        return not self.denied and len(self.approved) >= self.needed

    @property
    def missing(self) -> int:
        """How many approvals are still missing."""
        return max(0, self.needed - len(self.approved))


def sign_approval(approval: Approval, key: SigningKey) -> SignedDocument:
    """Signs an approval with the person's own key."""
    return sign(approval.to_document(), kind=DocumentKind.APPROVAL, signer=approval.person, key=key)


def read_approval(signed: SignedDocument) -> Approval:
    """Reads an approval strictly; does not verify it.

    Raises:
        ConfideError: INVALID_DOCUMENT (its author's fault), with every problem.
    """
    problems: list[Problem] = []
    fields = fields_of(signed.document, names=_NAMES, form=FORMAT, problems=problems)
    found = Approval(
        question=Question(fields.text("party"), fields.text("job"), fields.text("plan"), fields.text("policy")),
        person=fields.text("person"),
        answer=fields.choice("answer", Answer, otherwise=Answer.DENY),
        comment=fields.text("comment", most=MAX_COMMENT),
        time=fields.time("time"),
    )
    finish(problems, what="the approval")
    return found


def tally(decision: Decision, answers: Iterable[SignedDocument], *, question: Question, people: People) -> Tally:
    """Counts the answers to a question.

    Args:
        decision: what the policy says about the job; its approvers are those whose answers count.
        answers: what people signed, the oldest first; nothing about them is believed.
        question: what they must have signed.
        people: whom the party's policy lists, with their keys.
    """
    approved: dict[str, str] = {}
    denied: set[str] = set()
    comments, ignored = [], []
    for signed in answers:
        try:
            said = _counted(decision, signed, question, people)
        except ConfideError as error:
            ignored.append(f"{signed.signer}: {error.what}")
            continue
        if isinstance(said, str):
            ignored.append(f"{signed.signer}: {said}")
        elif said.answer is Answer.APPROVE:
            approved.setdefault(said.person, sha256_hex(signed.to_bytes()))
        else:
            denied.add(said.person)
            comments.append(said.comment)
    order = decision.approvers
    return Tally(
        approved=tuple(person for person in order if person in approved),
        denied=tuple(person for person in order if person in denied),
        needed=decision.needed,
        counted=tuple(approved[person] for person in order if person in approved),
        comment=comments[0] if comments else "",
        ignored=tuple(ignored),
    )


def _counted(decision: Decision, signed: SignedDocument, question: Question, people: People) -> Approval | str:
    """Returns an answer that counts, or why it does not.

    Raises:
        ConfideError: BAD_SIGNATURE, INVALID_DOCUMENT or NOT_AUTHORISED: likewise.
    """
    person = people.get(signed.signer)
    verify(signed, kind=DocumentKind.APPROVAL, signer=person.id, key=person.key)
    said = read_approval(signed)
    if said.person != person.id:
        return f"signed in the name of {said.person}"
    differing = [name for name, value in vars(question).items() if getattr(said.question, name) != value]
    if differing:
        return f"signed for another {' and '.join(differing)}"
    if decision.kind is not Kind.APPROVAL or person.id not in decision.approvers:
        return "is not among those who may approve this job"
    return said
