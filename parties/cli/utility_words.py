"""Reliability diagrams and tables of groups for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from parties.cli.noise_words import is_withheld, shown_count
from parties.cli.output import table

if TYPE_CHECKING:
    from parties.client.client import Values
    from protocols.job import Job
    from protocols.job import Output as JobOutput


def reliability_in_words(value: Values, *, min_cell: int) -> str:
    """Returns a reliability diagram for people: a line for each tenth of the probability, and the calibration error."""
    from privacy.utility.diagram import diagram_text

    text = diagram_text(value.astype("float64"))
    if math.isnan(value.sum()):
        return f"{text}\nwithheld: it, or what could be computed from it, is of fewer than {min_cell} rows"
    error = abs(value[:, 1] - value[:, 2]).sum() / value[:, 0].sum()
    return f"{text}\nexpected calibration error: {error:.4f}"


def groups_in_words(job: Job, output: JobOutput, value: Values, *, min_cell: int) -> str:
    """Returns the tables of groups for people: a line for each group."""
    from privacy.preparation.group_edges import group_names
    from privacy.preparation.schema import TableSchema

    names = group_names(TableSchema.from_document(job.schema), output.group_by, output.group_edges)
    cells = [[shown_count(count) for count in line] for line in value.tolist()]
    heads = ("group", "true negatives", "false negatives", "false positives", "true positives")
    text = table(heads, [(name, *line) for name, line in zip(names, cells, strict=True)])
    if not is_withheld(value):
        return text
    return f"{text}\n-: withheld: it, or what could be computed from it, is of fewer than {min_cell} rows"
