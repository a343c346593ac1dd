"""Agreements and grants as people write them: YAML, read strictly; errors name file, line and field.

api_version: confide.agreement/1            api_version: confide.grant/1
consortium: cardio                          agreement: prognosis-2026        # name or digest
name: prognosis-2026                        dataset: patients                # or patients/2; or model: diagnosis@0123456789ab
purposes: [prognosis]                       purposes: [prognosis]
parties: [hospital-a, hospital-b]           job_types: [train, evaluate]
datasets: [hospital-a/*, hospital-b/*]      derived_job_types: [evaluate, infer]
job_types: [train, evaluate, infer]         recipients: [alice, institution/hospital-b]
outputs: [correct_count, probability]       outputs: {correct_count: {min_cell: 10}, probability: {decimals: 2, clip: "0.01"}}
min_parties: 2                              parameters: {max_epochs: 50, min_batch_size: 16, max_query_rows: 100}
min_rows: 100                               min_parties: 2
expires: 2027-01-31T00:00:00Z               min_rows: 100
                                            max_uses: 20
                                            expires: 2026-12-31T00:00:00Z
                                            derived_until: 2027-01-31T00:00:00Z
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from governance.consent.agreement import Agreement, check_agreement
from governance.consent.limits import OutputRule, ParameterLimits
from governance.consent.reading import in_order
from parties.grants import DatasetChoice, GrantTerms
from parties.policy_file import field_problem
from parties.yaml_file import read_yaml
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT, JobType, ModelRef, OutputKind
from protocols.training import OptimiserKind

AGREEMENT_VERSION = "confide.agreement/1"
GRANT_VERSION = "confide.grant/1"


def read_moment(value: object) -> datetime:
    """Returns a time of a file, UTC, whole seconds; a date is its first moment.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str):
        with suppress(ValueError):  # told below, in our words
            value = datetime.strptime(value, TIME_FORMAT).replace(tzinfo=UTC)
    if isinstance(value, datetime) and value.tzinfo is not None and not value.microsecond:
        return value.astimezone(UTC)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError("a time in UTC such as 2026-01-31T12:00:00Z is expected, or a date")


Moment = Annotated[datetime, BeforeValidator(read_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Identifiers = Annotated[list[Identifier], Field(min_length=1)]
JobTypes = list[Literal["train", "evaluate", "assess", "release", "summarise", "infer", "serve"]]
AgreedJobTypes = list[Literal["train", "evaluate", "assess", "release", "summarise", "infer", "serve", "infer_encrypted"]]
OutputName = Literal[
    "correct_count",
    "confusion",
    "roc_auc",
    "log_loss",
    "squared_error",
    "reliability",
    "group_confusion",
    "score_histogram",
    "attack_counts",
    "weights",
    "centroids",
    "group_means",
    "moments",
    "label",
    "probability",
    "score",
    "value",
    "mean",
]
Count = Annotated[int, Field(ge=1)]
DecimalText = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?$")]


class _Strict(BaseModel):
    # Nothing is converted: a number written as yes would hide a mistake.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class AgreementFields(_Strict):
    """An agreement; what each field means stands in docs/consent.md."""

    api_version: Literal["confide.agreement/1"]
    consortium: Identifier
    name: Identifier
    purposes: Identifiers
    parties: Annotated[list[Identifier], Field(min_length=2)]
    datasets: list[Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}/([a-z0-9-]{1,63}|\*)$")]]
    job_types: Annotated[AgreedJobTypes, Field(min_length=1)]
    outputs: list[OutputName] = []
    min_parties: Count
    min_rows: Count
    epsilon_cap: DecimalText | None = None
    valid_from: Moment | None = None
    expires: Moment


class OutputFields(_Strict):
    """What of one kind of output may be opened."""

    min_cell: Annotated[int, Field(ge=0)] = 0
    top_k: Annotated[int, Field(ge=0)] = 0
    decimals: Annotated[int, Field(ge=0)] | None = None
    clip: DecimalText = "0"
    noise: DecimalText = "0"
    noise_colluders: Annotated[int, Field(ge=0)] = 0
    abstain_below: DecimalText = "0"
    abstain_beyond: DecimalText = "0"
    group_by: list[str] = []


class ParameterFields(_Strict):
    """Bounds on a job's parameters; absent ones bind nothing."""

    max_epochs: Count | None = None
    max_steps: Count | None = None
    min_batch_size: Count | None = None
    max_query_rows: Count | None = None
    optimisers: list[Literal["sgd", "adam"]] = []


class GrantFields(_Strict):
    """A grant; what each field means stands in docs/consent.md."""

    api_version: Literal["confide.grant/1"]
    agreement: Annotated[str, Field(min_length=1, max_length=64)]
    dataset: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}(/[1-9][0-9]{0,8})?$")] | None = None
    model: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}@[0-9a-f]{12}$")] | None = None
    purposes: Identifiers
    job_types: JobTypes = []
    derived_job_types: JobTypes = []
    recipients: Annotated[list[Annotated[str, Field(max_length=80)]], Field(min_length=1)]
    outputs: dict[OutputName, OutputFields] = {}
    architectures: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = []
    parameters: ParameterFields = ParameterFields()
    computing_parties: list[Identifier] = []
    dealers: list[Identifier] = []
    min_parties: Count
    min_rows: Count
    max_uses: Count
    epsilon_cap: DecimalText | None = None
    valid_from: Moment | None = None
    expires: Moment
    derived_until: Moment | None = None

    @model_validator(mode="after")
    def _one_subject(self) -> GrantFields:
        if (self.dataset is None) == (self.model is None):
            raise ValueError("a grant is for a data set or for a model: write either dataset or model")
        return self


