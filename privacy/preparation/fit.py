"""Whether a job's task and model fit the schema of its rows; every party and the querier's client check the same."""

from __future__ import annotations

from collections.abc import Iterable

from privacy.preparation.schema import TableSchema
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, Task


def check_fit(job: Job) -> Iterable[Problem]:
    """Yields everything in which a job does not fit the schema that it names; public.

    Raises:
        ConfideError: INVALID_SCHEMA (the author's fault): the schema itself cannot be read.
    """
    schema = TableSchema.from_document(job.schema)
    if job.task is not schema.task:
        what = f"the job says {job.task.value}, the label {schema.label.name} is {schema.task.value}"
        yield Problem("task", what, f"write {schema.task.value}")
    elif job.task is Task.CLASSES and job.label_width != schema.num_classes:
        what = f"{job.label_width} outputs for the {schema.num_classes} classes of {schema.label.name}"
        yield Problem("model", what, f"end the model with {schema.num_classes} output features")
    if job.model.input_features != schema.num_features:
        what = f"it takes {job.model.input_features} features, the schema has {schema.num_features}"
        yield Problem("model", what, f"export the model with input_features={schema.num_features}")


def fit_or_refuse(job: Job) -> tuple[tuple[ErrorCode, Problem], ...]:
    """Returns the same findings, each with its code, and an unreadable schema as one of them."""
    try:
        return tuple((ErrorCode.INVALID_JOB, problem) for problem in check_fit(job))
    except ConfideError as error:
        return tuple((error.code, problem) for problem in error.problems or (Problem("schema", error.what, error.remedy),))
