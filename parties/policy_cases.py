"""Cases for a policy: described jobs with the decision that is expected of each, so that a policy is tested before it is used.

api_version: confide.policy-cases/1
cases:
  - name: a small evaluation runs by itself
    job: {job_type: evaluate, querier: r-anna, datasets: [hospital-a/hearts], outputs: [correct_count], rows: 400}
    expect: automatic
  - name: a training needs an officer
    job: {job_type: train, querier: r-anna, datasets: [hospital-a/hearts], epochs: 3}
    expect: {approve: {needed: 1}}
    rule: trainings
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from governance.policy.conditions import UNBOUNDED, WITHOUT_GUARANTEE, JobFacts
from governance.policy.rules import MAX_PEOPLE, Decision, Kind, Policy, decide
from parties.policy_file import Count, Text, field_problem
from parties.policy_values import Identifier
from parties.yaml_file import read_yaml
from protocols.errors import ConfideError, ErrorCode, Problem

_MAX_CASES = 500
F = TypeVar("F", "CasesFields", "DescribedJobFields")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class FactsFields(_Strict):
    """What rules see of a job; see `JobFacts`."""

    job_type: Literal["train", "evaluate", "infer", "serve"]
    querier: Identifier
    institution: str = ""
    purpose: str = ""
    agreement: str = ""
    model: str = ""
    model_name: str = ""
    dealer: str = ""
    datasets: list[Text] = []
    outputs: list[Text] = []
    computing_parties: list[Text] = []
    rows: Count = 0
    query_rows: Count = 0
    epochs: Count = 0
    rounds: Count = 0
    payload_mib: Count = 0
    guarantee: Literal["", "none", "zero-out"] = ""
    milli_epsilon: Count = 0
    colluders: Count = 0

    @property
    def facts(self) -> JobFacts:
        """As rules see them."""
        return JobFacts(
            job_type=self.job_type,
            querier=self.querier,
            institution=self.institution,
            purpose=self.purpose,
            agreement=self.agreement,
            model=self.model,
            model_name=self.model_name,
            dealer=self.dealer,
            datasets=tuple(self.datasets),
            outputs=tuple(self.outputs),
            computing_parties=tuple(self.computing_parties),
            rows=self.rows,
            query_rows=self.query_rows,
            epochs=self.epochs,
            rounds=self.rounds,
            payload_mib=self.payload_mib,
            guarantee=self.guarantee or (WITHOUT_GUARANTEE if self.job_type == "train" else ""),
            milli_epsilon=UNBOUNDED if self.job_type == "train" and self.guarantee in ("", "none") else self.milli_epsilon,
            colluders=self.colluders,
        )


class ExpectedQuorumFields(_Strict):
    """How many must approve."""

    needed: Annotated[int, Field(ge=1, le=MAX_PEOPLE)]


class ExpectedApproveFields(_Strict):
    """That people must approve."""

    approve: ExpectedQuorumFields


class CaseFields(_Strict):
    """One case; `rule` may name the rule that is expected to decide."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    job: FactsFields
    expect: Literal["automatic", "refuse"] | ExpectedApproveFields
    rule: str | None = None


class CasesFields(_Strict):
    """The whole file."""

    api_version: Literal["confide.policy-cases/1"]
    cases: Annotated[list[CaseFields], Field(min_length=1, max_length=_MAX_CASES)]


class DescribedJobFields(_Strict):
    """A file with one described job, for `policy explain`."""

    job: FactsFields


@dataclass(frozen=True)
class CaseOutcome:
    """One case: its name, what was expected, what the policy decides, and whether that is the same."""

    name: str
    expected: str
    decision: Decision
    passed: bool


def run_cases(policy: Policy, path: Path) -> tuple[CaseOutcome, ...]:
    """Decides about every case of a file.

    Raises:
        ConfideError: INVALID_CONFIG, with every problem's file, line and field.
    """
    outcomes = []
    for case in _load(path, CasesFields).cases:
        decision = decide(policy, case.job.facts, querier_key=None)
        expected = _expected(case)
        same_rule = case.rule is None or case.rule == decision.rule
        outcomes.append(CaseOutcome(case.name, expected, decision, same_rule and _words(decision, case.rule) == expected))
    return tuple(outcomes)


def read_described_job(path: Path) -> JobFacts:
    """Reads a file that describes one job under `job:`, with the fields of a case's.

    Raises:
        ConfideError: INVALID_CONFIG, with every problem's file, line and field.
    """
    return _load(path, DescribedJobFields).job.facts


def decision_in_words(decision: Decision) -> str:
    """Returns what a policy decides, shortly."""
    if decision.kind is Kind.APPROVAL:
        return f"approve by {decision.needed}"
    return "automatic" if decision.kind is Kind.AUTOMATIC else "refuse"


def _expected(case: CaseFields) -> str:
    words = f"approve by {case.expect.approve.needed}" if isinstance(case.expect, ExpectedApproveFields) else case.expect
    return words + (f" ({case.rule})" if case.rule else "")


def _words(decision: Decision, rule: str | None) -> str:
    return decision_in_words(decision) + (f" ({decision.rule})" if rule else "")


def _load(path: Path, kind: type[F]) -> F:
    file = read_yaml(path)
    try:
        return kind.model_validate(dict(file.content))
    except ValidationError as error:
        problems: list[Problem] = [
            field_problem(file, item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False)
        ]
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{len(problems)} problem(s) in {path}", problems=problems) from error
