"""The job: what a querier asks the parties to compute, as one document.

A job is data, never code. It names everything that its plan follows from, so that every party derives the same plan from it
without any secret; the querier signs it and every party countersigns it. One job leads to one session, whose id is the job's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job_checks import check as check
from protocols.job_fields import ID_PATTERN as ID_PATTERN  # others take both from here: they are part of the job's format
from protocols.job_fields import TIME_FORMAT as TIME_FORMAT
from protocols.job_fields import (
    read_fields,
    read_items,
    read_object,
    read_optional_text,
    read_optional_whole,
    read_text,
    read_time,
    read_whole,
)
from protocols.job_parts import MAX_CLASSES as MAX_CLASSES
from protocols.job_parts import MAX_COMPUTING_PARTIES as MAX_COMPUTING_PARTIES
from protocols.job_parts import MAX_DATASETS as MAX_DATASETS
from protocols.job_parts import MAX_OUTPUTS as MAX_OUTPUTS
from protocols.job_parts import MAX_QUERY_ROWS as MAX_QUERY_ROWS
from protocols.job_parts import MAX_ROWS as MAX_ROWS
from protocols.job_parts import MAX_SCORE_EDGES, MAX_THRESHOLDS
from protocols.job_parts import Assessment as Assessment
from protocols.job_parts import DatasetRef as DatasetRef
from protocols.job_parts import JobType as JobType
from protocols.job_parts import ModelRef as ModelRef
from protocols.job_parts import Output as Output
from protocols.job_parts import OutputKind as OutputKind
from protocols.job_parts import Partition as Partition
from protocols.job_parts import Preparation as Preparation
from protocols.job_parts import Resumption as Resumption
from protocols.job_parts import Serving as Serving
from protocols.job_parts import Summary as Summary
from protocols.job_parts import Task as Task
from protocols.model.spec import ModelSpec
from protocols.preparations import preparation_document, read_preparations
from protocols.training import Training, read_training

FORMAT = "confide.job/9"


@dataclass(frozen=True)
class Job:
    """A job document; every field is public.

    Attributes:
        consortium: id of the consortium.
        directory_version: the version of the directory that the querier used.
        agreement: digest of the agreement that the job keeps to, 64 hexadecimal digits.
        purpose: one of the agreement's purposes.
        job_type: what is computed.
        querier: researcher id.
        computing_parties: party ids in order; the first leads.
        dealer: party id, none of the computing parties.
        datasets: rows to train or evaluate on, or to summarise, in order; empty for inference and serving.
        partition: what the data sets are to each other.
        schema: the schema document that all data sets and query rows follow; of data sets with different columns, that of the
            joined rows: all their features, in the order of the data sets, and the one label.
        task: what the labels are; the schema says the same.
        model: the architecture; summarise: the rows as they are, one flatten.
        initial_weights_sha256: train: digest of the public initial weights (safetensors) sent with the job; None if the
            training continues from the shares of `model_ref`.
        model_name: train only: the name under which the shares are kept.
        model_ref: the model to use; for a training the one whose shares and optimiser state it continues from, or None.
        training: train only.
        resumes: train only: the checkpoint to go on from, or None; all else but times and nonce is then as in the job before.
        query_rows: infer only: how many samples will be shared.
        query_commitment: infer only: salted commitment to the samples, 64 hexadecimal digits; the salt stays with the querier.
        serving: serve only: how long and how much.
        outputs: what is opened and to whom.
        created: when the querier made it, UTC, whole seconds.
        agree_by: until then everybody must have countersigned it; people who approve need more time than programs.
        expires: after this nobody starts it.
        nonce: 32 hexadecimal digits; makes equal requests distinct jobs.
        summary: summarise only: into which groups.
        assessment: assess only: how the model is attacked.
        prepared_with: train only: jobs whose outcomes went into it before the first step, by id.
    """

    consortium: str
    directory_version: int
    agreement: str
    purpose: str
    job_type: JobType
    querier: str
    computing_parties: tuple[str, ...]
    dealer: str
    datasets: tuple[DatasetRef, ...]
    partition: Partition
    schema: Document
    task: Task
    model: ModelSpec
    initial_weights_sha256: str | None
    model_name: str | None
    model_ref: ModelRef | None
    training: Training | None
    resumes: Resumption | None
    query_rows: int | None
    query_commitment: str | None
    serving: Serving | None
    outputs: tuple[Output, ...]
    created: datetime
    agree_by: datetime
    expires: datetime
    nonce: str
    summary: Summary | None = None
    assessment: Assessment | None = None
    prepared_with: tuple[Preparation, ...] = ()

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
        """Rows over all data sets; parts that hold different columns of the same rows count once."""
        rows = [dataset.num_rows for dataset in self.datasets]
        return sum(rows) if self.partition is Partition.ROWS else max(rows, default=0)

    @property
    def label_width(self) -> int:
        """Columns of the shared labels: one per class if there are several, else one."""
        if self.summary is not None:
            return self.summary.label_width
        return self.model.output_features if self.task is Task.CLASSES else 1

    @property
    def closing_outputs(self) -> tuple[Output, ...]:
        """The outputs that are opened once the session has ended; none of a serving, whose answers leave while it runs."""
        return self.outputs if self.serving is None else ()

    @property
    def most_samples(self) -> int:
        """On how many samples of the querier the model is used at most: an inference's, or all that a serving answers."""
        return (self.query_rows or 0) if self.serving is None else self.serving.max_rows

    @property
    def attempt(self) -> int:
        """Which attempt at its training this is; 1 unless it resumes another job."""
        return 1 if self.resumes is None else self.resumes.attempt

    @property
    def job_id(self) -> str:
        """The session id: the first 32 hexadecimal digits of the digest."""
        return self.digest[:32]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the job's canonical bytes."""
        return sha256_hex(self.to_bytes())

    @property
    def produced_model(self) -> ModelRef | None:
        """The model version that a completed training job leaves behind."""
        return None if self.model_name is None else ModelRef(self.model_name, self.job_id[:12])

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return self._canonical

    @cached_property
    def _canonical(self) -> bytes:
        # A schema may have thousands of columns, and a session asks for the id of its job again and again.
        return canonical_bytes(self.to_document())

    def to_document(self) -> dict[str, Any]:
        """Returns the job as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "directory_version": self.directory_version,
            "agreement": self.agreement,
            "purpose": self.purpose,
            "type": self.job_type.value,
            "querier": self.querier,
            "computing_parties": list(self.computing_parties),
            "dealer": self.dealer,
            "datasets": [vars(dataset) for dataset in self.datasets],
            "partition": self.partition.value,
            "schema": dict(self.schema),
            "task": self.task.value,
            "model": self.model.to_document(),
            "initial_weights_sha256": self.initial_weights_sha256,
            "model_name": self.model_name,
            "model_ref": None if self.model_ref is None else vars(self.model_ref),
            "training": None if self.training is None else self.training.to_document(),
            "resumes": None if self.resumes is None else vars(self.resumes),
            "query_rows": self.query_rows,
            "query_commitment": self.query_commitment,
            "serving": None if self.serving is None else vars(self.serving),
            "outputs": [_output_document(output) for output in self.outputs],
            "created": self.created.strftime(TIME_FORMAT),
            "agree_by": self.agree_by.strftime(TIME_FORMAT),
            "expires": self.expires.strftime(TIME_FORMAT),
            "nonce": self.nonce,
            "summary": None if self.summary is None else vars(self.summary),
            "assessment": None if self.assessment is None else _assessment_document(self.assessment),
            "prepared_with": [preparation_document(preparation) for preparation in self.prepared_with],
        }

    @staticmethod
    def from_bytes(data: bytes) -> Job:
        """Reads a job and checks everything that needs no other knowledge; reports all problems at once.

        Raises:
            ConfideError: INVALID_DOCUMENT or INVALID_JOB or INVALID_MODEL (the querier's fault).
        """
        return _from_bytes(data)


@lru_cache(maxsize=64)  # the same bytes are the same job, and a party reads those of its open sessions every second
def _from_bytes(data: bytes) -> Job:
    job = _from_document(parse_canonical(data))
    problems = tuple(check(job))
    if problems:
        raise ConfideError(ErrorCode.INVALID_JOB, f"{len(problems)} problem(s) in the job", problems=problems)
    return job


def _from_document(document: Document) -> Job:
    keys = {
        "format", "consortium", "directory_version", "agreement", "purpose", "type", "querier", "computing_parties", "dealer",
        "datasets", "partition", "schema", "task", "model", "initial_weights_sha256", "model_name", "model_ref", "training",
        "resumes", "query_rows", "query_commitment", "serving", "outputs", "created", "agree_by", "expires", "nonce",
        "summary", "assessment", "prepared_with",
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
            agreement=read_text(document["agreement"]),
            purpose=read_text(document["purpose"]),
            job_type=JobType(document["type"]),
            querier=read_text(document["querier"]),
            computing_parties=tuple(read_text(p) for p in read_items(document["computing_parties"], MAX_COMPUTING_PARTIES)),
            dealer=read_text(document["dealer"]),
            datasets=tuple(_dataset(d) for d in read_items(document["datasets"], MAX_DATASETS)),
            partition=Partition(document["partition"]),
            schema=read_object(document["schema"]),
            task=Task(document["task"]),
            model=ModelSpec.from_document(read_object(document["model"])),
            initial_weights_sha256=read_optional_text(document["initial_weights_sha256"]),
            model_name=read_optional_text(document["model_name"]),
            model_ref=None if document["model_ref"] is None else read_fields(ModelRef, document["model_ref"], "ss"),
            training=None if document["training"] is None else read_training(document["training"]),
            resumes=None if document["resumes"] is None else read_fields(Resumption, document["resumes"], "ssii"),
            query_rows=read_optional_whole(document["query_rows"]),
            query_commitment=read_optional_text(document["query_commitment"]),
            serving=None if document["serving"] is None else read_fields(Serving, document["serving"], "iiiiii"),
            outputs=tuple(_output(o) for o in read_items(document["outputs"], MAX_OUTPUTS)),
            created=read_time(document["created"]),
            agree_by=read_time(document["agree_by"]),
            expires=read_time(document["expires"]),
            nonce=read_text(document["nonce"]),
            summary=None if document["summary"] is None else read_fields(Summary, document["summary"], "iiis"),
            assessment=None if document["assessment"] is None else _assessment(document["assessment"]),
            prepared_with=read_preparations(document["prepared_with"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ConfideError(ErrorCode.INVALID_JOB, f"a field of the job has the wrong type or value: {error}") from error


def _dataset(entry: Any) -> DatasetRef:
    return read_fields(DatasetRef, entry, "ssiissibs")


def _output(entry: Any) -> Output:
    document = read_object(entry)
    if set(document) != set(Output.__annotations__):
        raise ValueError(f"an output has the fields {', '.join(Output.__annotations__)}")
    return Output(
        name=read_text(document["name"]),
        kind=OutputKind(document["kind"]),
        recipient=read_text(document["recipient"]),
        min_cell=read_whole(document["min_cell"]),
        top_k=read_whole(document["top_k"]),
        decimals=read_optional_whole(document["decimals"]),
        clip=read_text(document["clip"]),
        group_by=read_text(document["group_by"]),
        group_edges=tuple(read_text(edge) for edge in read_items(document["group_edges"], MAX_SCORE_EDGES)),
        noise=read_text(document["noise"]),
        noise_colluders=read_whole(document["noise_colluders"]),
        bound=read_text(document["bound"]),
        rows_per_person=read_whole(document["rows_per_person"]),
        abstain_below=read_text(document["abstain_below"]),
        abstain_beyond=read_text(document["abstain_beyond"]),
    )


def _assessment(entry: Any) -> Assessment:
    document = read_object(entry)
    if set(document) != set(Assessment.__annotations__):
        raise ValueError(f"an assessment has the fields {', '.join(Assessment.__annotations__)}")
    return Assessment(
        members=tuple(read_whole(position) for position in read_items(document["members"], MAX_DATASETS)),
        thresholds=tuple(read_text(threshold) for threshold in read_items(document["thresholds"], MAX_THRESHOLDS)),
        attack=read_text(document["attack"]),
        shadows=read_whole(document["shadows"]),
    )


def _output_document(output: Output) -> dict[str, Any]:
    return {**vars(output), "kind": output.kind.value, "group_edges": list(output.group_edges)}


def _assessment_document(assessment: Assessment) -> dict[str, Any]:
    return {**vars(assessment), "members": list(assessment.members), "thresholds": list(assessment.thresholds)}
