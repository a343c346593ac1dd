"""The job: what a querier asks the parties to compute, as one document.

A job is data, never code. It names everything that its plan follows from, so that every party derives the same plan from it
without any secret; the querier signs it and every party countersigns it. One job leads to one session, whose id is the job's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job_fields import ID_PATTERN as ID_PATTERN  # others take both from here: they are part of the job's format
from protocols.job_fields import TIME_FORMAT as TIME_FORMAT
from protocols.job_fields import (
    check_decimal,
    check_hex,
    check_id,
    read_fields,
    read_items,
    read_object,
    read_optional_text,
    read_optional_whole,
    read_text,
    read_time,
    read_whole,
)
from protocols.model.spec import LayerKind, ModelSpec

FORMAT = "confide.job/1"
MAX_EPOCHS = 1_000
MAX_BATCH = 65_536
MAX_ROWS = 10_000_000
MAX_QUERY_ROWS = 10_000
MAX_DATASETS = 64
MAX_COMPUTING_PARTIES = 8
MAX_OUTPUTS = 8
MAX_LIFETIME_S = 7 * 24 * 3600


class JobType(Enum):
    """What is computed."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    INFER = "infer"


class OutputKind(Enum):
    """What an output is, after its constraint has been computed in shares."""

    CORRECT_COUNT = "correct_count"  # evaluate: one integer, how many rows are predicted correctly
    LABEL = "label"  # infer: 0 or 1 per sample
    PROBABILITY = "probability"  # infer: the model's probability per sample


@dataclass(frozen=True)
class DatasetRef:
    """A registered data set, as its owner describes it to everybody; public.

    Attributes:
        party: its owner.
        name: its name at the owner.
        version: counts registrations under this name, from 1.
        num_rows: rows that passed the contract.
        schema_digest: SHA-256 of the schema document, 64 hexadecimal digits.
        commitment: salted commitment to the prepared rows, 64 hexadecimal digits; the salt stays with the owner.
    """

    party: str
    name: str
    version: int
    num_rows: int
    schema_digest: str
    commitment: str


