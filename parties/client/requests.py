"""What a researcher writes to ask for a job: a small YAML file, parsed strictly.

api_version: confide/v1
type: train                         # train | evaluate | assess | summarise | infer | serve | release
computing_parties: [hospital-a, hospital-b]
dealer: hospital-c
datasets: [hospital-a/patients, hospital-b/patients, hospital-c/patients]
partition: rows                     # of data sets: or columns, if they are different columns of the same rows
model_name: diagnosis               # train: the name to keep the shares under
manifest: model.json                # train: architecture, beside this file
weights: model.safetensors          # train: public initial weights, beside this file
continues: diagnosis@0123456789ab   # train: in place of both, the model to go on from
training: {epochs: 10, batch_size: 32, learning_rate: "0.5", momentum: "0.9"}    # more: training_request.py

model: diagnosis@0123456789ab       # evaluate, infer, serve: the model to use, or diagnosis@live for what its holders call so
outputs: [correct_count, confusion] # evaluate: also roc_auc, log_loss, squared_error, reliability, groups: output_request.py
min_cell: 5                         # evaluate, summarise: no opened count, and no group, tells of fewer rows
members: [hospital-a/patients]      # assess: which of the data sets the model was trained on; the others were not
attack: lira                        # assess: or rmia; shadows: how many each owner trains; thresholds: of the score
groups: clusters                    # summarise: clusters; labels: those of each label; all: means and deviations of all rows
clusters: 8                         # summarise by clusters: how many, and how often their means are moved
iterations: 20
serving: {max_queries: 100, idle_s: 300}   # serve: how long and how much; more: ServingRequest below
samples: samples.csv                # infer: rows under the model's schema, without a label column
output: probability                 # infer, serve: label | probability | score | value; constraints: answer_request.py
noise: "5"                          # evaluate by counts, summarise, infer, serve: standard deviation of noise on each number
agreement: cardio-2026              # its name or digest; else the one in force that covers the job
purpose: prognosis                  # one of the agreement's; else its only one
agree_within_minutes: 240           # how long people may take to approve; else 2 minutes, enough where none are asked
expires_in_minutes: 30
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from parties.client.answer_request import AnswerFields
from parties.client.output_request import EvaluationOutput as EvaluationOutput
from parties.client.training_request import Strict
from parties.client.training_request import TrainingRequest as TrainingRequest
from parties.yaml_file import YamlFile, read_yaml
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job_parts import MAX_PREPARATIONS, Serving

API_VERSION = "confide/v1"
DEFAULT_MIN_CELL = 5
DEFAULT_SHADOWS = 64
DEFAULT_SERVING = Serving(block_rows=128, max_queries=100, max_rows=1_000, idle_s=300, lifetime_s=3_600, rekey_s=900)
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
AgreementName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")]  # a name, or a digest of 64 digits
DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}/[a-z0-9-]{1,63}$")]
JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{8,32}$")]  # a beginning of it is enough
ModelLabel = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}@([0-9a-f]{12}|live|candidate|released)$")]


class _Request(Strict):
    api_version: Literal["confide/v1"]
    computing_parties: Annotated[list[Identifier], Field(min_length=2)]
    dealer: Identifier
    agreement: AgreementName | None = None
    purpose: Identifier | None = None
    agree_within_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] | None = None
    expires_in_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] = 30


class TrainRequest(_Request):
    """A joint training, from public weights or from the shares of a model that the parties hold."""

    type: Literal["train"]
    datasets: Annotated[list[DatasetName], Field(min_length=1)]
    partition: Literal["rows", "columns"] = "rows"
    model_name: Identifier
    manifest: str | None = None
    weights: str | None = None
    continues: ModelLabel | None = None
    prepared_with: list[JobId] = Field(default_factory=list, max_length=MAX_PREPARATIONS)
    training: TrainingRequest

    @model_validator(mode="after")
    def _one_start(self) -> TrainRequest:
        if self.continues is None and (self.manifest is None or self.weights is None):
            raise PydanticCustomError("no_start", "no manifest and weights to start from, and no model to go on from")
        if self.continues is not None and (self.manifest is not None or self.weights is not None):
            raise PydanticCustomError("two_starts", "a manifest or weights stand beside a model to go on from")
        return self


class EvaluateRequest(_Request):
    """A joint evaluation over the data sets; without `outputs`, the one measure that suits the labels."""

    type: Literal["evaluate"]
    datasets: Annotated[list[DatasetName], Field(min_length=1)]
    partition: Literal["rows", "columns"] = "rows"
    model: ModelLabel
    outputs: Annotated[list[EvaluationOutput], Field(min_length=1)] | None = None
    min_cell: int = DEFAULT_MIN_CELL
    noise: str = "0"
    noise_colluders: int | None = None
    rows_per_person: int = 1


class AssessRequest(_Request):
    """A membership attack on a model held as shares, by the rows of several owners; without `thresholds`, the usual ones."""

    type: Literal["assess"]
    datasets: Annotated[list[DatasetName], Field(min_length=2)]
    members: Annotated[list[DatasetName], Field(min_length=1)]
    model: ModelLabel
    attack: Literal["lira", "rmia"] = "lira"
    shadows: int = DEFAULT_SHADOWS
    thresholds: Annotated[list[str], Field(min_length=1)] | None = None
    min_cell: int = DEFAULT_MIN_CELL

    @model_validator(mode="after")
    def _members_take_part(self) -> AssessRequest:
        if not set(self.members) <= set(self.datasets):
            raise PydanticCustomError("no_such_members", "members are not among the data sets")
        return self


class SummariseRequest(_Request):
    """Means and sizes of groups of the rows of all data sets: of clusters that are found jointly, or of the labels."""

    type: Literal["summarise"]
    datasets: Annotated[list[DatasetName], Field(min_length=1)]
    partition: Literal["rows", "columns"] = "rows"
    groups: Literal["clusters", "labels", "all"]
    clusters: int | None = None
    iterations: int | None = None
    min_cell: int = DEFAULT_MIN_CELL
    noise: str = "0"
    noise_colluders: int | None = None
    rows_per_person: int = 1

    @model_validator(mode="after")
    def _fields_of_groups(self) -> SummariseRequest:
        if self.groups != "clusters" and (self.clusters is not None or self.iterations is not None):
            raise PydanticCustomError("not_of_labels", "clusters and iterations stand beside groups that are not searched for")
        if self.groups == "clusters" and self.clusters is None:
            raise PydanticCustomError("no_clusters", "the number of clusters is missing")
        return self


class InferRequest(_Request, AnswerFields):
    """A private inference on the researcher's own samples; without `output`, the label, or the value if it is a number.

    What `decimals`, `top_k`, `clip`, `noise` and the other fields of `answer_request` may be is checked on the job that follows.
    """

    type: Literal["infer"]
    model: ModelLabel
    samples: str


class ServingRequest(Strict):
    """How long and how much a model is served; the fields of `protocols.job_parts.Serving`, whose checks bound them."""

    block_rows: int = DEFAULT_SERVING.block_rows
    max_queries: int = DEFAULT_SERVING.max_queries
    max_rows: int = DEFAULT_SERVING.max_rows
    idle_s: int = DEFAULT_SERVING.idle_s
    lifetime_s: int = DEFAULT_SERVING.lifetime_s
    rekey_s: int = DEFAULT_SERVING.rekey_s

    def as_part(self) -> Serving:
        """Returns it as the part of a job."""
        return Serving(**self.model_dump())


class ServeRequest(_Request, AnswerFields):
    """A model kept warm for the researcher's queries; what is opened of each of them is as for an inference."""

    type: Literal["serve"]
    model: ModelLabel
    serving: ServingRequest = ServingRequest()


