"""Conditions of a rule: what a job is asked about, when a condition holds, and when one says less than another.

A job has one type and one querier, but several data sets and outputs. What a list means is therefore in the condition's name:
`only_...` holds if all of the job's are among the named, `any_...` if at least one is. A permission is written with `only_`, a
refusal with `any_`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from protocols.job_fields import ID_PATTERN
from protocols.job_parts import JobType, OutputKind
from protocols.private_training import RELATION


@dataclass(frozen=True)
class JobFacts:
    """What rules may ask about a job; public. Texts are empty and numbers 0 where the job has nothing of the kind.

    Attributes:
        job_type: `train`, `evaluate`, `summarise`, `infer` or `serve`.
        querier: researcher id.
        institution: the party that the querier belongs to.
        purpose: of the job.
        agreement: name of the agreement that the job keeps to.
        model: the model that is used, `name@version`.
        model_name: train: the name under which the shares are kept.
        dealer: party id.
        datasets: `party/name` of each.
        outputs: kinds of what is opened.
        computing_parties: party ids.
        rows: over all data sets.
        query_rows: samples of an inference.
        epochs: of a training.
        rounds: of communication, from the plan.
        payload_mib: between all parties, from the plan, rounded up.
        guarantee: of a training: the relation of its differential privacy, or `none`.
        milli_epsilon: of a training: its epsilon times 1,000, rounded up; `UNBOUNDED` without a guarantee.
        colluders: of a training: how many owners may pool without weakening its guarantee.
    """

    job_type: str
    querier: str
    institution: str = ""
    purpose: str = ""
    agreement: str = ""
    model: str = ""
    model_name: str = ""
    dealer: str = ""
    datasets: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    computing_parties: tuple[str, ...] = ()
    rows: int = 0
    query_rows: int = 0
    epochs: int = 0
    rounds: int = 0
    payload_mib: int = 0
    guarantee: str = ""
    milli_epsilon: int = 0
    colluders: int = 0


class How(Enum):
    """How a condition compares a fact with what the rule names."""

    ONE_OF = "one of"
    ONLY = "only"
    ANY = "any of"
    AT_LEAST = "at least"
    AT_MOST = "at most"


# The conditions that a rule may have, in the order in which they are checked: the fact that each asks about, and how.
CONDITIONS: Mapping[str, tuple[str, How]] = {
    "job_types": ("job_type", How.ONE_OF),
    "queriers": ("querier", How.ONE_OF),
    "institutions": ("institution", How.ONE_OF),
    "purposes": ("purpose", How.ONE_OF),
    "agreements": ("agreement", How.ONE_OF),
    "models": ("model", How.ONE_OF),
    "model_names": ("model_name", How.ONE_OF),
    "dealers": ("dealer", How.ONE_OF),
    "only_datasets": ("datasets", How.ONLY),
    "any_dataset": ("datasets", How.ANY),
    "only_outputs": ("outputs", How.ONLY),
    "any_output": ("outputs", How.ANY),
    "only_computing_parties": ("computing_parties", How.ONLY),
    "any_computing_party": ("computing_parties", How.ANY),
    "min_rows": ("rows", How.AT_LEAST),
    "max_rows": ("rows", How.AT_MOST),
    "min_query_rows": ("query_rows", How.AT_LEAST),
    "max_query_rows": ("query_rows", How.AT_MOST),
    "min_epochs": ("epochs", How.AT_LEAST),
    "max_epochs": ("epochs", How.AT_MOST),
    "min_rounds": ("rounds", How.AT_LEAST),
    "max_rounds": ("rounds", How.AT_MOST),
    "min_payload_mib": ("payload_mib", How.AT_LEAST),
    "max_payload_mib": ("payload_mib", How.AT_MOST),
    "guarantees": ("guarantee", How.ONE_OF),
    "min_milli_epsilon": ("milli_epsilon", How.AT_LEAST),
    "max_milli_epsilon": ("milli_epsilon", How.AT_MOST),
    "min_colluders": ("colluders", How.AT_LEAST),
    "max_colluders": ("colluders", How.AT_MOST),
}


# What a rule calls a training without differential privacy, and its epsilon: above every bound that a rule can name.
WITHOUT_GUARANTEE = "none"
UNBOUNDED = 1 << 53
GUARANTEES = (WITHOUT_GUARANTEE, RELATION)

_ID = ID_PATTERN.pattern
_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "job_type": (re.compile("|".join(kind.value for kind in JobType)), "a job type"),
    "outputs": (re.compile("|".join(kind.value for kind in OutputKind)), "a kind of output"),
    "datasets": (re.compile(rf"{_ID}/({_ID}|\*)"), "a data set; write party/name or party/*"),
    "guarantee": (re.compile("|".join(GUARANTEES)), f"a guarantee; write {' or '.join(GUARANTEES)}"),
    "model": (re.compile(rf"{_ID}(@[0-9a-f]{{12}})?"), "a model; write name or name@version, of 12 digits"),
}
_NAME = (ID_PATTERN, "a name that a job can have: 1 to 63 of a-z, 0-9 and -")


@dataclass(frozen=True)
class Condition:
    """One condition of a rule.

    Attributes:
        name: a key of `CONDITIONS`.
        among: the named values, of a list; `party/*` stands for every data set of a party, a model's name for every version.
        bound: of a number.
    """

    name: str
    among: tuple[str, ...] = ()
    bound: int = 0

    @property
    def how(self) -> How:
        """How it compares."""
        return CONDITIONS[self.name][1]

    def holds(self, facts: JobFacts) -> bool:
        """Returns whether a job satisfies the condition; one that has nothing of the kind satisfies no list."""
        found = self._found(facts)
        match self.how:
            case How.AT_LEAST:
                return all(isinstance(value, int) and value >= self.bound for value in found)
            case How.AT_MOST:
                return all(isinstance(value, int) and value <= self.bound for value in found)
            case How.ANY:
                return any(self._names(str(value)) for value in found)
            case _:
                return bool(found) and all(self._names(str(value)) for value in found)

    def implies(self, other: Condition) -> bool:
        """Returns whether every job that satisfies this condition satisfies the other one; False if that is not certain."""
        if self.name != other.name:
            return False
        match self.how:
            case How.AT_LEAST:
                return self.bound >= other.bound
            case How.AT_MOST:
                return self.bound <= other.bound
            case _:
                return all(other._names(value) for value in self.among)

    def why_not(self, facts: JobFacts) -> str:
        """Returns in words why a job does not satisfy the condition."""
        found = ", ".join(str(value) for value in self._found(facts)) or "none"
        wanted = str(self.bound) if self.how in (How.AT_LEAST, How.AT_MOST) else ", ".join(self.among)
        return f"{self.name}: {found}; the rule asks for {self.how.value} {wanted}"

    def _found(self, facts: JobFacts) -> tuple[str | int, ...]:
        value: str | int | tuple[str, ...] = getattr(facts, CONDITIONS[self.name][0])
        if isinstance(value, tuple):
            return value
        return () if value == "" else (value,)

    def _names(self, value: str) -> bool:
        # A pattern names itself too, so that one list can be compared with another.
        return any(value == named or value.startswith(_prefix(self.name, named)) for named in self.among)


def _prefix(condition: str, named: str) -> str:
    """Returns what a value that a pattern stands for begins with; for a plain name something that no value begins with."""
    if condition in ("only_datasets", "any_dataset") and named.endswith("/*"):
        return named[:-1]
    if condition == "models" and "@" not in named:
        return f"{named}@"
    return "\0"


def impossible_values(condition: Condition) -> Iterable[tuple[int, str]]:
    """Yields the values of a list that no job can have, by their place, each with the reason in words.

    A refusal that names one refuses nothing, and nobody would notice.
    """
    pattern, what = _FORMS.get(CONDITIONS[condition.name][0], _NAME)
    for place, value in enumerate(condition.among):
        if not pattern.fullmatch(value):
            yield place, f"{value} is not {what}"


def never_holds(conditions: Iterable[Condition]) -> str:
    """Returns in words why no job can satisfy all of the conditions, or an empty text if that is not certain."""
    bounds: dict[str, dict[How, int]] = {}
    for condition in conditions:
        fact, how = CONDITIONS[condition.name]
        bounds.setdefault(fact, {})[how] = condition.bound
    for fact, found in bounds.items():
        least, most = found.get(How.AT_LEAST), found.get(How.AT_MOST)
        if least is not None and most is not None and least > most:
            return f"min_{fact} {least} is above max_{fact} {most}"
    return ""