@dataclass(frozen=True)
class ModelRef:
    """A trained model held as shares; public. `version` is the id of the training job, cut to 12 digits."""

    name: str
    version: str

    @property
    def label(self) -> str:
        """How requests and people name it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Training:
    """Public hyper-parameters of mini-batch SGD with momentum; decimals are strings as the querier wrote them."""

    epochs: int
    batch_size: int
    learning_rate: str
    momentum: str
    shuffle_seed: str  # 32 hexadecimal digits, public: the order of the rows is no secret


@dataclass(frozen=True)
class Output:
    """Something opened at the end, to one recipient."""

    name: str
    kind: OutputKind
    recipient: str


@dataclass(frozen=True)
class Job:
    """A job document; every field is public.

    Attributes:
        consortium: id of the consortium.
        directory_version: the version of the directory that the querier used.
        job_type: what is computed.
        querier: researcher id.
        computing_parties: party ids in order; the first leads.
        dealer: party id, none of the computing parties.
        datasets: rows to train or evaluate on, in order; empty for inference.
        schema: the schema document that all data sets and query rows follow.
        model: the architecture.
        initial_weights_sha256: train only: digest of the public initial weights (safetensors) sent with the job.
        model_name: train only: the name under which the shares are kept.
        model_ref: evaluate and infer: the model to use.
        training: train only.
        query_rows: infer only: how many samples will be shared.
        outputs: what is opened and to whom.
        created: when the querier made it, UTC, whole seconds.
        expires: after this nobody starts it.
        nonce: 32 hexadecimal digits; makes equal requests distinct jobs.
    """

    consortium: str
    directory_version: int
    job_type: JobType
    querier: str
    computing_parties: tuple[str, ...]
    dealer: str
    datasets: tuple[DatasetRef, ...]
    schema: Document
    model: ModelSpec
    initial_weights_sha256: str | None
    model_name: str | None
    model_ref: ModelRef | None
    training: Training | None
    query_rows: int | None
    outputs: tuple[Output, ...]
    created: datetime
    expires: datetime
    nonce: str

    @property
    def lead(self) -> str:
        """The computing party that orders the session's messages."""
        return self.computing_parties[0]

    @property
    def participants(self) -> tuple[str, ...]:
        """All parties of the session: computing parties, dealer, then owners that are neither, in order, once each."""
        owners = (dataset.party for dataset in self.datasets)
        return tuple(dict.fromkeys((*self.computing_parties, self.dealer, *owners)))

    @property
    def num_rows(self) -> int:
        """Rows over all data sets."""
        return sum(dataset.num_rows for dataset in self.datasets)

    @property
    def job_id(self) -> str:
        """The session id: the first 32 hexadecimal digits of the digest."""
        return self.digest[:32]

    @property
    def digest(self) -> str:
        """SHA-256 of the job's canonical bytes."""
        return sha256_hex(self.to_bytes())

    @property
    def produced_model(self) -> ModelRef | None:
        """The model version that a completed training job leaves behind."""
        return None if self.model_name is None else ModelRef(self.model_name, self.job_id[:12])

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    def to_document(self) -> dict[str, Any]:
        """Returns the job as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "directory_version": self.directory_version,
            "type": self.job_type.value,
            "querier": self.querier,
            "computing_parties": list(self.computing_parties),
            "dealer": self.dealer,
            "datasets": [vars(dataset) for dataset in self.datasets],
            "schema": dict(self.schema),
            "model": self.model.to_document(),
            "initial_weights_sha256": self.initial_weights_sha256,
            "model_name": self.model_name,
            "model_ref": None if self.model_ref is None else vars(self.model_ref),
            "training": None if self.training is None else vars(self.training),
            "query_rows": self.query_rows,
            "outputs": [{"name": o.name, "kind": o.kind.value, "recipient": o.recipient} for o in self.outputs],
            "created": self.created.strftime(TIME_FORMAT),
            "expires": self.expires.strftime(TIME_FORMAT),
            "nonce": self.nonce,
        }

    @staticmethod
    def from_bytes(data: bytes) -> Job:
        """Reads a job and checks everything that needs no other knowledge; reports all problems at once.

        Raises:
            ConfideError: INVALID_DOCUMENT or INVALID_JOB or INVALID_MODEL (the querier's fault).
        """
        job = _from_document(parse_canonical(data))
        problems = tuple(check(job))
        if problems:
            raise ConfideError(ErrorCode.INVALID_JOB, f"{len(problems)} problem(s) in the job", problems=problems)
        return job


def _from_document(document: Document) -> Job:
    keys = {
        "format", "consortium", "directory_version", "type", "querier", "computing_parties", "dealer", "datasets", "schema",
        "model", "initial_weights_sha256", "model_name", "model_ref", "training", "query_rows", "outputs", "created", "expires",
        "nonce",
    }  # fmt: skip
    unknown, missing = sorted(set(document) - keys), sorted(keys - set(document))
    if unknown or missing:
        problems = [Problem(key, "unknown field", "remove it") for key in unknown]
        problems += [Problem(key, "missing field", "add it") for key in missing]
        raise ConfideError(ErrorCode.INVALID_JOB, "the job has not the fields of a job", problems=problems)
    if document["format"] != FORMAT:
        raise ConfideError(ErrorCode.INVALID_JOB, f"this version reads jobs of format {FORMAT}")
    try:
        return Job(
            consortium=read_text(document["consortium"]),
            directory_version=read_whole(document["directory_version"]),
            job_type=JobType(document["type"]),
            querier=read_text(document["querier"]),
            computing_parties=tuple(read_text(p) for p in read_items(document["computing_parties"], MAX_COMPUTING_PARTIES)),
            dealer=read_text(document["dealer"]),
            datasets=tuple(_dataset(d) for d in read_items(document["datasets"], MAX_DATASETS)),
            schema=read_object(document["schema"]),
            model=ModelSpec.from_document(read_object(document["model"])),
            initial_weights_sha256=read_optional_text(document["initial_weights_sha256"]),
            model_name=read_optional_text(document["model_name"]),
            model_ref=None if document["model_ref"] is None else read_fields(ModelRef, document["model_ref"], "ss"),
            training=None if document["training"] is None else read_fields(Training, document["training"], "iisss"),
            query_rows=read_optional_whole(document["query_rows"]),
            outputs=tuple(_output(o) for o in read_items(document["outputs"], MAX_OUTPUTS)),
            created=read_time(document["created"]),
            expires=read_time(document["expires"]),
            nonce=read_text(document["nonce"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ConfideError(ErrorCode.INVALID_JOB, f"a field of the job has the wrong type or value: {error}") from error


def check(job: Job) -> Iterable[Problem]:
    """Yields everything wrong with a job that shows in the job alone."""
    for where, value in (("consortium", job.consortium), ("querier", job.querier), ("dealer", job.dealer)):
        yield from check_id(where, value)
    for party in job.computing_parties:
        yield from check_id("computing_parties", party)
    if len(job.computing_parties) < 2 or len(set(job.computing_parties)) != len(job.computing_parties):
        yield Problem("computing_parties", "at least two different parties compute", "name them in order, the lead first")
    if job.dealer in job.computing_parties:
        yield Problem("dealer", "the dealer computes too and would read everything", "name a party that does not compute")
    if not 0 < (job.expires - job.created).total_seconds() <= MAX_LIFETIME_S:
        yield Problem("expires", "a job lives between a second and seven days", "choose a time after created")
    yield from check_hex("nonce", job.nonce, 32)
    yield from _check_datasets(job)
    names = [output.name for output in job.outputs]
    if len(set(names)) != len(names):
        yield Problem("outputs", "two outputs have the same name", "rename one")
    for output in job.outputs:
        yield from check_id("outputs.name", output.name)
        if output.recipient != job.querier:
            yield Problem(f"outputs.{output.name}", "the recipient is not the querier", "open outputs to the querier alone")
    if job.model.output_features != 1:
        yield Problem("model", "a binary classifier has one output", "end the model with one output feature")
    yield from _CHECKS[job.job_type](job)


def _check_train(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "model_ref", "query_rows")
    if job.outputs:
        yield Problem("outputs", "training opens nothing", "leave it empty; use an evaluate job")
    if job.model_name is None:
        yield Problem("model_name", "missing", "name the model to be kept")
    else:
        yield from check_id("model_name", job.model_name)
    yield from check_hex("initial_weights_sha256", job.initial_weights_sha256 or "", 64)
    linear = [layer for layer in job.model.layers if layer.kind is LayerKind.LINEAR]
    if len(linear) != 1 or job.model.layers[0].kind is not LayerKind.LINEAR or len(job.model.layers) > 2:
        yield Problem("model", "training covers logistic regression so far", "use one linear layer, with or without a sigmoid")
    if job.training is None:
        yield Problem("training", "missing", "give epochs, batch size, learning rate, momentum and shuffle seed")
        return
    training = job.training
    for where, value, most in (("epochs", training.epochs, MAX_EPOCHS), ("batch_size", training.batch_size, MAX_BATCH)):
        if not 1 <= value <= most:
            yield Problem(f"training.{where}", f"{value} is outside 1 to {most}", "choose a value inside")
    yield from check_decimal("training.learning_rate", training.learning_rate, Decimal("0.000001"), Decimal(16))
    yield from check_decimal("training.momentum", training.momentum, Decimal(0), Decimal("0.999"))
    yield from check_hex("training.shuffle_seed", training.shuffle_seed, 32)


def _check_evaluate(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "initial_weights_sha256", "model_name", "training", "query_rows")
    yield from _check_model_ref(job)
    if [output.kind for output in job.outputs] != [OutputKind.CORRECT_COUNT]:
        yield Problem("outputs", "an evaluation opens one count of correct predictions", "declare one correct_count")


def _check_infer(job: Job) -> Iterable[Problem]:
    yield from _absent(job, "initial_weights_sha256", "model_name", "training")
    yield from _check_model_ref(job)
    if job.query_rows is None or not 1 <= job.query_rows <= MAX_QUERY_ROWS:
        yield Problem("query_rows", f"must be 1 to {MAX_QUERY_ROWS}", "say how many samples you will share")
    if len(job.outputs) != 1 or job.outputs[0].kind is OutputKind.CORRECT_COUNT:
        yield Problem("outputs", "an inference opens labels or probabilities", "declare one output of kind label or probability")


_CHECKS = {JobType.TRAIN: _check_train, JobType.EVALUATE: _check_evaluate, JobType.INFER: _check_infer}


def _check_datasets(job: Job) -> Iterable[Problem]:
    if (job.job_type is JobType.INFER) != (not job.datasets):
        yield Problem("datasets", "training and evaluation need data sets, inference takes none", "correct the list")
    schema_digest = sha256_hex(canonical_bytes(job.schema))
    seen = set()
    for dataset in job.datasets:
        where = f"datasets.{dataset.party}.{dataset.name}"
        yield from check_id("datasets.party", dataset.party)
        yield from check_id("datasets.name", dataset.name)
        yield from check_hex(f"{where}.commitment", dataset.commitment, 64)
        if dataset.schema_digest != schema_digest:
            yield Problem(where, "its schema is not the job's", "use data sets registered under one schema")
        if not 1 <= dataset.num_rows <= MAX_ROWS or dataset.version < 1:
            yield Problem(where, "rows or version out of range", "copy the owner's description")
        if (dataset.party, dataset.name) in seen:
            yield Problem(where, "named twice", "name each data set once")
        seen.add((dataset.party, dataset.name))


def _check_model_ref(job: Job) -> Iterable[Problem]:
    if job.model_ref is None:
        yield Problem("model_ref", "missing", "name the model and its version")
        return
    yield from check_id("model_ref.name", job.model_ref.name)
    yield from check_hex("model_ref.version", job.model_ref.version, 12)


def _absent(job: Job, *names: str) -> Iterable[Problem]:
    for name in names:
        if getattr(job, name) is not None:
            yield Problem(name, f"does not belong into a {job.job_type.value} job", "remove it")


def _dataset(entry: Any) -> DatasetRef:
    return read_fields(DatasetRef, entry, "ssiiss")


def _output(entry: Any) -> Output:
    if set(entry) != {"name", "kind", "recipient"}:
        raise ValueError("an output has the fields name, kind and recipient")
    return Output(read_text(entry["name"]), OutputKind(entry["kind"]), read_text(entry["recipient"]))
