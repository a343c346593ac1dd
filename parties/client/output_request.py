"""What a researcher asks an evaluation to open: the name of a kind, or a kind with what it needs.

outputs:
  - correct_count
  - reliability
  - {kind: group_confusion, group_by: age, group_edges: ["40", "60"]}     # in the feature's own unit
  - {kind: group_confusion, group_by: smoker}                             # a boolean feature: false and true
  - {kind: score_histogram, edges: ["0.1", "0.5", "0.9"]}                 # with noise; of the probability of class 1
  - {kind: log_loss, bound: "3"}                                          # with noise: no row counts for more
noise: "5"                          # standard deviation of the owners' noise on each number, the same for all outputs
noise_colluders: 1                  # owners that may pool what they know of it; else as many as can be
rows_per_person: 1                  # how many rows of one person the noise hides together
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from parties.client.training_request import Strict
from privacy.preparation.group_edges import shared_edges
from privacy.preparation.schema import TableSchema
from protocols.job import Output
from protocols.job_parts import MAX_GROUP_EDGES, MAX_SCORE_EDGES, DatasetRef
from protocols.loss_bounds import LOSSES, USUAL_BOUND

SignedDecimalText = Annotated[str, Field(pattern=r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$")]
DecimalText = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?$")]
PlainOutput = Literal["correct_count", "confusion", "roc_auc", "log_loss", "squared_error", "reliability", "score_histogram"]
USUAL_EDGES = ("0.02", "0.05", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.98")


class GroupOutput(Strict):
    """A confusion table for each group of rows."""

    kind: Literal["group_confusion"]
    group_by: str
    group_edges: list[SignedDecimalText] = Field(default_factory=list, max_length=MAX_GROUP_EDGES)


class HistogramOutput(Strict):
    """Rows of either class by ranges of the probability, from which the area under the ROC curve follows."""

    kind: Literal["score_histogram"]
    edges: list[DecimalText] = Field(default_factory=lambda: list(USUAL_EDGES), max_length=MAX_SCORE_EDGES)


class LossOutput(Strict):
    """A mean loss with noise, of which no row counts for more than the bound."""

    kind: Literal["log_loss", "squared_error"]
    bound: DecimalText


Asked = PlainOutput | GroupOutput | HistogramOutput | LossOutput
_FORMS = {"score_histogram": "histogram", "log_loss": "loss", "squared_error": "loss"}


def _form(value: object) -> str:
    if isinstance(value, str):
        return "plain"
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", "")
    return _FORMS.get(kind, "groups") if isinstance(kind, str) else "groups"


EvaluationOutput = Annotated[
    Annotated[PlainOutput, Tag("plain")]
    | Annotated[GroupOutput, Tag("groups")]
    | Annotated[HistogramOutput, Tag("histogram")]
    | Annotated[LossOutput, Tag("loss")],
    Discriminator(_form),
]


def evaluation_output(asked: Asked, schema: TableSchema, *, plain: Output) -> Output:
    """Returns an output as it stands in a job.

    Args:
        asked: by the researcher.
        schema: of the rows.
        plain: the output with everything that all outputs of the job share, its noise among them.

    Raises:
        ConfideError: INVALID_JOB (the researcher's fault): rows cannot be grouped so.
    """
    match asked:
        case GroupOutput():
            edges = shared_edges(schema, asked.group_by, asked.group_edges)
            return replace(plain, group_by=asked.group_by, group_edges=edges)
        case HistogramOutput():
            return replace(plain, group_edges=tuple(asked.edges))
        case LossOutput():
            return replace(plain, bound=asked.bound)
        case "score_histogram":
            return replace(plain, group_edges=USUAL_EDGES)
        case _:
            return replace(plain, bound=USUAL_BOUND[plain.kind]) if plain.has_noise and plain.kind in LOSSES else plain


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
