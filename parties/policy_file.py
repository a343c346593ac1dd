"""`policy.yaml`: a party's people, rules and budgets, read strictly; errors name file, line and field.

api_version: confide.policy/1
people:
  - {id: nora-lind, roles: [privacy-officer], key: 64 hexadecimal digits}
rules:
  - name: small-evaluations
    match: {job_types: [evaluate], max_rows: 1000}
    decision: automatic
  - name: trainings
    match: {job_types: [train], guarantees: [none, zero-out]}
    decision: {approve: {needed: 1, of: [privacy-officers]}}
    reason: a training leaves a model behind
otherwise: {decision: refuse, reason: nobody has thought of this yet}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from governance.identity.keys import VerifyingKey
from governance.people.person import Person
from governance.people.roles import PersonRole
from governance.policy.budgets import (
    DEFAULT_ANSWERS,
    DEFAULT_MODEL_QUERIES,
    DEFAULT_QUERIES,
    MAX_COUNT,
    Budgets,
    Caps,
    read_decimal,
)
from governance.policy.conditions import CONDITIONS, Condition
from governance.policy.rules import MAX_PEOPLE, MAX_RULES, OTHERWISE, Kind, Policy, Rule, Verdict, check_policy
from parties.policy_values import DecimalText, Identifier
from parties.release_policy_file import ReleaseFields, release_terms
from parties.storage.files import write_public
from parties.yaml_file import FieldPath, YamlFile, read_yaml
from protocols.errors import ConfideError, ErrorCode, Problem

POLICY_FILE = "policy.yaml"
API_VERSION = "confide.policy/1"
_MAX_LISTED = 200
_NAME = 128
_REASON = 256


Text = Annotated[str, Field(min_length=1, max_length=_NAME)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=_MAX_LISTED)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
JobTypes = Annotated[
    list[Literal["train", "evaluate", "assess", "release", "summarise", "infer", "serve"]], Field(min_length=1, max_length=7)
]


class _Strict(BaseModel):
    # Nothing is converted: a number written as yes would hide a mistake.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class PersonFields(_Strict):
    """One of the people."""

    id: Identifier
    roles: Annotated[list[Literal["operator", "data-steward", "privacy-officer", "auditor"]], Field(min_length=1, max_length=4)]
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    member: Identifier | None = None


class MatchFields(_Strict):
    """The conditions of a rule; all must hold, and an absent one always does. `docs/policy.md` says what each asks."""

    job_types: JobTypes | None = None
    queriers: Texts | None = None
    institutions: Texts | None = None
    purposes: Texts | None = None
    agreements: Texts | None = None
    models: Texts | None = None
    model_names: Texts | None = None
    dealers: Texts | None = None
    only_datasets: Texts | None = None
    any_dataset: Texts | None = None
    only_outputs: Texts | None = None
    any_output: Texts | None = None
    only_computing_parties: Texts | None = None
    any_computing_party: Texts | None = None
    min_rows: Count | None = None
    max_rows: Count | None = None
    min_query_rows: Count | None = None
    max_query_rows: Count | None = None
    min_epochs: Count | None = None
    max_epochs: Count | None = None
    min_rounds: Count | None = None
    max_rounds: Count | None = None
    min_payload_mib: Count | None = None
    max_payload_mib: Count | None = None
    guarantees: Annotated[list[Literal["none", "zero-out"]], Field(min_length=1, max_length=2)] | None = None
    min_milli_epsilon: Count | None = None
    max_milli_epsilon: Count | None = None
    min_colluders: Count | None = None
    max_colluders: Count | None = None


class QuorumFields(_Strict):
    """How many of whom must approve; `privacy-officers` and `data-stewards` name everybody with the role."""

    needed: Annotated[int, Field(ge=1, le=MAX_PEOPLE)]
    of: Annotated[list[Identifier], Field(min_length=1, max_length=MAX_PEOPLE)]


class ApproveFields(_Strict):
    """The decision that people must approve."""

    approve: QuorumFields


DecisionFields = Literal["automatic", "refuse"] | ApproveFields


class RuleFields(_Strict):
    """One rule; the first that matches decides."""

    name: Identifier
    match: MatchFields = MatchFields()
    decision: DecisionFields
    reason: Annotated[str, Field(max_length=_REASON)] = ""


class OtherwiseFields(_Strict):
    """What holds if no rule matches."""

    decision: DecisionFields
    reason: Annotated[str, Field(max_length=_REASON)] = ""


class CapsFields(_Strict):
    """The most that may ever be spent; decimals are texts, None is no cap."""

    queries: Count = DEFAULT_QUERIES
    answers: Count = DEFAULT_ANSWERS
    epsilon: DecimalText | None = None
    delta: DecimalText | None = None
    permits: Annotated[list[Text], Field(max_length=_MAX_LISTED)] = []


class ModelCapsFields(CapsFields):
    """Likewise, of models."""

    queries: Count = DEFAULT_MODEL_QUERIES


class ConsumerCapsFields(CapsFields):
    """Likewise, of what a model answers one researcher with noise; the model's own caps hold besides."""

    queries: Count = MAX_COUNT
    answers: Count = MAX_COUNT


