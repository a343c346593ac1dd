"""From a researcher's request to a complete job: fetches the public descriptions that the job must name."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from parties.client.client import Client, PreparedJob
from parties.client.requests import EvaluateRequest, InferRequest, JobRequest, TrainRequest
from parties.storage.files import read_public
from parties.wire.generated.confide.v1 import party_pb2
from privacy.preparation.contract import Samples, prepare_query
from privacy.preparation.schema import TableSchema
from privacy.preparation.table import Content, FileFormat, read_table
from protocols.canonical import parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import DatasetRef, Job, JobType, ModelRef, Output, OutputKind, Training, check
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors

MAX_FILE_BYTES = 64 << 20
COUNT_OUTPUT = "correct"
PREDICTION_OUTPUT = "prediction"
_SHOWN_MODELS = 10  # of those that a party holds, where the one asked for is not among them


def prepare_job(
    client: Client, request: JobRequest, *, folder: Path, now: datetime, samples: Samples | None = None
) -> PreparedJob:
    """Completes a request; nothing is sent but questions for public descriptions.

    Args:
        client: the researcher's connections.
        request: what she wants.
        folder: where the files that the request names lie.
        now: the time, UTC.
        samples: for an inference, her samples in place of the file that the request names; secret.

    Raises:
        ConfideError: INVALID_JOB, INVALID_MODEL, INVALID_DATA, UNKNOWN_DATASET, UNKNOWN_MODEL (the researcher's to mend), or
            a party that cannot be asked.
    """
    created = now.replace(microsecond=0)
    common: dict[str, Any] = {
        "consortium": client.directory.consortium,
        "directory_version": client.directory.version,
        "job_type": JobType(request.type),
        "querier": client.researcher,
        "computing_parties": tuple(request.computing_parties),
        "dealer": request.dealer,
        "created": created,
        "expires": created + timedelta(minutes=request.expires_in_minutes),
        "nonce": secrets.token_hex(16),
        "initial_weights_sha256": None,
        "model_name": None,
        "model_ref": None,
        "training": None,
        "query_rows": None,
        "datasets": (),
        "outputs": (),
    }
    match request:
        case TrainRequest():
            prepared = _train(client, request, folder, common)
        case EvaluateRequest():
            prepared = _evaluate(client, request, common)
        case InferRequest():
            prepared = _infer(client, request, folder, common, samples)
    problems = tuple(check(prepared.job))
    if problems:
        raise ConfideError(ErrorCode.INVALID_JOB, f"{len(problems)} problem(s) in the request", problems=problems)
    return prepared


def _train(client: Client, request: TrainRequest, folder: Path, common: dict[str, Any]) -> PreparedJob:
    model = _manifest(folder / request.manifest)
    weights = read_public(folder / request.weights, max_bytes=MAX_FILE_BYTES)
    weights_from_safetensors(weights, model)
    refs, schema = _datasets(client, request.datasets)
    training = Training(
        epochs=request.training.epochs,
        batch_size=request.training.batch_size,
        learning_rate=request.training.learning_rate,
        momentum=request.training.momentum,
        shuffle_seed=secrets.token_hex(16),
    )
    job = Job(
        **common
        | {
            "model": model,
            "schema": schema,
            "datasets": refs,
            "training": training,
            "model_name": request.model_name,
            "initial_weights_sha256": sha256_hex(weights),
        }
    )
    return PreparedJob(job, initial_weights=weights)


def _evaluate(client: Client, request: EvaluateRequest, common: dict[str, Any]) -> PreparedJob:
    ref, model, schema = _model(client, request.model, request.computing_parties)
    refs, _ = _datasets(client, request.datasets)
    outputs = (Output(COUNT_OUTPUT, OutputKind.CORRECT_COUNT, client.researcher),)
    return PreparedJob(Job(**common | {"model": model, "schema": schema, "datasets": refs, "model_ref": ref, "outputs": outputs}))


def _infer(client: Client, request: InferRequest, folder: Path, common: dict[str, Any], samples: Samples | None) -> PreparedJob:
    ref, model, schema = _model(client, request.model, request.computing_parties)
    table_schema = TableSchema.from_document(schema)
    if samples is None:
        path = folder / request.samples
        file_format = FileFormat.PARQUET if path.suffix == ".parquet" else FileFormat.CSV
        data = read_public(path, max_bytes=MAX_FILE_BYTES)
        samples = read_table(data, table_schema, content=Content.SAMPLES, file_format=file_format)
    query = prepare_query(samples, table_schema)
    outputs = (Output(PREDICTION_OUTPUT, OutputKind(request.output), client.researcher),)
    job = Job(**common | {"model": model, "schema": schema, "model_ref": ref, "query_rows": query.num_rows, "outputs": outputs})
    return PreparedJob(job, features=query.features)


def _datasets(client: Client, names: Sequence[str]) -> tuple[tuple[DatasetRef, ...], dict[str, Any]]:
    refs, schemas, problems = [], {}, []
    listed: dict[str, dict[str, party_pb2.Dataset]] = {}
    for label in names:
        party, name = label.split("/")
        if party not in listed:
            listed[party] = {dataset.name: dataset for dataset in client.datasets(party)}
        found = listed[party].get(name)
        if found is None:
            problems.append(Problem(label, "not registered", f"choose among {', '.join(listed[party]) or 'none'}"))
            continue
        digest = sha256_hex(found.schema)
        schemas[digest] = found.schema
        refs.append(DatasetRef(party, name, found.version, found.num_rows, digest, found.commitment))
    if problems:
        raise ConfideError(ErrorCode.UNKNOWN_DATASET, "data sets of the request are not there", problems=problems)
    if len(schemas) != 1:
        raise ConfideError(ErrorCode.INVALID_JOB, "the data sets follow different schemas", remedy="register them under one")
    return tuple(refs), parse_canonical(next(iter(schemas.values())))


def _model(client: Client, label: str, parties: Sequence[str]) -> tuple[ModelRef, ModelSpec, dict[str, Any]]:
    name, version = label.split("@")
    found = []
    for party in parties:
        held = client.models(party)
        matching = [model for model in held if (model.name, model.version) == (name, version)]
        if not matching:
            choice = ", ".join(f"{model.name}@{model.version}" for model in held[:_SHOWN_MODELS]) or "none"
            problem = Problem(party, "holds no share of it", f"it holds shares of {choice}")
            raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"{party} holds no share of {label}", problems=[problem], party=party)
        found.append((matching[0].manifest, matching[0].schema))
    if len(set(found)) != 1:
        raise ConfideError(ErrorCode.PLAN_DIFFERS, f"the parties describe {label} differently")
    manifest, schema = found[0]
    return ModelRef(name, version), ModelSpec.from_document(parse_canonical(manifest)), parse_canonical(schema)


def _manifest(path: Path) -> ModelSpec:
    try:
        document = json.loads(read_public(path, max_bytes=MAX_FILE_BYTES))
    except ValueError as error:
        raise ConfideError(ErrorCode.INVALID_MODEL, f"{path} is not JSON") from error
    if not isinstance(document, dict):
        raise ConfideError(ErrorCode.INVALID_MODEL, f"{path} is no manifest")
    return ModelSpec.from_document(document)
