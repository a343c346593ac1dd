"""From a researcher's request to a complete job: fetches the public descriptions that the job must name."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from governance.lineage.alias import AliasName
from parties.client.agreements import NO_AGREEMENT, NO_PURPOSE, agree_by, under_agreement
from parties.client.aliases import ALIASES, resolve_alias
from parties.client.answer_request import answer_output
from parties.client.asked_outputs import evaluation_outputs, output_name, pooling_of
from parties.client.client import Client, PreparedJob
from parties.client.preparations import preparations_of
from parties.client.private_request import with_privacy
from parties.client.requests import (
    AssessRequest,
    EvaluateRequest,
    InferRequest,
    JobRequest,
    ReleaseRequest,
    ServeRequest,
    SummariseRequest,
    TrainRequest,
)
from parties.client.risk import usual_thresholds
from parties.storage.files import read_public
from parties.wire.generated.confide.v1 import party_pb2
from privacy.accounting.statement import claim_problems
from privacy.preparation.contract import Samples, prepare_query
from privacy.preparation.fit import check_fit
from privacy.preparation.parts import arrangement_problems, column_problems, join_schemas
from privacy.preparation.query_commitment import SALT_BYTES, commit_query
from privacy.preparation.schema import TableSchema
from privacy.preparation.table import Content, FileFormat, read_table
from protocols.canonical import parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import (
    Assessment,
    DatasetRef,
    Job,
    JobType,
    ModelRef,
    Output,
    OutputKind,
    Partition,
    Summary,
    Task,
    check,
)
from protocols.model.layers import Flatten
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors
from protocols.partition_checks import check_parts
from protocols.plan.ranges import ranges_of, refuse_overflow

MAX_FILE_BYTES = 64 << 20
DEFAULT_ITERATIONS = 20  # of moving the means of clusters
_SHOWN_MODELS = 10  # of those that a party holds, where the one asked for is not among them


@dataclass(frozen=True)
class _Known:
    """What the parties say of a model that they hold; public."""

    ref: ModelRef
    spec: ModelSpec
    schema: dict[str, Any]
    steps: int


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
    expires = created + timedelta(minutes=request.expires_in_minutes)
    common: dict[str, Any] = {
        "consortium": client.directory.consortium,
        "directory_version": client.directory.version,
        "agreement": NO_AGREEMENT,
        "purpose": NO_PURPOSE,
        "job_type": JobType(request.type),
        "querier": client.researcher,
        "computing_parties": tuple(request.computing_parties),
        "dealer": request.dealer,
        "created": created,
        "agree_by": agree_by(created, expires=expires, minutes=request.agree_within_minutes),
        "expires": expires,
        "nonce": secrets.token_hex(16),
        "initial_weights_sha256": None,
        "model_name": None,
        "model_ref": None,
        "training": None,
        "resumes": None,
        "query_rows": None,
        "query_commitment": None,
        "serving": None,
        "datasets": (),
        "partition": Partition.ROWS,
        "outputs": (),
    }
    match request:
        case TrainRequest():
            prepared = _train(client, request, folder, common)
        case EvaluateRequest():
            prepared = _evaluate(client, request, common)
        case AssessRequest():
            prepared = _assess(client, request, common)
        case SummariseRequest():
            prepared = _summarise(client, request, common)
        case InferRequest():
            prepared = _infer(client, request, folder, common, samples)
        case ServeRequest():
            prepared = _serve(client, request, common)
        case ReleaseRequest():
            prepared = _release(client, request, common)
    problems = (*check(prepared.job), *check_fit(prepared.job))
    if problems:
        raise ConfideError(ErrorCode.INVALID_JOB, f"{len(problems)} problem(s) in the request", problems=problems)
    if claims := tuple(claim_problems(prepared.job)):
        raise ConfideError(ErrorCode.INVALID_JOB, "the request claims more privacy than it gives", problems=claims)
    weights = weights_from_safetensors(prepared.initial_weights, prepared.job.model) if prepared.initial_weights else None
    ranges = ranges_of(prepared.job, weights)
    refuse_overflow(ranges)
    job = under_agreement(client, prepared.job, agreement=request.agreement, purpose=request.purpose, now=now)
    return replace(prepared, job=job, ranges=ranges)


def read_samples(path: Path, schema: TableSchema) -> Samples:
    """Reads a researcher's samples, secret, from a CSV or Parquet file.

    Raises:
        ConfideError: INVALID_DATA or INVALID_ARGUMENT (the researcher's): the file.
    """
    file_format = FileFormat.PARQUET if path.suffix == ".parquet" else FileFormat.CSV
    data = read_public(path, max_bytes=MAX_FILE_BYTES)
    return read_table(data, schema, content=Content.SAMPLES, file_format=file_format)


def _train(client: Client, request: TrainRequest, folder: Path, common: dict[str, Any]) -> PreparedJob:
    refs, schemas = dataset_refs(client, request.datasets)
    partition = Partition(request.partition)
    start: dict[str, Any]
    weights, steps = b"", 0
    if request.continues is not None:
        known = _model(client, request.continues, request.computing_parties)
        schema = _schema_of_rows(refs, schemas, partition, model=known.schema)
        if known.schema != schema:
            what = f"the data sets follow another schema than {request.continues}"
            raise ConfideError(ErrorCode.INVALID_JOB, what, remedy="Name data sets registered under the model's schema.")
        start, steps = {"model": known.spec, "model_ref": known.ref}, known.steps
    else:
        schema = _schema_of_rows(refs, schemas, partition, model=None)
        model = _manifest(folder / (request.manifest or ""))
        weights = read_public(folder / (request.weights or ""), max_bytes=MAX_FILE_BYTES)
        weights_from_safetensors(weights, model)
        start = {"model": model, "initial_weights_sha256": sha256_hex(weights)}
    task = _task(schema)
    training = request.training.training(task=task, shuffle_seed=secrets.token_hex(16), steps_before=steps)
    rows = {"datasets": refs, "partition": partition, "schema": schema, "task": task}
    prepared_with = preparations_of(client, request.prepared_with, schema_name=str(schema.get("name", "")), rows=refs)
    fields = {"training": training, "model_name": request.model_name, "prepared_with": prepared_with}
    job = Job(**common | start | rows | fields)
    privacy = request.training.privacy
    return PreparedJob(job if privacy is None else with_privacy(job, privacy), initial_weights=weights)


def _evaluate(client: Client, request: EvaluateRequest, common: dict[str, Any]) -> PreparedJob:
    known = _model(client, request.model, request.computing_parties)
    task = _task(known.schema)
    refs, schemas = dataset_refs(client, request.datasets)
    partition = Partition(request.partition)
    if partition is Partition.COLUMNS:
        _schema_of_rows(refs, schemas, partition, model=known.schema)
    pooling = pooling_of(request, refs)
    outputs = tuple(evaluation_outputs(client, request, TableSchema.from_document(known.schema), pooling=pooling))
    what = {"model": known.spec, "schema": known.schema, "task": task, "model_ref": known.ref}
    return PreparedJob(Job(**common | what | {"datasets": refs, "partition": partition, "outputs": outputs}))


def _assess(client: Client, request: AssessRequest, common: dict[str, Any]) -> PreparedJob:
    known = _model(client, request.model, request.computing_parties)
    refs, _ = dataset_refs(client, request.datasets)
    kind = OutputKind.ATTACK_COUNTS
    output = Output(output_name(kind), kind, client.researcher, request.min_cell)
    what = {"model": known.spec, "schema": known.schema, "task": _task(known.schema), "model_ref": known.ref}
    rows = {"datasets": refs, "outputs": (output,), "assessment": assessment_of(request, refs)}
    return PreparedJob(Job(**common | what | rows))


def assessment_of(request: AssessRequest, refs: Sequence[DatasetRef]) -> Assessment:
    """Returns the terms of an assessment by the rows of these data sets, in this order."""
    members = {name.partition("/")[::2] for name in request.members}
    return Assessment(
        members=tuple(place for place, ref in enumerate(refs) if (ref.party, ref.name) in members),
        thresholds=tuple(request.thresholds or usual_thresholds(request.attack)),
        attack=request.attack,
        shadows=request.shadows,
    )


def _summarise(client: Client, request: SummariseRequest, common: dict[str, Any]) -> PreparedJob:
    refs, schemas = dataset_refs(client, request.datasets)
    partition = Partition(request.partition)
    document = _schema_of_rows(refs, schemas, partition, model=None)
    schema = TableSchema.from_document(document)
    width = (schema.num_classes or 1) if schema.task is Task.CLASSES else 1
    if request.groups == "labels":
        kind, summary = OutputKind.GROUP_MEANS, Summary(schema.num_classes or 0, width, 0, "")
    elif request.groups == "all":
        kind, summary = OutputKind.MOMENTS, Summary(1, width, 0, "")
    else:
        iterations = DEFAULT_ITERATIONS if request.iterations is None else request.iterations
        kind, summary = OutputKind.CENTROIDS, Summary(request.clusters or 0, width, iterations, secrets.token_hex(16))
    what = {"model": ModelSpec.chain(schema.num_features, rows=Flatten()), "schema": document, "task": schema.task}
    plain = Output(output_name(kind), kind, client.researcher, request.min_cell)
    pooling = pooling_of(request, refs)
    output = replace(plain, noise=request.noise, noise_colluders=pooling, rows_per_person=request.rows_per_person)
    rows = {"datasets": refs, "partition": partition, "outputs": (output,), "summary": summary}
    return PreparedJob(Job(**common | what | rows))


def _infer(client: Client, request: InferRequest, folder: Path, common: dict[str, Any], samples: Samples | None) -> PreparedJob:
    known = _model(client, request.model, request.computing_parties)
    schema = TableSchema.from_document(known.schema)
    query = prepare_query(read_samples(folder / request.samples, schema) if samples is None else samples, schema)
    what = {"model": known.spec, "schema": known.schema, "task": schema.task, "model_ref": known.ref}
    output = _answers(client, request, schema.task)
    salt = secrets.token_bytes(SALT_BYTES)
    asked = {"query_rows": query.num_rows, "query_commitment": commit_query(query.features, salt=salt), "outputs": (output,)}
    return PreparedJob(Job(**common | what | asked), features=query.features, query_salt=salt)


def _serve(client: Client, request: ServeRequest, common: dict[str, Any]) -> PreparedJob:
    known = _model(client, request.model, request.computing_parties)
    task = _task(known.schema)
    output = _answers(client, request, task)
    what = {"model": known.spec, "schema": known.schema, "task": task, "model_ref": known.ref}
    asked = {"serving": request.serving.as_part(), "outputs": (output,)}
    return PreparedJob(Job(**common | what | asked), query_salt=secrets.token_bytes(SALT_BYTES))


def _answers(client: Client, request: InferRequest | ServeRequest, task: Task) -> Output:
    names = {kind: output_name(kind) for kind in OutputKind}
    computing = len(request.computing_parties)
    return answer_output(request, task=task, names=names, recipient=client.researcher, computing=computing)


def _release(client: Client, request: ReleaseRequest, common: dict[str, Any]) -> PreparedJob:
    known = _model(client, request.model, request.computing_parties)
    output = Output(output_name(OutputKind.WEIGHTS), OutputKind.WEIGHTS, client.researcher)
    what = {"model": known.spec, "schema": known.schema, "task": _task(known.schema), "model_ref": known.ref}
    return PreparedJob(Job(**common | what | {"outputs": (output,)}))


def _task(schema: dict[str, Any]) -> Task:
    return TableSchema.from_document(schema).task


def dataset_refs(client: Client, names: Sequence[str]) -> tuple[tuple[DatasetRef, ...], dict[str, TableSchema]]:
    """The data sets that are named, and their schemas by these names."""
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
        schema = schemas[label] = TableSchema.from_document(parse_canonical(found.schema))
        ref = DatasetRef(
            party=party,
            name=name,
            version=found.version,
            num_rows=found.num_rows,
            schema_digest=sha256_hex(found.schema),
            commitment=found.commitment,
            num_features=schema.num_features,
            has_label=schema.has_label,
            alignment=found.alignment,
        )
        refs.append(ref)
    if problems:
        raise ConfideError(ErrorCode.UNKNOWN_DATASET, "data sets of the request are not there", problems=problems)
    return tuple(refs), schemas


def _schema_of_rows(
    refs: tuple[DatasetRef, ...], schemas: dict[str, TableSchema], partition: Partition, *, model: dict[str, Any] | None
) -> dict[str, Any]:
    """The schema of all rows; `model` is that of a model they are for, whose columns joined rows must then have."""
    if partition is Partition.ROWS:
        if len({ref.schema_digest for ref in refs}) != 1:
            remedy = "Register them under one, or write partition: columns if they are different columns of the same rows."
            raise ConfideError(ErrorCode.INVALID_JOB, "the data sets follow different schemas", remedy=remedy)
        return next(iter(schemas.values())).to_document()
    problems = [*check_parts(refs), *column_problems(schemas)]
    if model is not None:
        problems += arrangement_problems(schemas, TableSchema.from_document(model))
    if problems:
        what = f"{len(problems)} problem(s) with the data sets as columns of the same rows"
        raise ConfideError(ErrorCode.INVALID_JOB, what, problems=problems)
    return join_schemas(schemas).to_document() if model is None else model


def _model(client: Client, label: str, parties: Sequence[str]) -> _Known:
    name, _, called = label.partition("@")
    held = {party: client.models(party) for party in parties}
    version = resolve_alias(held, name, AliasName(called)) if called in ALIASES else called
    found = []
    for party in parties:
        matching = [model for model in held[party] if (model.name, model.version) == (name, version)]
        if not matching:
            choice = ", ".join(f"{model.name}@{model.version}" for model in held[party][:_SHOWN_MODELS]) or "none"
            problem = Problem(party, "holds no share of it", f"it holds shares of {choice}")
            raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"{party} holds no share of {label}", problems=[problem], party=party)
        found.append((matching[0].manifest, matching[0].schema, matching[0].steps))
    if len(set(found)) != 1:
        raise ConfideError(ErrorCode.PLAN_DIFFERS, f"the parties describe {label} differently")
    manifest, schema, steps = found[0]
    spec = ModelSpec.from_document(parse_canonical(manifest))
    return _Known(ModelRef(name, version), spec, parse_canonical(schema), steps)


def _manifest(path: Path) -> ModelSpec:
    try:
        document = json.loads(read_public(path, max_bytes=MAX_FILE_BYTES))
    except ValueError as error:
        raise ConfideError(ErrorCode.INVALID_MODEL, f"{path} is not JSON") from error
    if not isinstance(document, dict):
        raise ConfideError(ErrorCode.INVALID_MODEL, f"{path} is no manifest")
    return ModelSpec.from_document(document)