class BudgetsFields(_Strict):
    """Caps of data sets (`name` or `name/version`), models (`name` or `name@version`) and researchers, and of all others."""

    default: CapsFields = CapsFields()
    default_model: ModelCapsFields = ModelCapsFields()
    datasets: Annotated[dict[Text, CapsFields], Field(max_length=_MAX_LISTED)] = {}
    models: Annotated[dict[Text, ModelCapsFields], Field(max_length=_MAX_LISTED)] = {}
    consumers: Annotated[dict[Text, ConsumerCapsFields], Field(max_length=_MAX_LISTED)] = {}
    default_consumer: ConsumerCapsFields = ConsumerCapsFields()


class PolicyFields(_Strict):
    """The whole file."""

    api_version: Literal["confide.policy/1"]
    people: Annotated[list[PersonFields], Field(max_length=MAX_PEOPLE)] = []
    rules: Annotated[list[RuleFields], Field(max_length=MAX_RULES)] = []
    otherwise: OtherwiseFields
    training_without_guarantee: Literal["where_named", "as_rules_say"] = "where_named"
    budgets: BudgetsFields = BudgetsFields()
    release: ReleaseFields | None = None


def load_policy(path: Path) -> Policy:
    """Reads `policy.yaml`.

    Raises:
        ConfideError: INVALID_CONFIG (the operator's fault) with every problem's file, line and field; INVALID_ARGUMENT if
            the file cannot be read.
    """
    file = read_yaml(path)
    try:
        fields = PolicyFields.model_validate(dict(file.content))
    except ValidationError as error:
        problems = [field_problem(file, item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False)]
    else:
        policy = _policy(fields)
        found = [file.problem(_path(problem.where), problem.what, problem.remedy) for problem in check_policy(policy)]
        if not found:
            return policy
        problems = found
    raise ConfideError(ErrorCode.INVALID_CONFIG, f"{len(problems)} problem(s) in {path}", problems=problems)


def write_policy(
    path: Path,
    *,
    people: Iterable[Person] = (),
    decision: Kind = Kind.REFUSED,
    reason: str = "",
    training_without_guarantee: str = "where_named",
) -> Policy:
    """Writes a policy without rules: its people, and one decision about every job; and returns it as loaded.

    Args:
        path: the file; an existing one is replaced.
        people: whom it lists.
        decision: AUTOMATIC or REFUSED.
        reason: of the decision, for queriers.
        training_without_guarantee: `where_named`, or `as_rules_say` where the decision is about such trainings too.

    Raises:
        ConfideError: INVALID_CONFIG: the policy would not be valid.
    """
    listed = [f"  - {person_line(person)}" for person in people]
    lines = [
        f"api_version: {API_VERSION}",
        "# Who acts for this institution. `confide person init` makes a key and prints such a line.",
        *(["people:", *listed] if listed else ["people: []"]),
        "# The first rule that matches a job decides: automatic, refuse, or {approve: {needed: 1, of: [privacy-officers]}}.",
        "rules: []",
        "otherwise:",
        f"  decision: {'automatic' if decision is Kind.AUTOMATIC else 'refuse'}",
        f"  reason: {json.dumps(reason)}",
        "# where_named: a training without differential privacy runs only if a rule with match: {guarantees: [none]} lets it.",
        f"training_without_guarantee: {training_without_guarantee}",
        "# The most that may ever be asked of one data set or model, unless it is named under `datasets` or `models`.",
        "budgets:",
        f"  default: {{queries: {DEFAULT_QUERIES}, answers: {DEFAULT_ANSWERS}}}",
        f"  default_model: {{queries: {DEFAULT_MODEL_QUERIES}, answers: {DEFAULT_ANSWERS}}}",
    ]
    write_public(path, ("\n".join(lines) + "\n").encode())
    return load_policy(path)


