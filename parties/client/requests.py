"""What a researcher writes to ask for a job: a small YAML file, parsed strictly.

api_version: confide/v1
type: train                         # train | evaluate | infer
computing_parties: [hospital-a, hospital-b]
dealer: hospital-c
datasets: [hospital-a/patients, hospital-b/patients, hospital-c/patients]
model_name: diagnosis               # train: the name to keep the shares under
manifest: model.json                # train: architecture, beside this file
weights: model.safetensors          # train: public initial weights, beside this file
training: {epochs: 10, batch_size: 32, learning_rate: "0.5", momentum: "0.9"}

model: diagnosis@0123456789ab       # evaluate, infer: the model to use
samples: samples.csv                # infer: rows under the model's schema, without a label column
output: label                       # infer: label | probability
expires_in_minutes: 30
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from parties.yaml_file import YamlFile, read_yaml
from protocols.errors import ConfideError, ErrorCode, Problem

API_VERSION = "confide/v1"
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}/[a-z0-9-]{1,63}$")]
ModelLabel = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}@[0-9a-f]{12}$")]
DecimalText = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TrainingRequest(_Strict):
    """Hyper-parameters; decimals are quoted so that everybody reads the same digits."""

    epochs: int
    batch_size: int
    learning_rate: DecimalText
    momentum: DecimalText = "0"


class _Request(_Strict):
    api_version: Literal["confide/v1"]
    computing_parties: Annotated[list[Identifier], Field(min_length=2)]
    dealer: Identifier
    expires_in_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] = 30


class TrainRequest(_Request):
    """A joint training."""

    type: Literal["train"]
    datasets: Annotated[list[DatasetName], Field(min_length=1)]
    model_name: Identifier
    manifest: str
    weights: str
    training: TrainingRequest


class EvaluateRequest(_Request):
    """A joint evaluation: the number of correct predictions over the data sets."""

    type: Literal["evaluate"]
    datasets: Annotated[list[DatasetName], Field(min_length=1)]
    model: ModelLabel


class InferRequest(_Request):
    """A private inference on the researcher's own samples."""

    type: Literal["infer"]
    model: ModelLabel
    samples: str
    output: Literal["label", "probability"] = "label"


JobRequest = TrainRequest | EvaluateRequest | InferRequest
_KINDS: dict[str, type[TrainRequest] | type[EvaluateRequest] | type[InferRequest]] = {
    "train": TrainRequest,
    "evaluate": EvaluateRequest,
    "infer": InferRequest,
}
# What a text must look like, by field.
_ID_FORM = "write 1 to 63 of a-z, 0-9 and -"
_FORMS = {
    "datasets": "write party/name, for example hospital-a/patients",
    "model": "write name@version as `confide job wait` prints it after training",
    "learning_rate": 'write a decimal in quotes, for example "0.5"',
    "momentum": 'write a decimal in quotes, for example "0.9"',
}


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
        problem = file.problem(("type",), "missing or unknown", "write train, evaluate or infer")
        raise ConfideError(ErrorCode.INVALID_JOB, f"{path} does not say which type of job it is", problems=[problem])
    try:
        return _KINDS[kind].model_validate(dict(file.content))
    except ValidationError as error:
        problems = [_problem(file, item) for item in error.errors(include_url=False, include_context=False, include_input=False)]
        what = f"{len(problems)} problem(s) in {path}, a request of type {kind}"
        raise ConfideError(ErrorCode.INVALID_JOB, what, problems=problems) from error


def _problem(file: YamlFile, item: ErrorDetails) -> Problem:
    field = item["loc"]
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
        case _:
            return file.problem(field, item["msg"][:1].lower() + item["msg"][1:], "correct it")