F = TypeVar("F", bound=_Strict)
M = TypeVar("M")


def load_agreement(path: Path, *, now: datetime) -> Agreement:
    """Reads an agreement.

    Args:
        path: the file.
        now: from when it is valid if the file does not say, UTC.

    Raises:
        ConfideError: INVALID_CONFIG (its author's fault) with every problem's file, line and field; INVALID_ARGUMENT if the
            file cannot be read.
    """

    def made(fields: AgreementFields) -> Agreement:
        return Agreement(
            consortium=fields.consortium,
            name=fields.name,
            purposes=tuple(fields.purposes),
            parties=tuple(fields.parties),
            datasets=tuple(fields.datasets),
            job_types=in_order((JobType(name) for name in fields.job_types), JobType),
            outputs=in_order((OutputKind(name) for name in fields.outputs), OutputKind),
            min_parties=fields.min_parties,
            min_rows=fields.min_rows,
            epsilon_cap=fields.epsilon_cap,
            valid_from=fields.valid_from or now.replace(microsecond=0),
            expires=fields.expires,
        )

    agreement = _load(path, AgreementFields, made)
    file = read_yaml(path)
    problems = [file.problem(tuple(p.where.split(".")), p.what, p.remedy) for p in check_agreement(agreement)]
    if problems:
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{len(problems)} problem(s) in {path}", problems=problems)
    return agreement


def load_grant_terms(path: Path) -> GrantTerms:
    """Reads what a grant is to permit; `parties.grants.create_grant` binds it to what is registered.

    Raises:
        ConfideError: INVALID_CONFIG (its author's fault) with every problem's file, line and field; INVALID_ARGUMENT if the
            file cannot be read.
    """
    return _load(path, GrantFields, _terms)


def agreement_schema() -> dict[str, object]:
    """Returns the JSON Schema of an agreement's file."""
    return _schema(AgreementFields)


def grant_schema() -> dict[str, object]:
    """Returns the JSON Schema of a grant's file."""
    return _schema(GrantFields)


def dataset_choice(label: str) -> DatasetChoice:
    """Reads `name` or `name/version`.

    Raises:
        ConfideError: INVALID_ARGUMENT: the version is no number.
    """
    name, _, version = label.partition("/")
    if version and not version.isdecimal():
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "a data set of this party is named name or name/version")
    return DatasetChoice(name, int(version) if version else None)


def _rule(kind: str, fields: OutputFields) -> OutputRule:
    return OutputRule(OutputKind(kind), **dict(fields) | {"group_by": tuple(sorted(set(fields.group_by)))})


def _terms(fields: GrantFields) -> GrantTerms:
    return GrantTerms(
        agreement=fields.agreement,
        subject=dataset_choice(fields.dataset) if fields.dataset is not None else ModelRef(*(fields.model or "").split("@")),
        purposes=tuple(fields.purposes),
        job_types=tuple(JobType(name) for name in fields.job_types),
        derived_job_types=tuple(JobType(name) for name in fields.derived_job_types),
        recipients=tuple(fields.recipients),
        outputs=tuple(_rule(kind, rule) for kind, rule in fields.outputs.items()),
        max_uses=fields.max_uses,
        expires=fields.expires,
        min_parties=fields.min_parties,
        min_rows=fields.min_rows,
        architectures=tuple(fields.architectures),
        parameters=ParameterLimits(
            max_epochs=fields.parameters.max_epochs,
            max_steps=fields.parameters.max_steps,
            min_batch_size=fields.parameters.min_batch_size,
            max_query_rows=fields.parameters.max_query_rows,
            optimisers=in_order((OptimiserKind(name) for name in fields.parameters.optimisers), OptimiserKind),
        ),
        computing_parties=tuple(fields.computing_parties),
        dealers=tuple(fields.dealers),
        epsilon_cap=fields.epsilon_cap,
        valid_from=fields.valid_from,
        derived_until=fields.derived_until,
    )


def _load(path: Path, kind: type[F], make: Callable[[F], M]) -> M:
    file = read_yaml(path)
    try:
        return make(kind.model_validate(dict(file.content)))
    except ValidationError as error:
        problems = [field_problem(file, item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False)]
    raise ConfideError(ErrorCode.INVALID_CONFIG, f"{len(problems)} problem(s) in {path}", problems=problems)


def _schema(kind: type[_Strict]) -> dict[str, object]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **kind.model_json_schema()}