def person_line(person: Person) -> str:
    """Returns a person as the policy lists her, on one line of YAML."""
    roles = ", ".join(sorted(role.value for role in person.roles))
    member = f", member: {json.dumps(person.member)}" if person.member else ""
    # An id such as 1e5 or a key of digits alone would be read as a number.
    return f"{{id: {json.dumps(person.id)}, roles: [{roles}], key: {json.dumps(person.key.hex)}{member}}}"


def policy_schema() -> dict[str, object]:
    """Returns the JSON Schema of the file."""
    schema: dict[str, object] = PolicyFields.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def conditions_of(fields: MatchFields) -> tuple[Condition, ...]:
    """Returns the conditions of a rule, in the order in which they are checked."""
    found = []
    for name in CONDITIONS:
        value: list[str] | int | None = getattr(fields, name)
        if isinstance(value, int):
            found.append(Condition(name, bound=value))
        elif value is not None:
            found.append(Condition(name, among=tuple(value)))
    return tuple(found)


def field_problem(file: YamlFile, field: tuple[str | int, ...], kind: str, message: str) -> Problem:
    """Returns what the reader of a strict file found, with file, line and field.

    Args:
        file: the file.
        field: the field's path as the reader names it.
        kind: what kind of mistake it is, in the reader's words.
        message: the reader's message.
    """
    # A decision may have one of several forms; the form's own name, which the reader adds, is no field of the file.
    path = tuple(part for part in field if not (isinstance(part, str) and part.endswith(("Fields", "]"))))
    if kind == "extra_forbidden":
        return file.problem(path, "unknown field", "remove it or correct its name")
    if kind == "missing":
        return file.problem(path, "missing field", "add it")
    return file.problem(path, message.removeprefix("Value error, "), "correct it")


def _policy(fields: PolicyFields) -> Policy:
    return Policy(
        people=tuple(_person(person) for person in fields.people),
        rules=tuple(Rule(r.name, conditions_of(r.match), _verdict(r.decision), r.reason) for r in fields.rules),
        otherwise=Rule(OTHERWISE, (), _verdict(fields.otherwise.decision), fields.otherwise.reason),
        budgets=Budgets(
            _caps(fields.budgets.default),
            {name: _caps(caps) for name, caps in fields.budgets.datasets.items()},
            {name: _caps(caps) for name, caps in fields.budgets.models.items()},
            _caps(fields.budgets.default_model),
            {name: _caps(caps) for name, caps in fields.budgets.consumers.items()},
            _caps(fields.budgets.default_consumer),
        ),
        release=None if fields.release is None else release_terms(fields.release),
        permits_plain_training=fields.training_without_guarantee == "as_rules_say",
    )


def _person(fields: PersonFields) -> Person:
    roles = frozenset(PersonRole(role) for role in fields.roles)
    return Person(fields.id, roles, VerifyingKey(fields.key), fields.member)


def _verdict(decision: DecisionFields) -> Verdict:
    if isinstance(decision, ApproveFields):
        return Verdict(Kind.APPROVAL, decision.approve.needed, tuple(decision.approve.of))
    return Verdict(Kind.AUTOMATIC if decision == "automatic" else Kind.REFUSED)


def _caps(fields: CapsFields) -> Caps:
    epsilon = None if fields.epsilon is None else read_decimal(fields.epsilon)
    delta = None if fields.delta is None else read_decimal(fields.delta)
    return Caps(fields.queries, fields.answers, epsilon, delta, tuple(dict.fromkeys(fields.permits)))


def _path(where: str) -> FieldPath:
    if where.startswith(("release.datasets.", "release.classes.")):
        return tuple(where.split(".") if where.startswith("release.classes.") else where.split(".", 2))
    # Names of data sets and models may hold dots; they come last.
    parts = where.split(".", 2)
    if parts[0] == "budgets":
        head, dot, field = parts[-1].rpartition(".")
        return ("budgets", parts[1], *((head, field) if dot and field in CapsFields.model_fields else (parts[-1],)))
    return tuple(int(part) if part.isdigit() else part for part in where.split("."))
