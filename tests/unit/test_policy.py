"""What a policy decides: the first rule that matches, the approvers that are left, and what can never decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from governance.people.roles import PersonRole
from governance.policy.budgets import Budgets, Caps, read_decimal
from governance.policy.conditions import CONDITIONS, UNBOUNDED, Condition, How, JobFacts
from governance.policy.facts import facts_of
from governance.policy.rules import NOT_NAMED, Decision, Kind, Rule, check_policy, decide, unreachable
from governance.policy.rules import Policy as PolicyRules
from tests.support.jobs import a_training, an_evaluation, an_inference
from tests.support.members import a_world
from tests.support.people import AUTOMATIC, REFUSED, a_person, a_policy, a_rule, an_officer, approval_by

FACTS = JobFacts(
    job_type="evaluate",
    querier="alice",
    institution="hospital-a",
    purpose="prognosis",
    agreement="cardio-2026",
    model="diagnosis@0123456789ab",
    dealer="hospital-c",
    datasets=("hospital-a/patients", "hospital-b/patients"),
    outputs=("correct_count", "confusion"),
    computing_parties=("hospital-a", "hospital-b"),
    rows=200,
    rounds=12,
    payload_mib=3,
)


def among(name: str, *values: str) -> Condition:
    return Condition(name, among=values)


def bound(name: str, value: int) -> Condition:
    return Condition(name, bound=value)


def decided(policy: PolicyRules, facts: JobFacts = FACTS) -> Decision:
    return decide(policy, facts, querier_key=None)


HOLDING = [
    among("job_types", "train", "evaluate"),
    among("queriers", "alice"),
    among("institutions", "hospital-a"),
    among("purposes", "prognosis"),
    among("agreements", "cardio-2026"),
    among("models", "diagnosis"),
    among("models", "diagnosis@0123456789ab"),
    among("dealers", "hospital-c"),
    among("only_datasets", "hospital-a/*", "hospital-b/patients"),
    among("any_dataset", "hospital-b/*"),
    among("only_outputs", "correct_count", "confusion", "roc_auc"),
    among("any_output", "confusion"),
    among("only_computing_parties", "hospital-a", "hospital-b"),
    among("any_computing_party", "hospital-b"),
    bound("min_rows", 200),
    bound("max_rows", 200),
    bound("max_query_rows", 0),
    bound("min_rounds", 12),
    bound("max_payload_mib", 3),
]
FAILING = [
    among("job_types", "train"),
    among("queriers", "bob"),
    among("institutions", "hospital-b"),
    among("purposes", "marketing"),
    among("agreements", "cardio-2025"),
    among("models", "diagnosi"),
    among("models", "diagnosis@ba9876543210"),
    among("model_names", "diagnosis"),
    among("dealers", "hospital-a"),
    among("only_datasets", "hospital-a/*"),
    among("any_dataset", "hospital-c/*", "hospital-b/other"),
    among("only_outputs", "correct_count"),
    among("any_output", "roc_auc"),
    among("only_computing_parties", "hospital-a"),
    among("any_computing_party", "hospital-c"),
    bound("min_rows", 201),
    bound("max_rows", 199),
    bound("min_epochs", 1),
    bound("max_rounds", 11),
    bound("min_payload_mib", 4),
]


@pytest.mark.parametrize("condition", HOLDING, ids=lambda c: f"{c.name}-{c.among or c.bound}")
def test_condition_that_the_job_satisfies_holds(condition: Condition) -> None:
    assert condition.holds(FACTS)


@pytest.mark.parametrize("condition", FAILING, ids=lambda c: f"{c.name}-{c.among or c.bound}")
def test_condition_that_the_job_breaks_fails_and_says_by_what(condition: Condition) -> None:
    assert not condition.holds(FACTS)
    assert condition.why_not(FACTS).startswith(f"{condition.name}: ")


def test_conditions_each_is_tried_in_these_tests() -> None:
    of_trainings = {"guarantees", "min_milli_epsilon", "max_milli_epsilon", "min_colluders", "max_colluders"}
    assert {c.name for c in (*HOLDING, *FAILING)} >= set(CONDITIONS) - {"min_query_rows", "max_epochs"} - of_trainings


def a_trained_guarantee(**changes: Any) -> JobFacts:
    given = {"guarantee": "zero-out", "milli_epsilon": 1_500, "colluders": 1}
    return JobFacts(**{"job_type": "train", "querier": "alice"} | given | changes)


PLAIN = JobFacts("train", "alice", guarantee="none", milli_epsilon=UNBOUNDED)


@pytest.mark.parametrize(
    ("condition", "private", "plain"),
    [
        (among("guarantees", "zero-out"), True, False),
        (among("guarantees", "none"), False, True),
        (bound("max_milli_epsilon", 1_500), True, False),
        (bound("max_milli_epsilon", 1_499), False, False),
        (bound("max_milli_epsilon", 1_000_000_000), True, False),
        (bound("min_milli_epsilon", 1_501), False, True),
        (bound("min_colluders", 1), True, False),
        (bound("max_colluders", 0), False, True),
    ],
    ids=lambda value: value.name if isinstance(value, Condition) else str(value),
)
def test_condition_on_a_guarantee_never_takes_a_plain_training_for_a_private_one(
    condition: Condition, private: bool, plain: bool
) -> None:
    assert (condition.holds(a_trained_guarantee()), condition.holds(PLAIN)) == (private, plain)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (a_rule("all"), Kind.REFUSED),
        (a_rule("trainings", AUTOMATIC, among("job_types", "train")), Kind.REFUSED),
        (a_rule("private", AUTOMATIC, among("guarantees", "zero-out")), Kind.REFUSED),
        (a_rule("named", AUTOMATIC, among("guarantees", "none")), Kind.AUTOMATIC),
        (a_rule("both", AUTOMATIC, among("job_types", "train"), among("guarantees", "zero-out", "none")), Kind.AUTOMATIC),
    ],
    ids=lambda value: value.name,
)
def test_plain_training_runs_only_where_a_rule_names_it(rule: Rule, kind: Kind) -> None:
    policy = replace(a_policy(rule, otherwise=AUTOMATIC), permits_plain_training=False)
    decision = decided(policy, PLAIN)
    expected = NOT_NAMED if kind is Kind.REFUSED else ""
    assert (decision.kind, decision.reason) == (kind, expected)
    assert decided(policy, a_trained_guarantee()).kind is Kind.AUTOMATIC
    assert decided(policy).kind is Kind.AUTOMATIC  # an evaluation is no training
    assert decided(replace(policy, permits_plain_training=True), PLAIN).kind is Kind.AUTOMATIC


def test_guarantee_that_no_job_has_is_refused_in_a_rule() -> None:
    policy = a_policy(a_rule("strange", AUTOMATIC, among("guarantees", "add-remove")))
    assert [problem.where for problem in check_policy(policy)] == ["rules.0.match.guarantees.0"]


@pytest.mark.parametrize("name", [name for name, (_, how) in CONDITIONS.items() if how in (How.ONE_OF, How.ONLY, How.ANY)])
def test_condition_on_a_list_fails_for_a_job_that_has_nothing_of_the_kind(name: str) -> None:
    assert not among(name, "x", "x/*").holds(JobFacts("", ""))


def test_decide_two_rules_match_the_first_decides_and_earlier_reasons_are_told() -> None:
    policy = a_policy(
        a_rule("trainings", REFUSED, among("job_types", "train"), bound("max_rows", 100)),
        a_rule("small", AUTOMATIC, bound("max_rows", 500)),
        a_rule("all", REFUSED),
    )
    found = decided(policy)
    assert (found.kind, found.rule) == (Kind.AUTOMATIC, "small")
    assert found.passed_over == (
        ("trainings", ("job_types: evaluate; the rule asks for one of train", "max_rows: 200; the rule asks for at most 100")),
    )


def test_decide_no_rule_matches_otherwise_decides() -> None:
    found = decided(a_policy(a_rule("trainings", AUTOMATIC, among("job_types", "train"))))
    assert (found.kind, found.rule) == (Kind.REFUSED, "otherwise")


def test_decide_approval_names_the_group_without_operators_and_the_querier() -> None:
    key = an_officer().key
    people = (
        an_officer("nora"),
        an_officer("emil", member="alice"),
        an_officer("ida", key=key),
        a_person("olaf", PersonRole.OPERATOR, PersonRole.DATA_STEWARD),
        a_person("sven", PersonRole.DATA_STEWARD),
    )
    policy = a_policy(a_rule("ask", approval_by(2, "privacy-officers", "data-stewards")), people=people)
    found = decide(policy, FACTS, querier_key=key.public)
    assert (found.kind, found.needed, found.approvers) == (Kind.APPROVAL, 2, ("nora", "sven"))


def test_decide_too_few_approvers_left_after_the_author_refuses() -> None:
    people = (an_officer("nora", member="alice"), an_officer("emil"))
    policy = a_policy(a_rule("ask", approval_by(2)), people=people)
    assert list(check_policy(policy)) == []
    found = decided(policy)
    assert (found.kind, found.rule) == (Kind.REFUSED, "ask")
    assert "nobody approves an own request" in found.reason


@pytest.mark.parametrize(
    ("verdict", "where"),
    [
        (approval_by(3), "rules.0.decision.approve.needed"),
        (approval_by(0), "rules.0.decision.approve.needed"),
        (approval_by(1, "nobody"), "rules.0.decision.approve.of"),
        (approval_by(1, "olaf"), "rules.0.decision.approve.of"),
        (approval_by(1, "anna"), "rules.0.decision.approve.of"),
    ],
    ids=["more than there are", "none", "unknown person", "an operator", "an auditor"],
)
def test_check_quorum_that_can_never_be_met_is_a_problem(verdict: object, where: str) -> None:
    people = (
        an_officer("nora"),
        an_officer("emil"),
        a_person("olaf", PersonRole.OPERATOR, PersonRole.DATA_STEWARD),
        a_person("anna", PersonRole.AUDITOR),
    )
    policy = a_policy(a_rule("ask", verdict), people=people)  # type: ignore[arg-type]
    assert where in [problem.where for problem in check_policy(policy)]


def test_check_same_name_twice_or_otherwise_is_a_problem() -> None:
    policy = a_policy(a_rule("one"), a_rule("one"), a_rule("otherwise"))
    assert [problem.where for problem in check_policy(policy)] == ["rules.1.name", "rules.2.name"]


def test_check_person_with_the_name_of_a_group_is_a_problem() -> None:
    policy = a_policy(people=(an_officer("privacy-officers"),))
    assert [problem.where for problem in check_policy(policy)] == ["people.0.id"]


@pytest.mark.parametrize(
    ("broad", "narrow", "never"),
    [
        ((), (bound("max_rows", 5),), True),
        ((bound("max_rows", 10),), (bound("max_rows", 5), among("queriers", "alice")), True),
        ((bound("max_rows", 10),), (bound("max_rows", 20),), False),
        ((among("only_datasets", "a/*"),), (among("only_datasets", "a/x", "a/y"),), True),
        ((among("only_datasets", "a/x"),), (among("only_datasets", "a/*"),), False),
        ((among("any_dataset", "a/*"),), (among("only_datasets", "a/x"),), False),
        ((among("models", "m"),), (among("models", "m@1", "m"),), True),
        ((among("queriers", "alice"),), (among("institutions", "h"),), False),
    ],
)
def test_unreachable_rule_after_a_broader_one_is_found(
    broad: tuple[Condition, ...], narrow: tuple[Condition, ...], never: bool
) -> None:
    rules = (a_rule("broad", AUTOMATIC, *broad), a_rule("narrow", REFUSED, *narrow))
    assert [name for name, _ in unreachable(rules)] == (["narrow"] if never else [])


def test_unreachable_rule_that_contradicts_itself_is_found() -> None:
    rules = (a_rule("odd", AUTOMATIC, bound("min_rows", 10), bound("max_rows", 9)),)
    assert list(unreachable(rules)) == [("odd", "min_rows 10 is above max_rows 9")]


def test_digest_order_of_people_does_not_matter_and_everything_else_does() -> None:
    nora, emil = an_officer("nora"), an_officer("emil")
    rule = a_rule("one", AUTOMATIC, bound("max_rows", 5))
    policy = a_policy(rule, people=(nora, emil))
    assert a_policy(rule, people=(emil, nora)).digest == policy.digest
    others = [
        a_policy(rule, people=(nora,)),
        a_policy(replace(rule, reason="why"), people=(nora, emil)),
        a_policy(a_rule("one", AUTOMATIC, bound("max_rows", 6)), people=(nora, emil)),
        a_policy(rule, people=(nora, emil), otherwise=AUTOMATIC),
        a_policy(rule, people=(nora, emil), budgets=Budgets(Caps(queries=1))),
    ]
    assert policy.digest not in {other.digest for other in others}


def test_facts_of_a_training_an_evaluation_and_an_inference() -> None:
    directory = a_world().directory
    training = facts_of(a_training(), None, directory=directory, agreement="cardio")
    assert (training.job_type, training.institution, training.model, training.model_name) == (
        "train",
        "hospital-a",
        "",
        "diagnosis",
    )
    assert (training.epochs, training.rows, training.agreement) == (2, 300, "cardio")
    evaluation = facts_of(an_evaluation(), None, directory=directory, agreement="")
    assert (evaluation.model, evaluation.outputs) == ("diagnosis@0123456789ab", ("correct_count",))
    inference = facts_of(an_inference(querier="mallory"), None, directory=directory, agreement="")
    assert (inference.query_rows, inference.datasets, inference.institution) == (5, (), "")


def test_budgets_name_comes_before_default_and_a_model_s_version_before_its_name() -> None:
    budgets = Budgets(Caps(queries=1), {"hearts": Caps(queries=2)}, {"m@ab": Caps(queries=4)})
    assert [budgets.of_dataset(name).queries for name in ("hearts", "lungs")] == [2, 1]
    assert (budgets.of_model("m", "ab").queries, budgets.of_model("m", "cd").queries) == (4, 1_000)
    assert replace(budgets, default_model=Caps(queries=7)).of_model("m", "cd").queries == 7


@pytest.mark.parametrize("text", ["", "-1", "1e3", "NaN", "Infinity", "0.0000000000001", "1" * 21, "1.2.3", "0,5"])
def test_read_decimal_anything_but_a_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="decimal"):
        read_decimal(text)
