"""What a researcher asks an evaluation to open: the name of a kind, or a kind with what it needs.

outputs:
  - correct_count
  - reliability
  - {kind: group_confusion, group_by: age, group_edges: ["40", "60"]}     # in the feature's own unit
  - {kind: group_confusion, group_by: smoker}                             # a boolean feature: false and true
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from parties.client.training_request import Strict
from privacy.preparation.group_edges import shared_edges
from privacy.preparation.schema import TableSchema
from protocols.job import Output, OutputKind
from protocols.job_parts import MAX_GROUP_EDGES

SignedDecimalText = Annotated[str, Field(pattern=r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$")]
PlainOutput = Literal["correct_count", "confusion", "roc_auc", "log_loss", "squared_error", "reliability"]


class GroupOutput(Strict):
    """A confusion table for each group of rows."""

    kind: Literal["group_confusion"]
    group_by: str
    group_edges: list[SignedDecimalText] = Field(default_factory=list, max_length=MAX_GROUP_EDGES)


def _form(value: object) -> str:
    return "groups" if isinstance(value, dict | GroupOutput) else "plain"


EvaluationOutput = Annotated[Annotated[PlainOutput, Tag("plain")] | Annotated[GroupOutput, Tag("groups")], Discriminator(_form)]


def evaluation_output(
    asked: PlainOutput | GroupOutput, schema: TableSchema, *, name: str, recipient: str, min_cell: int
) -> Output:
    """Returns an output as it stands in a job.

    Raises:
        ConfideError: INVALID_JOB (the researcher's fault): rows cannot be grouped so.
    """
    if isinstance(asked, str):
        return Output(name, OutputKind(asked), recipient, min_cell)
    edges = shared_edges(schema, asked.group_by, asked.group_edges)
    return Output(name, OutputKind.GROUP_CONFUSION, recipient, min_cell, group_by=asked.group_by, group_edges=edges)
