"""What a researcher asks an evaluation to open: the name of a kind, or a kind with what it needs.

outputs:
  - correct_count
  - reliability
  - {kind: group_confusion, group_by: age, group_edges: ["40", "60"]}     # in the feature's own unit
  - {kind: group_confusion, group_by: smoker}                             # a boolean feature: false and true
noise: "5"                          # counts alone: standard deviation of the owners' noise on each, the same for all outputs
noise_colluders: 1                  # owners that may pool what they know of it; else as many as can be
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from parties.client.training_request import Strict
from privacy.preparation.group_edges import shared_edges
from privacy.preparation.schema import TableSchema
from protocols.job import Output, OutputKind
from protocols.job_parts import MAX_GROUP_EDGES, DatasetRef

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


def pooling_owners(
    noise: str, asked: int | None, *, datasets: Sequence[DatasetRef], computing: Sequence[str], dealer: str
) -> int:
    """Returns against how many owners the noise on numbers about their rows holds: as many as are asked for, else the most.

    That is all but one of the owners, and no more than could not put the shared rows together anyway: all but one of the
    computing parties, or one where the dealer is an owner.

    Args:
        noise: standard deviation, a decimal; "0" for none.
        asked: what the researcher wrote.
        datasets: whose owners draw.
        computing: parties.
        dealer: party id.
    """
    if asked is not None:
        return asked
    if noise == "0":
        return 0
    owners = {dataset.party for dataset in datasets}
    most = min(len(owners), len(computing)) - 1
    return max(1, min(most, 1) if dealer in owners else most)
