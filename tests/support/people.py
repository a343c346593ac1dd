"""People of an institution for tests: their keys, and policies that list them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from governance.documents import SignedDocument
from governance.identity.keys import SigningKey, generate_signing_key
from governance.people.person import Person
from governance.people.roles import PersonRole
from governance.policy.approval import Answer, Approval, Question, sign_approval
from governance.policy.budgets import Budgets
from governance.policy.conditions import Condition
from governance.policy.rules import OTHERWISE, Kind, Policy, Rule, Verdict

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
AUTOMATIC, REFUSED = Verdict(Kind.AUTOMATIC), Verdict(Kind.REFUSED)


@dataclass(frozen=True)
class Signer:
    """A person with her secret key."""

    person: Person
    key: SigningKey

    def answers(
        self, question: Question, answer: Answer = Answer.APPROVE, *, comment: str = "", minute: int = 0
    ) -> SignedDocument:
        time = NOW.replace(minute=minute)
        return sign_approval(Approval(question, self.person.id, answer, comment, time), self.key)


def a_person(person: str, *roles: PersonRole, member: str | None = None, key: SigningKey | None = None) -> Signer:
    key = key or generate_signing_key()
    return Signer(Person(person, frozenset(roles), key.public, member), key)


def an_officer(person: str = "nora", *, member: str | None = None, key: SigningKey | None = None) -> Signer:
    return a_person(person, PersonRole.PRIVACY_OFFICER, member=member, key=key)


def approval_by(needed: int, *of: str) -> Verdict:
    return Verdict(Kind.APPROVAL, needed, of or ("privacy-officers",))


def a_rule(name: str, verdict: Verdict = AUTOMATIC, *conditions: Condition, reason: str = "") -> Rule:
    return Rule(name, conditions, verdict, reason)


def a_policy(
    *rules: Rule, people: tuple[Signer, ...] = (), otherwise: Verdict = REFUSED, budgets: Budgets | None = None
) -> Policy:
    listed = tuple(signer.person for signer in people)
    return Policy(listed, rules, Rule(OTHERWISE, (), otherwise), budgets or Budgets(), permits_plain_training=True)
