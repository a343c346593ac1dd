"""Jobs from Python objects: a torch module, a data frame, an array become the same requests as files do."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from pydantic import BaseModel, ValidationError

from parties.client.answer_options import AnswerOptions
from parties.client.catalogue import find_model
from parties.client.placement import Placement
from parties.client.prepare import prepare_job
from parties.client.requests import (
    API_VERSION,
    AssessRequest,
    EvaluateRequest,
    InferRequest,
    ServeRequest,
    SummariseRequest,
    TrainRequest,
)
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model.export import export_model
from protocols.model.operators import LAYERS
from protocols.model.weights import weights_to_safetensors

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from parties.client.calls import PreparedJob, Values
    from parties.client.client import Client

Samples: TypeAlias = "pd.DataFrame | np.ndarray[Any, Any] | torch.Tensor"
Noise: TypeAlias = "str | float | Decimal"
_MANIFEST, _WEIGHTS = "model.json", "model.safetensors"


def prepare_training(
    client: Client,
    model: torch.nn.Module | str,
    *,
    datasets: Sequence[str],
    partition: str,
    model_name: str,
    training: Mapping[str, Any] | BaseModel,
    input_shape: tuple[int, ...] | None,
    prepared_with: Sequence[str],
    placement: Placement,
    expires_in_minutes: int | None,
) -> PreparedJob:
    """Prepares a joint training that begins with a module's own weights, or goes on from a model held as shares.

    Raises:
        ConfideError: INVALID_MODEL, INVALID_JOB, UNKNOWN_DATASET, UNKNOWN_MODEL (the researcher's to mend).
    """
    who = placement.require()
    fields: dict[str, Any] = {
        "api_version": API_VERSION,
        "type": "train",
        "computing_parties": list(who.computing_parties),
        "dealer": who.dealer,
        "datasets": list(datasets),
        "partition": partition,
        "model_name": model_name,
        "prepared_with": list(prepared_with),
        "training": _settings(training),
    } | _optional(expires_in_minutes=expires_in_minutes, agreement=who.agreement or None, purpose=who.purpose or None)
    with tempfile.TemporaryDirectory(prefix="confide-") as scratch:
        folder = Path(scratch)
        if isinstance(model, str):
            fields["continues"] = model
        else:
            spec, weights = export_model(model, _input_shape(model, input_shape))
            (folder / _MANIFEST).write_bytes(canonical_bytes(spec.to_document()))
            (folder / _WEIGHTS).write_bytes(weights_to_safetensors(weights, spec))
            fields |= {"manifest": _MANIFEST, "weights": _WEIGHTS}
        return prepare_job(client, _request(TrainRequest, fields), folder=folder, now=datetime.now(UTC))


def prepare_evaluation(
    client: Client,
    model: str,
    *,
    datasets: Sequence[str],
    partition: str,
    outputs: Sequence[str | Mapping[str, object]] | None,
    min_cell: int | None,
    noise: Noise | None,
    noise_colluders: int | None,
    rows_per_person: int | None,
    placement: Placement,
    expires_in_minutes: int | None,
) -> PreparedJob:
    """Prepares a joint evaluation by the parties that hold the model.

    Raises:
        ConfideError: INVALID_JOB, UNKNOWN_DATASET, UNKNOWN_MODEL (the researcher's to mend).
    """
    fields = _use(client, model, placement) | {"type": "evaluate", "datasets": list(datasets), "partition": partition}
    fields |= _optional(
        outputs=None if outputs is None else list(outputs), min_cell=min_cell, expires_in_minutes=expires_in_minutes
    )
    fields |= _decimal_texts(_optional(noise=noise, noise_colluders=noise_colluders, rows_per_person=rows_per_person))
    return prepare_job(client, _request(EvaluateRequest, fields), folder=Path(), now=datetime.now(UTC))


def prepare_assessment(
    client: Client,
    model: str,
    *,
    datasets: Sequence[str],
    members: Sequence[str],
    attack: str | None,
    shadows: int | None,
    thresholds: Sequence[str] | None,
    min_cell: int | None,
    placement: Placement,
    expires_in_minutes: int | None,
) -> PreparedJob:
    """Prepares a membership attack by the parties that hold the model.

    Raises:
        ConfideError: INVALID_JOB, UNKNOWN_DATASET, UNKNOWN_MODEL (the researcher's to mend).
    """
    fields = _use(client, model, placement) | {"type": "assess", "datasets": list(datasets), "members": list(members)}
    fields |= _optional(
        attack=attack,
        shadows=shadows,
        thresholds=None if thresholds is None else list(thresholds),
        min_cell=min_cell,
        expires_in_minutes=expires_in_minutes,
    )
    return prepare_job(client, _request(AssessRequest, fields), folder=Path(), now=datetime.now(UTC))


def prepare_summary(
    client: Client,
    *,
    datasets: Sequence[str],
    groups: str,
    clusters: int | None,
    iterations: int | None,
    partition: str,
    min_cell: int | None,
    noise: Noise | None,
    noise_colluders: int | None,
    rows_per_person: int | None,
    placement: Placement,
    expires_in_minutes: int | None,
) -> PreparedJob:
    """Prepares a joint summary of data sets.

    Raises:
        ConfideError: INVALID_JOB, UNKNOWN_DATASET (the researcher's to mend).
    """
    who = placement.require()
    fields: dict[str, Any] = {
        "api_version": API_VERSION,
        "type": "summarise",
        "computing_parties": list(who.computing_parties),
        "dealer": who.dealer,
        "datasets": list(datasets),
        "partition": partition,
        "groups": groups,
    }
    fields |= _optional(clusters=clusters, iterations=iterations, min_cell=min_cell, expires_in_minutes=expires_in_minutes)
    fields |= _decimal_texts(_optional(noise=noise, noise_colluders=noise_colluders, rows_per_person=rows_per_person))
    fields |= _optional(agreement=who.agreement or None, purpose=who.purpose or None)
    return prepare_job(client, _request(SummariseRequest, fields), folder=Path(), now=datetime.now(UTC))


def prepare_inference(
    client: Client,
    model: str,
    samples: Samples,
    *,
    output: str,
    constraint: AnswerOptions,
    placement: Placement,
    expires_in_minutes: int | None,
) -> PreparedJob:
    """Prepares a private inference on samples that never leave as values.

    Args:
        client: the researcher's connections.
        model: `name@version`.
        samples: secret.
        output: the kind.
        constraint: of the output, what is not None.
        placement: who computes and deals.
        expires_in_minutes: until when everybody must have agreed and begun.

    Raises:
        ConfideError: INVALID_DATA, INVALID_JOB, UNKNOWN_MODEL (the researcher's to mend).
    """
    fields = _use(client, model, placement) | {"type": "infer", "samples": "(in memory)", "output": output}
    fields |= _decimal_texts(_optional(**constraint))
    request = _request(InferRequest, fields | _optional(expires_in_minutes=expires_in_minutes))
    return prepare_job(client, request, folder=Path(), now=datetime.now(UTC), samples=rows_of(samples))


def prepare_file(
    client: Client,
    model: str,
    samples: Path,
    *,
    output: str,
    constraint: AnswerOptions,
    placement: Placement,
) -> PreparedJob:
    """Prepares a private inference on the samples of a file; arguments and failures as for `prepare_inference`."""
    fields = _use(client, model, placement) | {"type": "infer", "samples": samples.name, "output": output}
    request = _request(InferRequest, fields | _decimal_texts(_optional(**constraint)))
    return prepare_job(client, request, folder=samples.parent, now=datetime.now(UTC))


def prepare_serving(
    client: Client,
    model: str,
    *,
    output: str,
    constraint: AnswerOptions,
    serving: Mapping[str, int | None],
    placement: Placement,
) -> PreparedJob:
    """Prepares a serving.

    Args:
        client: the researcher's connections.
        model: `name@version`.
        output: the kind.
        constraint: of the output, what is not None.
        serving: how long and how much, by the names of `Serving`, those that are not None.
        placement: who computes and deals.

    Raises:
        ConfideError: INVALID_JOB, UNKNOWN_MODEL (the researcher's to mend).
    """
    fields = _use(client, model, placement) | {"type": "serve", "output": output, "serving": _optional(**serving)}
    fields |= _decimal_texts(_optional(**constraint))
    return prepare_job(client, _request(ServeRequest, fields), folder=Path(), now=datetime.now(UTC))


def rows_of(samples: Samples) -> pd.DataFrame | np.ndarray[Any, Any]:
    """Returns samples as they are prepared: a frame keeps its columns, a tensor gives its values."""
    return samples if is_frame(samples) else np.asarray(samples)


def as_given(values: Values, samples: Samples, *, output: str) -> Samples:
    """Returns predictions in the form that the samples had: a frame with their index, a tensor, or an array.

    Args:
        values: (rows,) or, with one column a class, (rows, classes).
        samples: what was asked about.
        output: the kind of output; names the columns.
    """
    if is_frame(samples):
        import pandas as pd

        wide = values.ndim == 2
        names = [f"{output}_{number}" for number in range(values.shape[1])] if wide else [output]
        return pd.DataFrame(values, index=samples.index, columns=pd.Index(names))
    if isinstance(samples, np.ndarray):
        return values
    import torch

    return torch.tensor(values)


def _use(client: Client, model: str, placement: Placement) -> dict[str, Any]:
    who = placement.or_else(Placement(() if placement.computing_parties else find_model(client, model).computing_parties))
    who = who.require()
    return {
        "api_version": API_VERSION,
        "model": model,
        "computing_parties": list(who.computing_parties),
        "dealer": who.dealer,
    } | _optional(agreement=who.agreement or None, purpose=who.purpose or None)


def _request(kind: type[Any], fields: Mapping[str, Any]) -> Any:
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [
            Problem(".".join(str(part) for part in item["loc"]), item["msg"], "see the requests in docs/jobs.md")
            for item in found
        ]
        raise ConfideError(ErrorCode.INVALID_JOB, f"{len(problems)} problem(s) in the request", problems=problems) from error


def _settings(training: Mapping[str, Any] | BaseModel) -> Any:
    if isinstance(training, BaseModel):
        return training.model_dump(exclude_none=True, exclude_unset=True)
    return _decimal_texts(training)


def _decimal_texts(value: Any) -> Any:
    """Writes floats as the decimals that a person would write, since every party must read the same digits."""
    if isinstance(value, float | Decimal):
        return format(Decimal(str(value)), "f")
    if isinstance(value, Mapping):
        return {name: _decimal_texts(item) for name, item in value.items()}
    return value


def _optional(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _input_shape(module: torch.nn.Module, given: tuple[int, ...] | None) -> tuple[int, ...]:
    import torch

    if not isinstance(module, torch.nn.Module):
        what = "the model is neither a torch.nn.Module nor the name of a model held as shares"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Pass a module, or name@version.")
    if given is not None:
        return tuple(given)
    first = next((part for part in module.modules() if isinstance(part, LAYERS)), None)
    if isinstance(first, torch.nn.Linear):
        return (first.in_features,)
    what = (
        "the module has no layer with weights"
        if first is None
        else f"rows of what shape {type(first).__name__} takes is not known"
    )
    raise ConfideError(ErrorCode.INVALID_MODEL, what, remedy="Pass input_shape, for example (1, 28, 28).")


def is_frame(samples: Samples) -> TypeGuard[pd.DataFrame]:
    """Returns whether samples are a frame."""
    return hasattr(samples, "columns")
