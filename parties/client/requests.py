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

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocols.errors import ConfideError, ErrorCode, Problem

MAX_REQUEST_BYTES = 256 * 1024
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


def read_request(path: Path) -> JobRequest:
    """Reads a job request from a YAML file.

    Raises:
        ConfideError: INVALID_JOB (the researcher's fault), with every problem and the field it is in.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_REQUEST_BYTES:
        raise ConfideError(ErrorCode.INVALID_JOB, f"{path} has {len(data)} bytes; a request has at most {MAX_REQUEST_BYTES}")
    try:
        content = yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ConfideError(ErrorCode.INVALID_JOB, f"{path} is not YAML: {error}") from error
    kind = content.get("type") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        problem = Problem("type", "missing or unknown", "write train, evaluate or infer")
        raise ConfideError(ErrorCode.INVALID_JOB, f"{path} says not which type of job it is", problems=[problem])
    try:
        return _KINDS[kind].model_validate(content)
    except ValidationError as error:
        problems = [Problem(".".join(str(part) for part in e["loc"]), e["msg"], "") for e in error.errors()]
        raise ConfideError(ErrorCode.INVALID_JOB, f"{path} is not a {kind} request", problems=problems) from error
