"""`policy.yaml`: read strictly with file, line and field; written; its schema; cases that test a policy; reloading."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from governance.people.roles import PersonRole
from governance.policy.conditions import CONDITIONS, Condition
from governance.policy.rules import Kind, Verdict
from parties.approving import policy_decision
from parties.cli.main import app
from parties.config import PartyConfig
from parties.policy_cases import read_described_job, run_cases
from parties.policy_file import MatchFields, load_policy, policy_schema, write_policy
from parties.server.policy import CurrentPolicy, note_policy
from parties.storage.database import open_database
from protocols.errors import ConfideError, ErrorCode
from tests.support.people import NOW, a_person, an_officer

KEYS = ("a1" * 32, "b2" * 32, "c3" * 32)
PEOPLE = f"""
people:
  - {{id: nora, roles: [privacy-officer], key: "{KEYS[0]}"}}
  - {{id: emil, roles: [privacy-officer, data-steward], key: "{KEYS[1]}", member: alice}}
  - {{id: olaf, roles: [operator], key: "{KEYS[2]}"}}
"""
WHOLE = f"""api_version: confide.policy/1
{PEOPLE}
rules:
  - name: small-evaluations
    match: {{job_types: [evaluate], only_datasets: [hospital-a/*], max_rows: 1000}}
    decision: automatic
  - name: trainings
    match: {{job_types: [train], guarantees: [none, zero-out]}}
    decision: {{approve: {{needed: 1, of: [privacy-officers]}}}}
    reason: a training leaves a model behind
otherwise: {{decision: refuse, reason: nobody has thought of this}}
budgets:
  default: {{queries: 10}}
  datasets:
    hearts: {{queries: 5, epsilon: "1.50", delta: "0.000001", permits: [assess]}}
  models:
    diagnosis: {{answers: 7}}
"""

RELEASE = """
release:
  default_class: special
  datasets: {hospital-a/pictures: open}
  classes:
    special:
      requires_guarantee: true
      max_epsilon: "3"
      max_delta: "0.00001"
      unit: person
      max_figures: {membership.lira.auc: "0.6"}
      min_figures: {accuracy: "0.8"}
      min_canaries: 1000
      min_shadows: 128
      max_age_days: 30
      approvals: {needed: 2, of: [privacy-officers]}
    open:
      requires_guarantee: false
      max_figures: {membership.lira.auc: "0.9"}
      min_shadows: 8
      max_age_days: 90
      approvals: null
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def problems_of(folder: Path, text: str) -> dict[str, str]:
    path = written(folder, text)
    with pytest.raises(ConfideError) as caught:
        load_policy(path)
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    return {problem.where.removeprefix(f"{path}:"): problem.what for problem in caught.value.problems}


def test_load_whole_policy_reads_every_part(tmp_path: Path) -> None:
    policy = load_policy(written(tmp_path, WHOLE))
    assert [(p.id, p.member) for p in policy.people] == [("nora", None), ("emil", "alice"), ("olaf", None)]
    assert policy.people[1].roles == {PersonRole.PRIVACY_OFFICER, PersonRole.DATA_STEWARD}
    first, second = policy.rules
    assert first.conditions == (
        Condition("job_types", among=("evaluate",)),
        Condition("only_datasets", among=("hospital-a/*",)),
        Condition("max_rows", bound=1000),
    )
    assert (second.verdict, second.reason) == (
        Verdict(Kind.APPROVAL, 1, ("privacy-officers",)),
        "a training leaves a model behind",
    )
    assert policy.otherwise.verdict == Verdict(Kind.REFUSED)
    caps = policy.budgets.of_dataset("hearts")
    assert (caps.queries, caps.epsilon, caps.delta) == (5, Decimal("1.50"), Decimal("0.000001"))
    assert caps.permits == ("assess",)
    assert policy.budgets.of_model("diagnosis", "ab").answers == 7
    assert policy.budgets.of_dataset("lungs").queries == 10
    assert (policy.budgets.of_model("diagnosis", "ab").queries, policy.budgets.of_model("other", "ab").queries) == (1_000, 1_000)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("otherwise: {decision: refuse, reason: nobody has thought of this}", "", "1 otherwise"),
        ("confide.policy/1", "confide.policy/2", "1 api_version"),
        ("max_rows: 1000", "max_rows: yes", "10 rules.0.match.max_rows"),
        ("max_rows: 1000", "max_row: 1000", "10 rules.0.match.max_row"),
        ("decision: automatic", "decision: allow", "11 rules.0.decision"),
        ("needed: 1", "needed: 3", "14 rules.1.decision.approve.needed"),
        ("of: [privacy-officers]", "of: [olaf]", "14 rules.1.decision.approve.of"),
        ("needed: 1", "need: 1", "14 rules.1.decision.approve.need"),
        ("roles: [operator]", "roles: [operator, privacy-officer]", "6 people.2.roles"),
        (KEYS[1], KEYS[0], "5 people.1.key"),
        (KEYS[1], "B2" * 32, "5 people.1.key"),
        ("id: emil", "id: nora", "5 people.1.id"),
        ("id: emil", "id: Emil", "5 people.1.id"),
        ('"1.50"', '"1.5e0"', "20 budgets.datasets.hearts.epsilon"),
        ('epsilon: "1.50"', "epsilon: 1.5", "20 budgets.datasets.hearts.epsilon"),
        ('epsilon: "1.50", ', "", "20 budgets.datasets.hearts.delta"),
        ("permits: [assess]", "permits: [guess]", "20 budgets.datasets.hearts.permits"),
        ("queries: 10", "queries: 10, permits: [assess]", "18 budgets.default.permits"),
        ("queries: 10", "queries: -1", "18 budgets.default.queries"),
        ("name: trainings", "name: small-evaluations", "12 rules.1.name"),
        # Names that no job, data set or model has: what they were to stop or to bound would go on unnoticed.
        ("only_datasets: [hospital-a/*]", "any_dataset: [hearts]", "10 rules.0.match.any_dataset.0"),
        ("only_datasets: [hospital-a/*]", "any_output: [label, probabilty]", "10 rules.0.match.any_output.1"),
        ("only_datasets: [hospital-a/*]", "models: [diagnosis@live]", "10 rules.0.match.models.0"),
        ("only_datasets: [hospital-a/*]", "purposes: [Marketing]", "10 rules.0.match.purposes.0"),
        ("hearts: {", "hospital-a/hearts: {", "20 budgets.datasets.hospital-a/hearts"),
        ("diagnosis:", "diagnosis@1:", "22 budgets.models.diagnosis@1"),
    ],
)
def test_load_broken_policy_names_line_and_field(tmp_path: Path, old: str, new: str, where: str) -> None:
    assert old in WHOLE
    assert where in problems_of(tmp_path, WHOLE.replace(old, new))


def test_load_several_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = WHOLE.replace("needed: 1", "needed: 9").replace("roles: [operator]", "roles: [operator, privacy-officer]")
    assert len(problems_of(tmp_path, text)) == 2


def test_load_anchors_duplicate_keys_and_lists_are_refused(tmp_path: Path) -> None:
    for text in ("a: &x 1\nb: *x\n", WHOLE + "\nrules: []\n", "- a\n", "a: [\n"):
        problems_of(tmp_path, text)


def test_write_policy_is_read_back_with_people_and_decision(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    people = [an_officer("nora", member="alice").person, a_person("olaf", PersonRole.OPERATOR, PersonRole.AUDITOR).person]
    policy = write_policy(path, people=people, decision=Kind.AUTOMATIC, reason='a "quoted" reason: with colons')
    assert policy.people == tuple(people)
    assert (policy.otherwise.verdict.kind, policy.otherwise.reason) == (Kind.AUTOMATIC, 'a "quoted" reason: with colons')
    assert write_policy(path).otherwise.verdict.kind is Kind.REFUSED


def test_schema_names_every_condition() -> None:
    schema = policy_schema()
    match = schema["$defs"]["MatchFields"]["properties"]  # type: ignore[index]
    assert set(match) == set(CONDITIONS) == set(MatchFields.model_fields)
    assert schema["additionalProperties"] is False


CASES = """api_version: confide.policy-cases/1
cases:
  - name: a small evaluation runs
    job: {job_type: evaluate, querier: r-anna, datasets: [hospital-a/hearts], rows: 400}
    expect: automatic
    rule: small-evaluations
  - name: a training asks
    job: {job_type: train, querier: r-anna}
    expect: {approve: {needed: 1}}
  - name: an inference is refused
    job: {job_type: infer, querier: r-anna, query_rows: 3}
    expect: refuse
"""


def test_cases_expected_decisions_pass_and_others_fail(tmp_path: Path) -> None:
    policy = load_policy(written(tmp_path, WHOLE))
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES)
    assert [outcome.passed for outcome in run_cases(policy, cases)] == [True, True, True]
    cases.write_text(
        CASES.replace("rule: small-evaluations", "rule: trainings").replace("{approve: {needed: 1}}", "{approve: {needed: 2}}")
    )
    assert [outcome.passed for outcome in run_cases(policy, cases)] == [False, False, True]


def test_cases_unknown_field_is_named_with_its_line(tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES.replace("query_rows: 3", "query_row: 3"))
    with pytest.raises(ConfideError) as caught:
        run_cases(load_policy(written(tmp_path, WHOLE)), cases)
    assert [problem.where for problem in caught.value.problems] == [f"{cases}:11 cases.2.job.query_row"]


def confide(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def config(folder: Path) -> PartyConfig:
    (folder / "party.yaml").write_text("api_version: confide.party/1\nparty: hospital-a\nlisten: localhost:1\nstate: state\n")
    return PartyConfig(
        api_version="confide.party/1", party="hospital-a", listen="localhost:1", state=folder, policy=folder / "policy.yaml"
    )


def test_policy_decision_of_a_described_job_tells_why_earlier_rules_do_not_match(tmp_path: Path) -> None:
    written(tmp_path, WHOLE)
    described = tmp_path / "job.yaml"
    described.write_text("job: {job_type: train, querier: alice}\n")
    assert read_described_job(described).querier == "alice"
    decision = policy_decision(config(tmp_path), str(described))
    assert (decision.kind, decision.rule, decision.approvers) == (Kind.APPROVAL, "trainings", ("nora",))
    assert [name for name, _ in decision.passed_over] == ["small-evaluations"]


def test_commands_show_test_explain_and_schema_print_json(tmp_path: Path) -> None:
    config(tmp_path)
    never = "  - {name: never, match: {job_types: [train], guarantees: [none], max_rows: 9}, decision: automatic}\n"
    written(tmp_path, WHOLE.replace("otherwise:", f"{never}otherwise:"))
    (tmp_path / "cases.yaml").write_text(CASES)
    (tmp_path / "job.yaml").write_text("job: {job_type: infer, querier: alice}\n")
    party = ("--config", str(tmp_path / "party.yaml"), "--format", "json")
    shown = confide("policy", "show", *party)
    assert json.loads(shown.stdout)["data"]["digest"] == load_policy(tmp_path / "policy.yaml").digest
    tested = confide("policy", "test", str(tmp_path / "cases.yaml"), *party)
    assert (tested.exit_code, [case["passed"] for case in json.loads(tested.stdout)["data"]["cases"]]) == (0, [True, True, True])
    assert "rule never never decides" in tested.stderr
    explained = confide("policy", "explain", str(tmp_path / "job.yaml"), *party)
    assert json.loads(explained.stdout)["data"]["rule"] == "otherwise"
    assert json.loads(confide("policy", "schema", "--format", "json").stdout)["data"]["title"] == "PolicyFields"


def test_command_show_says_what_a_release_is_asked_for_and_that_none_is_made_without_terms(tmp_path: Path) -> None:
    config(tmp_path)
    written(tmp_path, WHOLE)
    party = ("--config", str(tmp_path / "party.yaml"))
    without = confide("policy", "show", *party).stdout
    assert "nothing is released: the policy has no block `release`" in without
    assert "1.50; beside it assess without noise" in without
    written(tmp_path, WHOLE + RELEASE)
    lines = confide("policy", "show", *party).stdout.splitlines()
    special = next(line for line in lines if line.startswith("special "))
    assert "needed, epsilon at most 3, delta at most 0.00001, zero-out, person at least" in special
    assert "membership.lira.auc at most 0.6, accuracy at least 0.8, 128 shadows at least" in special
    assert "audits by 1000 canaries of each owner, an evaluation" in special
    assert special.split("days")[1].split() == ["2", "of", "privacy-officers", "nobody"]
    opened = next(line for line in lines if line.startswith("open "))
    words = "open not needed membership.lira.auc at most 0.9, 8 shadows at least, an evaluation 90 days nobody nobody"
    assert " ".join(opened.split()) == words
    assert "class of data sets: hospital-a/pictures open, every other special" in lines


def test_command_test_with_a_failing_case_exits_with_2_and_names_it(tmp_path: Path) -> None:
    config(tmp_path)
    written(tmp_path, WHOLE)
    (tmp_path / "cases.yaml").write_text(CASES.replace("expect: refuse", "expect: automatic"))
    outcome = confide("policy", "test", str(tmp_path / "cases.yaml"), "--config", str(tmp_path / "party.yaml"))
    assert outcome.exit_code == 2
    assert "an inference is refused" in outcome.stderr


def test_command_person_init_prints_the_line_that_the_policy_takes(tmp_path: Path) -> None:
    made = confide(
        "person", "init", "--id", "nora", "--folder", str(tmp_path / "nora"), "--roles", "privacy-officer", "--member", "alice"
    )
    line = next(line for line in made.stdout.splitlines() if line.startswith("  - "))
    policy = load_policy(written(tmp_path, f"api_version: confide.policy/1\npeople:\n{line}\notherwise: {{decision: refuse}}\n"))
    shown = json.loads(confide("person", "show", "--folder", str(tmp_path / "nora"), "--format", "json").stdout)["data"]
    assert (shown["id"], shown["key"]) == ("nora", policy.people[0].key.hex)
    assert policy.people[0].member == "alice"


def test_current_policy_changed_file_is_taken_over_and_an_invalid_one_is_not(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    current = CurrentPolicy(path)
    before = current.get()
    replaced(path, WHOLE.replace("max_rows: 1000", "max_rows: 500"))
    after = current.get()
    assert after.digest != before.digest
    replaced(path, "not: a policy\n")
    assert current.get() == after
    path.unlink()
    assert current.get() == after
    replaced(path, WHOLE)
    assert current.get().digest == before.digest


def test_current_policy_missing_file_at_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfideError) as caught:
        CurrentPolicy(tmp_path / "policy.yaml")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_note_policy_each_change_is_one_entry(tmp_path: Path) -> None:
    one, other = load_policy(written(tmp_path, WHOLE)), write_policy(tmp_path / "other.yaml")
    database = open_database(tmp_path / "confide.db")
    with database.transaction() as tables:
        for policy in (one, one, other, one):
            note_policy(tables, policy, now=NOW)
        assert tables.audit.size() == 3
        latest = tables.policies.latest()
    database.close()
    assert latest is not None
    assert (latest.number, latest.digest) == (3, one.digest)


def replaced(path: Path, text: str) -> None:
    """Replaces a file as an editor does: another inode, so that a change within one tick of the clock is seen."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)