class ReleaseRequest(_Request):
    """All weights of a model held as shares, opened to the researcher under a licence of the parties that hold it."""

    type: Literal["release"]
    model: ModelLabel


JobRequest = TrainRequest | EvaluateRequest | AssessRequest | SummariseRequest | InferRequest | ServeRequest | ReleaseRequest
_KINDS: dict[
    str,
    type[TrainRequest]
    | type[EvaluateRequest]
    | type[AssessRequest]
    | type[SummariseRequest]
    | type[InferRequest]
    | type[ServeRequest]
    | type[ReleaseRequest],
] = {
    "train": TrainRequest,
    "evaluate": EvaluateRequest,
    "assess": AssessRequest,
    "summarise": SummariseRequest,
    "infer": InferRequest,
    "serve": ServeRequest,
    "release": ReleaseRequest,
}
# What a text must look like, by field.
_ID_FORM = "write 1 to 63 of a-z, 0-9 and -"
_DECIMAL_FORM = 'write a decimal in quotes, for example "0.5"'
_FORMS = {
    "datasets": "write party/name, for example hospital-a/patients",
    "model": "write name@version as `confide job wait` prints it after training, or name@live",
    "continues": "write name@version as `confide job wait` prints it after training, or name@live",
    "prepared_with": "write ids of jobs as `confide job list` shows them, in quotes",
} | dict.fromkeys(("learning_rate", "momentum", "weight_decay", "beta1", "beta2", "epsilon", "factor"), _DECIMAL_FORM)
_FORMS |= dict.fromkeys(("norm_bound", "delta", "noise_multiplier", "max_tpr", "at_fpr"), _DECIMAL_FORM)
# Findings about several fields together.
_REMEDIES = {
    "not_one_limit": 'keep one of them, for example max_tpr: "0.02" with at_fpr: "0.01"',
    "half_a_limit": "give both",
    "no_batch_size": "add batch_size",
    "no_checkpoints": "remove checkpoints",
    "no_learning_rate": 'add learning_rate: "0.5", or an optimiser',
    "two_optimisers": "move them into the optimiser",
    "no_start": "add manifest and weights, or continues",
    "two_starts": "keep either of them",
    "not_of_labels": "remove them, or write groups: clusters",
    "no_such_members": "name in datasets everything that members names",
    "no_clusters": "add clusters, for example clusters: 8",
}
_CHOICES = {"optimiser": "sgd or adam", "schedule": "constant, step or linear"}


