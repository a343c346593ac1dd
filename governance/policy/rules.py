"""A party's policy: its people, rules in order of which the first that matches decides, and budgets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from governance.identity.keys import VerifyingKey
from governance.people.person import People, Person, check_people
from governance.people.roles import Action, PersonRole, is_permitted
from governance.policy.budgets import Budgets, check_budgets
from governance.policy.conditions import WITHOUT_GUARANTEE, Condition, JobFacts, impossible_values, never_holds
from governance.policy.release import ReleaseTerms, check_release_terms
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import Problem

FORMAT = "confide.policy/1"
OTHERWISE = "otherwise"
NOT_NAMED = "a training without differential privacy gives no formal guarantee, and no rule names such trainings"
MAX_RULES = 100
MAX_PEOPLE = 200
# How a rule names everybody with a role.
GROUPS: Mapping[str, PersonRole] = {
    "privacy-officers": PersonRole.PRIVACY_OFFICER,
    "data-stewards": PersonRole.DATA_STEWARD,
}


class Kind(Enum):
    """What a policy decides about a job."""

    AUTOMATIC = "automatic"
    APPROVAL = "approval"
    REFUSED = "refused"


@dataclass(frozen=True)
class Verdict:
    """What a rule decides; `needed` of the people named by `of` must approve if it is APPROVAL."""

    kind: Kind
    needed: int = 0
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: unique in the policy; stands in decisions and in the audit log.
        conditions: all must hold; none means that it matches every job.
        verdict: what it decides.
        reason: for the querier; may be empty.
    """

    name: str
    conditions: tuple[Condition, ...]
    verdict: Verdict
    reason: str = ""

    @property
    def names_plain_training(self) -> bool:
        """Whether the rule names trainings without differential privacy."""
        return any(c.name == "guarantees" and WITHOUT_GUARANTEE in c.among for c in self.conditions)

    def matches(self, facts: JobFacts) -> bool:
        """Returns whether every condition holds."""
        return all(condition.holds(facts) for condition in self.conditions)

    def to_document(self) -> dict[str, object]:
        """Returns the rule as a document."""
        return {
            "name": self.name,
            "match": {c.name: list(c.among) if c.among else c.bound for c in self.conditions},
            "decision": self.verdict.kind.value,
            "needed": self.verdict.needed,
            "of": list(self.verdict.of),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Decision:
    """What the policy says about one job.

    Attributes:
        kind: whether it runs by itself, waits for people, or is refused.
        rule: the name of the rule that decided.
        needed: how many of the approvers must approve; 0 unless the kind is APPROVAL.
        approvers: ids of the people who may approve this job: never its author, never an operator.
        reason: in words, for the querier.
        passed_over: why each earlier rule did not match, in order: the rule's name and the conditions that failed, in words.
    """

    kind: Kind
    rule: str
    needed: int = 0
    approvers: tuple[str, ...] = ()
    reason: str = ""
    passed_over: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Policy:
    """See the module.

    Attributes:
        people: of the institution, in order.
        rules: in order.
        otherwise: what holds if no rule matches; it has no conditions.
        budgets: what may be spent.
        release: what is asked of a model version before it is released; None: none is.
        permits_plain_training: whether rules decide about trainings without differential privacy as about all others. If not,
            only a rule that names them, by `guarantees`, lets one run.
    """

    people: tuple[Person, ...]
    rules: tuple[Rule, ...]
    otherwise: Rule
    budgets: Budgets = field(default_factory=Budgets)
    release: ReleaseTerms | None = None
    permits_plain_training: bool = False

    @property
    def persons(self) -> People:
        """The people, by id."""
        return People(self.people)

    @property
    def digest(self) -> str:
        """SHA-256 of what the policy says; comments and the order of people do not matter."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def to_document(self) -> dict[str, object]:
        """Returns the policy as a document."""
        people = sorted(self.people, key=lambda person: person.id)
        return {
            "format": FORMAT,
            "people": [
                {
                    "id": person.id,
                    "roles": sorted(role.value for role in person.roles),
                    "key": person.key.hex,
                    "member": person.member,
                }
                for person in people
            ],
            "rules": [rule.to_document() for rule in self.rules],
            "otherwise": self.otherwise.to_document(),
            "budgets": self.budgets.to_document(),
            "release": None if self.release is None else self.release.to_document(),
            "training_without_guarantee": "as_rules_say" if self.permits_plain_training else "where_named",
        }

    def approvers(self, verdict: Verdict) -> tuple[Person, ...]:
        """Returns who is named by a verdict and may approve at all, in the order of the people."""
        roles = {GROUPS[name] for name in verdict.of if name in GROUPS}
        named = [person for person in self.people if person.id in verdict.of or person.roles & roles]
        return tuple(person for person in named if is_permitted(Action.APPROVE_JOB, person.roles))


def decide(policy: Policy, facts: JobFacts, *, querier_key: VerifyingKey | None) -> Decision:
    """Decides about a job: the first rule that matches, else `otherwise`.

    Args:
        policy: the party's.
        facts: of the job and its plan.
        querier_key: the querier's key in the directory; whoever signs with it never approves the job. None if unknown.

    Returns:
        The decision. If too few of the named people may approve this querier's job it is REFUSED: nobody is passed over.
    """
    passed_over = []
    for rule in policy.rules:
        if rule.matches(facts):
            break
        passed_over.append((rule.name, tuple(c.why_not(facts) for c in rule.conditions if not c.holds(facts))))
    else:
        rule = policy.otherwise
    verdict, before = rule.verdict, tuple(passed_over)
    is_plain = facts.guarantee == WITHOUT_GUARANTEE and not policy.permits_plain_training
    if is_plain and verdict.kind is not Kind.REFUSED and not rule.names_plain_training:
        return Decision(Kind.REFUSED, rule.name, reason=NOT_NAMED, passed_over=before)
    if verdict.kind is not Kind.APPROVAL:
        return Decision(verdict.kind, rule.name, reason=rule.reason, passed_over=before)
    able = [p.id for p in policy.approvers(verdict) if not p.is_author(facts.querier, querier_key)]
    if len(able) < verdict.needed:
        reason = f"{verdict.needed} must approve, and only {len(able)} of the approvers named may: nobody approves an own request"
        return Decision(Kind.REFUSED, rule.name, reason=reason, passed_over=before)
    return Decision(Kind.APPROVAL, rule.name, verdict.needed, tuple(able), rule.reason, before)


def check_policy(policy: Policy) -> Iterable[Problem]:
    """Yields what is wrong with a policy; `where` is the field, entries counted from 0."""
    yield from check_people(policy.people)
    for person in policy.people:
        if person.id in GROUPS:
            yield Problem(f"people.{policy.people.index(person)}.id", f"{person.id} stands for a role", "choose another id")
    names: set[str] = {OTHERWISE}
    for number, rule in enumerate(policy.rules):
        if rule.name in names:
            yield Problem(f"rules.{number}.name", f"{rule.name} is the name of another rule", "choose another")
        names.add(rule.name)
        for condition in rule.conditions:
            for place, what in impossible_values(condition):
                yield Problem(f"rules.{number}.match.{condition.name}.{place}", what, "correct it")
        yield from _check_verdict(policy, rule.verdict, f"rules.{number}.decision")
    yield from _check_verdict(policy, policy.otherwise.verdict, "otherwise.decision")
    yield from check_budgets(policy.budgets)
    if policy.release is not None:
        yield from check_release_terms(policy.release)
        for name, asked in policy.release.classes.items():
            quorums = {
                "approvals": asked.approvals,
                "more_approvals": asked.more_approvals,
                "unassessed_own": asked.unassessed_own,
            }
            for kind, quorum in quorums.items():
                if quorum is not None:
                    yield from _check_quorum(policy, quorum.needed, quorum.of, f"release.classes.{name}.{kind}")


def _check_verdict(policy: Policy, verdict: Verdict, where: str) -> Iterable[Problem]:
    if verdict.kind is Kind.APPROVAL:
        yield from _check_quorum(policy, verdict.needed, verdict.of, f"{where}.approve")


def _check_quorum(policy: Policy, needed: int, of: Sequence[str], where: str) -> Iterable[Problem]:
    ids = {person.id for person in policy.people}
    able = policy.approvers(Verdict(Kind.APPROVAL, needed, tuple(of)))
    for name in of:
        if name not in GROUPS and name not in ids:
            yield Problem(f"{where}.of", f"{name} is nobody of the people", f"name a person, or {' or '.join(GROUPS)}")
        elif name in ids and name not in {person.id for person in able}:
            roles = " or ".join(sorted(role.value for role in GROUPS.values()))
            what = f"{name} may not approve: an approver is {roles} and no operator"
            yield Problem(f"{where}.of", what, "name somebody else")
    if needed < 1 or needed > len(able):
        what = f"{needed} must approve, and {len(able)} of the people named may"
        yield Problem(f"{where}.needed", what, "name more people, or ask for fewer approvals")


def unreachable(rules: Sequence[Rule]) -> Iterable[tuple[str, str]]:
    """Yields the rules that can never decide, by name, each with the reason in words; for `policy test`."""
    for number, rule in enumerate(rules):
        if why := never_holds(rule.conditions):
            yield rule.name, why
            continue
        for earlier in rules[:number]:
            if all(any(own.implies(broad) for own in rule.conditions) for broad in earlier.conditions):
                yield rule.name, f"every job that it matches is decided by {earlier.name} before"
                break
