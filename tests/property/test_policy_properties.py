"""Properties of policies over random rules and jobs: one decision, the first match, nobody approves their own."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from governance.policy.conditions import CONDITIONS, Condition, How, JobFacts
from governance.policy.rules import Kind, Rule, Verdict, decide, unreachable
from tests.support.people import a_policy, an_officer, approval_by

WORDS = st.sampled_from(["a", "b", "a/x", "a/y", "b/x", "a/*", "m", "m@1", "m@2"])
COUNTS = st.integers(0, 3)
PEOPLE = tuple(an_officer(name, member=member) for name, member in (("nora", None), ("emil", "a"), ("ida", "b")))


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from(sorted(CONDITIONS)))
    if CONDITIONS[name][1] in (How.AT_LEAST, How.AT_MOST):
        return Condition(name, bound=draw(COUNTS))
    return Condition(name, among=tuple(draw(st.lists(WORDS, min_size=1, max_size=3, unique=True))))


def facts() -> st.SearchStrategy[JobFacts]:
    several = st.lists(WORDS.filter(lambda word: "*" not in word), max_size=3, unique=True).map(tuple)
    one = st.one_of(st.just(""), WORDS.filter(lambda word: "*" not in word))
    fields = {"rows": COUNTS, "query_rows": COUNTS, "epochs": COUNTS, "rounds": COUNTS, "payload_mib": COUNTS}
    fields |= dict.fromkeys(("institution", "purpose", "agreement", "model", "model_name", "dealer"), one)  # type: ignore[arg-type]
    fields |= dict.fromkeys(("datasets", "outputs", "computing_parties"), several)  # type: ignore[arg-type]
    return st.builds(JobFacts, job_type=WORDS, querier=st.sampled_from(["a", "b", "c"]), **fields)


VERDICTS = st.sampled_from([Verdict(Kind.AUTOMATIC), Verdict(Kind.REFUSED), approval_by(1), approval_by(2)])


@st.composite
def rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    many = draw(st.lists(st.tuples(st.lists(conditions(), max_size=3), VERDICTS), max_size=5))
    return tuple(Rule(f"r{number}", tuple(held), verdict) for number, (held, verdict) in enumerate(many))


@given(rules(), facts())
def test_decide_is_by_the_first_rule_whose_conditions_all_hold(given_rules: tuple[Rule, ...], job: JobFacts) -> None:
    found = decide(a_policy(*given_rules, people=PEOPLE), job, querier_key=None)
    matching = [rule.name for rule in given_rules if all(c.holds(job) for c in rule.conditions)]
    assert found.rule == (matching[0] if matching else "otherwise")
    before = [rule.name for rule in given_rules[: len(found.passed_over)]]
    assert [name for name, _ in found.passed_over] == before
    assert all(why for _, why in found.passed_over)


@given(rules(), facts())
def test_decide_never_leaves_the_author_among_the_approvers(given_rules: tuple[Rule, ...], job: JobFacts) -> None:
    policy = a_policy(*given_rules, people=PEOPLE)
    found = decide(policy, job, querier_key=PEOPLE[0].key.public)
    authors = {"nora"} | {person.person.id for person in PEOPLE if person.person.member == job.querier}
    assert not authors & set(found.approvers)
    assert found.kind is not Kind.APPROVAL or 1 <= found.needed <= len(found.approvers)


@given(rules(), facts())
def test_unreachable_rules_never_decide(given_rules: tuple[Rule, ...], job: JobFacts) -> None:
    never = {name for name, _ in unreachable(given_rules)}
    assert decide(a_policy(*given_rules, people=PEOPLE), job, querier_key=None).rule not in never


@given(conditions(), conditions(), facts())
def test_condition_that_implies_another_never_holds_without_it(one: Condition, other: Condition, job: JobFacts) -> None:
    if one.implies(other) and one.holds(job):
        assert other.holds(job)


@given(rules(), facts(), st.integers(0, 4))
def test_taking_a_rule_away_that_did_not_match_changes_no_decision(given_rules: tuple[Rule, ...], job: JobFacts, at: int) -> None:
    if at >= len(given_rules) or given_rules[at].matches(job):
        return
    left = given_rules[:at] + given_rules[at + 1 :]
    one = decide(a_policy(*given_rules, people=PEOPLE), job, querier_key=None)
    other = decide(a_policy(*left, people=PEOPLE), job, querier_key=None)
    assert replace(one, passed_over=()) == replace(other, passed_over=())
