"""Different columns of the same rows: the schema of the joined rows, and whether a part has the columns that a job says.

The joined rows have the features of all parts in the order of the parts, and then the one label. Identifiers and ignored columns
are not among them. The joined schema follows from those of the parts, so that everybody makes the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from privacy.preparation.schema import Column, TableSchema
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job

_MAX_NAME_CHARS = 63


def join_schemas(parts: Mapping[str, TableSchema]) -> TableSchema:
    """Returns the schema of joined rows; public.

    Args:
        parts: the schema of every part, by what people call the part, in the order of the job's data sets.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault): parts with the same column, with several labels or none, or without
            any feature; all problems at once.
    """
    problems = [*column_problems(parts), *_label_problems(parts)]
    if problems:
        what = f"{len(problems)} problem(s) with the data sets as columns of the same rows"
        raise ConfideError(ErrorCode.INVALID_JOB, what, problems=problems)
    label = next(part.label for part in parts.values() if part.has_label)
    name = "-".join(dict.fromkeys(part.name for part in parts.values()))[:_MAX_NAME_CHARS].strip("-")
    return TableSchema(name, (*_features(parts.values()), label))


def column_problems(parts: Mapping[str, TableSchema]) -> Iterable[Problem]:
    """Yields every column that two parts have, and whether there is any feature; arguments as for `join_schemas`; public."""
    owners: dict[str, str] = {}
    for label, part in parts.items():
        for column in (*part.features, *([part.label] if part.has_label else [])):
            if column.name in owners:
                what = f"{owners[column.name]} and {label} both have it"
                remedy = "register one of them under a schema where it is ignored, or named otherwise"
                yield Problem(f"column {column.name}", what, remedy)
            owners.setdefault(column.name, label)
    if not _features(parts.values()):
        yield Problem("datasets", "no data set has a feature", "name one that has")


def arrangement_problems(parts: Mapping[str, TableSchema], wanted: TableSchema) -> Iterable[Problem]:
    """Yields why parts do not join to the columns of a model's rows, and what to do; public.

    Args:
        parts: as for `join_schemas`.
        wanted: the schema of the model.
    """
    found, features = _features(parts.values()), wanted.features
    labels = [part.label for part in parts.values() if part.has_label]
    if found == features and labels == [wanted.label]:
        return
    where = {column.name: label for label, part in parts.items() for column in part.features}
    known = {column.name: column for column in (*features, wanted.label)}
    offered = {column.name for column in (*found, *labels)}
    for name in (name for name in known if name not in offered):
        yield Problem(f"column {name}", "no data set has it, and the model needs it", "name the data set that has it")
    for name in sorted(offered - set(known)):
        yield Problem(f"column {name}", "the model does not know it", "name data sets with the columns of the model's training")
    for column in (*found, *labels):
        if column.name in known and column != known[column.name]:
            what = f"{where.get(column.name, 'its owner')} describes it otherwise than the model's schema"
            yield Problem(f"column {column.name}", what, "register it under the description of the training")
    names = [column.name for column in features]
    if offered == set(known) and [column.name for column in found] != names:
        yield _order_problem(parts, names)


def check_part(job: Job, position: int, schema: TableSchema) -> Iterable[Problem]:
    """Yields where a data set has not exactly the columns that a job's joined schema gives it; its owner checks this.

    Args:
        job: whose data sets are different columns of the same rows.
        position: of the data set among the job's.
        schema: under which the owner registered it.

    Raises:
        ConfideError: INVALID_SCHEMA (the querier's fault): the joined schema cannot be read, or has no label.
    """
    dataset, joined = job.datasets[position], TableSchema.from_document(job.schema)
    where = f"datasets.{dataset.party}.{dataset.name}"
    start = sum(before.num_features for before in job.datasets[:position])
    given = joined.features[start : start + dataset.num_features]
    for number, column in enumerate(schema.features):
        at = given[number] if number < len(given) else None
        if at != column:
            shown = "none" if at is None else at.name
            what = f"feature {start + number + 1} of the joined schema is {shown}, not {column.name} as registered here"
            yield Problem(where, what, "join the schemas of the data sets in their order")
            return
    if schema.has_label and schema.label != joined.label:
        what = f"the label of the joined schema is not {schema.label.name} as registered here"
        yield Problem(where, what, "take the label from the part that has it")


def _features(parts: Iterable[TableSchema]) -> tuple[Column, ...]:
    return tuple(column for part in parts for column in part.features)


def _label_problems(parts: Mapping[str, TableSchema]) -> Iterable[Problem]:
    labelled = [label for label, part in parts.items() if part.has_label]
    if not labelled:
        yield Problem("datasets", "no data set has a label", "name the one that has it")
    elif len(labelled) > 1:
        what = f"{len(labelled)} data sets have a label: {', '.join(labelled)}"
        yield Problem("datasets", what, "register all but one of them under a schema where it is ignored")


def _order_problem(parts: Mapping[str, TableSchema], names: list[str]) -> Problem:
    positions = {name: position for position, name in enumerate(names)}

    def first(label: str) -> int:
        return min((positions.get(name, len(names)) for name in parts[label].feature_names), default=len(names))

    ordered = sorted(parts, key=first)
    if [name for label in ordered for name in parts[label].feature_names] == names:
        return Problem("datasets", "their columns stand in another order than the model's", f"write [{', '.join(ordered)}]")
    remedy = "register the parts under schemas that list the columns as the training's did"
    return Problem("datasets", "the columns inside them stand in another order than the model's", remedy)