def read_request(path: Path) -> JobRequest:
    """Reads a job request from a YAML file.

    Raises:
        ConfideError: INVALID_JOB (the researcher's fault), with file, line and field of every problem; INVALID_ARGUMENT if the
            file cannot be read.
    """
    try:
        file = read_yaml(path)
    except ConfideError as error:
        if error.code is not ErrorCode.INVALID_CONFIG:
            raise
        raise ConfideError(ErrorCode.INVALID_JOB, error.what, problems=error.problems) from error
    kind = file.content.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        problem = file.problem(("type",), "missing or unknown", f"write one of {', '.join(_KINDS)}")
        raise ConfideError(ErrorCode.INVALID_JOB, f"{path} does not say which type of job it is", problems=[problem])
    try:
        return _KINDS[kind].model_validate(dict(file.content))
    except ValidationError as error:
        problems = [_problem(file, item) for item in error.errors(include_url=False, include_context=False, include_input=False)]
        what = f"{len(problems)} problem(s) in {path}, a request of type {kind}"
        raise ConfideError(ErrorCode.INVALID_JOB, what, problems=problems) from error


def _problem(file: YamlFile, item: ErrorDetails) -> Problem:
    field = _written(item["loc"])
    match item["type"]:
        case "missing":
            return file.problem(field, "missing field", "add it")
        case "extra_forbidden":
            return file.problem(field, "unknown field", "remove it or correct its name")
        case "string_type":
            return file.problem(field, "must be a text", 'write it in quotes, for example "0.5"')
        case "string_pattern_mismatch":
            form = _FORMS.get(str(next((part for part in reversed(field) if isinstance(part, str)), "")), _ID_FORM)
            return file.problem(field, "does not have the right form", form)
        case "union_tag_invalid" | "union_tag_not_found":
            known = _CHOICES.get(str(field[-1]), "one that docs/jobs.md names")
            return file.problem((*field, "kind"), "missing or unknown", f"write {known}")
        case other:
            return file.problem(field, item["msg"][:1].lower() + item["msg"][1:], _REMEDIES.get(other, "correct it"))


def _written(field: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The path of a field as it stands in the file: the parser adds the kind of an optimiser, schedule or output to it."""
    if len(field) > 2 and field[1] in _CHOICES:
        return (*field[:2], *field[3:])
    if len(field) > 2 and field[0] == "outputs":
        return (*field[:2], *field[3:])
    return field
