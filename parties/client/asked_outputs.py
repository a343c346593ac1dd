"""What the outputs of an evaluation or a summary are in the job: their names, and the noise that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from parties.client.client import Client
from parties.client.output_request import PlainOutput, evaluation_output, pooling_owners
from parties.client.requests import EvaluateRequest, SummariseRequest
from privacy.preparation.schema import TableSchema
from protocols.job import DatasetRef, Output, OutputKind, Task

COUNT_OUTPUT = "correct"
PREDICTION_OUTPUT = "prediction"
# What is opened if a request does not say it.
_EVALUATED: dict[Task, PlainOutput] = {
    Task.BINARY: "correct_count",
    Task.CLASSES: "correct_count",
    Task.REAL: "squared_error",
}


def output_name(kind: OutputKind) -> str:
    """Returns the name that an output has in jobs prepared here."""
    match kind:
        case OutputKind.CORRECT_COUNT:
            return COUNT_OUTPUT
        case OutputKind.LABEL | OutputKind.PROBABILITY | OutputKind.SCORE | OutputKind.VALUE:
            return PREDICTION_OUTPUT
        case _:
            return str(kind.value).replace("_", "-")


def evaluation_outputs(client: Client, request: EvaluateRequest, schema: TableSchema, *, pooling: int) -> Iterable[Output]:
    """Yields what an evaluation of a model with this schema opens.

    Args:
        client: the researcher's connections.
        request: what she wants.
        schema: of the model.
        pooling: owners that may pool what they know of the noise; 0 without noise.

    Raises:
        ConfideError: INVALID_JOB (the researcher's fault): rows cannot be grouped so.
    """
    for asked in request.outputs or (_EVALUATED[schema.task],):
        kind = OutputKind(asked if isinstance(asked, str) else asked.kind)
        plain = Output(
            output_name(kind),
            kind,
            client.researcher,
            request.min_cell,
            noise=request.noise,
            noise_colluders=pooling,
            rows_per_person=request.rows_per_person,
        )
        yield evaluation_output(asked, schema, plain=plain)


def pooling_of(request: EvaluateRequest | SummariseRequest, refs: Sequence[DatasetRef]) -> int:
    """Returns against how many owners the noise of a request holds; 0 without noise."""
    return pooling_owners(
        request.noise,
        request.noise_colluders,
        datasets=refs,
        computing=request.computing_parties,
        dealer=request.dealer,
    )
