"""What the data sets of a job must fulfil, each alone and beside each other, as far as the job alone shows it.

Whether a data set really has the columns that the job says shows only in its own schema: its owner checks that
(`governance.admission`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import Problem
from protocols.job_fields import check_hex, check_id
from protocols.job_parts import MAX_ROWS, DatasetRef, JobType, Partition

if TYPE_CHECKING:  # the job imports this module
    from protocols.job import Job


def check_datasets(job: Job) -> Iterable[Problem]:
    """Yields everything wrong with the data sets of a job that shows in the job alone; public."""
    if (job.job_type in (JobType.INFER, JobType.SERVE, JobType.RELEASE)) != (not job.datasets):
        what = "what works on rows needs data sets; inference, serving and release take none"
        yield Problem("datasets", what, "correct the list")
    seen = set()
    for dataset in job.datasets:
        yield from _check_dataset(dataset)
        if (dataset.party, dataset.name) in seen:
            yield Problem(_where(dataset), "named twice", "name each data set once")
        seen.add((dataset.party, dataset.name))
    match job.partition:
        case Partition.ROWS:
            yield from _check_rows(job)
        case Partition.COLUMNS:
            yield from check_parts(job.datasets)
            yield from _check_width(job)


def check_parts(parts: tuple[DatasetRef, ...]) -> Iterable[Problem]:
    """Yields why data sets are not different columns of the same rows, with the label at exactly one; public."""
    if len(parts) < 2:
        yield Problem("partition", "columns of one data set alone are not joined", "name another part, or write rows")
        return
    first = parts[0]
    for part in parts:
        if not part.alignment:
            what = "registered without an alignment: nobody can tell whether its rows are those of the other parts"
            yield Problem(_where(part), what, "register it again with the alignment secret and label of the other owners")
        elif part.num_rows != first.num_rows:
            what = f"{part.num_rows} rows, and {first.party}/{first.name} has {first.num_rows}"
            yield Problem(_where(part), what, "bring every part to the same people before it is registered")
        elif first.alignment and part.alignment != first.alignment:
            what = f"its people or their order are not those of {first.party}/{first.name}, or its alignment secret or label"
            yield Problem(_where(part), what, "agree on people, order, secret and label, then register every part again")
    labelled = [f"{part.party}/{part.name}" for part in parts if part.has_label]
    if not labelled:
        yield Problem("datasets", "no part has a label", "name the data set that has it")
    elif len(labelled) > 1:
        remedy = "register all but one of them without it, or with the role ignored for it"
        yield Problem("datasets", f"{len(labelled)} parts have a label: {', '.join(labelled)}", remedy)


def _check_dataset(dataset: DatasetRef) -> Iterable[Problem]:
    where = _where(dataset)
    yield from check_id("datasets.party", dataset.party)
    yield from check_id("datasets.name", dataset.name)
    yield from check_hex(f"{where}.schema_digest", dataset.schema_digest, 64)
    yield from check_hex(f"{where}.commitment", dataset.commitment, 64)
    if dataset.alignment:
        yield from check_hex(f"{where}.alignment", dataset.alignment, 64)
    if not 1 <= dataset.num_rows <= MAX_ROWS or dataset.version < 1:
        yield Problem(where, "rows or version out of range", "copy the owner's description")
    if dataset.num_features < 0 or not (dataset.num_features or dataset.has_label):
        yield Problem(where, "brings no column", "copy the owner's description")


def _check_rows(job: Job) -> Iterable[Problem]:
    schema_digest = sha256_hex(canonical_bytes(job.schema))
    aligned: dict[str, DatasetRef] = {}
    for dataset in job.datasets:
        first = aligned.setdefault(dataset.alignment, dataset) if dataset.alignment else dataset
        if first is not dataset:
            # Each of these people would stand for two, where rows are counted to protect them.
            what = f"the same people as {first.party}/{first.name}, as its alignment shows: they would count twice"
            yield Problem(_where(dataset), what, "leave one of them out, or write partition: columns if they are parts")
        if dataset.schema_digest != schema_digest:
            remedy = "use data sets registered under one schema, or write partition: columns if they are parts of the same rows"
            yield Problem(_where(dataset), "its schema is not the job's", remedy)
        elif not dataset.has_label:
            yield Problem(_where(dataset), "it has no label", "write partition: columns, and name the part that has the label")
        elif dataset.num_features != job.model.input_features:
            what = f"{dataset.num_features} feature(s), and the model takes {job.model.input_features}"
            yield Problem(_where(dataset), what, f"export the model with input_features={dataset.num_features}")


def _check_width(job: Job) -> Iterable[Problem]:
    width = sum(part.num_features for part in job.datasets)
    if width != job.model.input_features:
        what = f"the parts have {width} feature(s) together, and the model takes {job.model.input_features}"
        yield Problem("datasets", what, f"name every part, or export the model with input_features={width}")


def _where(dataset: DatasetRef) -> str:
    return f"datasets.{dataset.party}.{dataset.name}"
