"""`confide privacy forecast`: what joining a private training would gain over staying alone, from own rows alone."""

from __future__ import annotations

import math
import secrets
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from privacy.figures import Figure
    from privacy.forecasting.forecast import Forecast

_MINUTES_FROM_S = 120

RowsFile = Annotated[Path, typer.Option("--file", help="Own rows with their label: .csv or .parquet.", dir_okay=False)]
SchemaFile = Annotated[Path, typer.Option("--schema", help="Their schema, with declared ranges.", dir_okay=False)]


@reported
def forecast(
    *,
    file: RowsFile,
    schema: SchemaFile,
    institutions: Annotated[int, typer.Option("--institutions", help="How many would train together.")],
    rows: Annotated[int, typer.Option("--rows", help="Agreed number of rows of all of them together.")],
    colluders: Annotated[int, typer.Option("--colluders", help="How many of them may pool what they know.")] = 1,
    epsilon: Annotated[list[float] | None, typer.Option("--epsilon", help="Of the training; may be repeated. 1 and 3.")] = None,
    delta: Annotated[float | None, typer.Option("--delta", help="Of the training; else as in a request.")] = None,
    rows_per_person: Annotated[int, typer.Option("--rows-per-person", help="Rows that one person has at most.")] = 1,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Estimate what joining under differential privacy gains over staying alone; nothing leaves this machine."""
    from parties.client.private_request import delta_for
    from parties.registration import read_rows
    from parties.storage.files import read_public
    from privacy.forecasting.forecast import forecast as estimate
    from privacy.forecasting.terms import JointTerms
    from privacy.preparation.contract import OnViolation, prepare
    from privacy.preparation.schema_file import MAX_SCHEMA_BYTES, schema_from_yaml
    from privacy.preparation.table import Content
    from protocols.job_parts import Task

    own_schema = schema_from_yaml(read_public(schema, max_bytes=MAX_SCHEMA_BYTES))
    if not own_schema.has_label or own_schema.task is not Task.BINARY or not own_schema.num_features:
        what = "a forecast is of a logistic regression: it needs features, and a label of two classes"
        raise ConfideError(ErrorCode.INVALID_SCHEMA, what)
    terms = [
        JointTerms(institutions, colluders, rows, each, float(delta_for(rows)) if delta is None else delta, rows_per_person)
        for each in epsilon or (1.0, 3.0)
    ]
    own = prepare(read_rows(file, own_schema, Content.LABELLED_ROWS), own_schema, OnViolation.REFUSE)
    output = Output(output_format)
    output.note(_in_advance(own.num_rows, own.features.shape[1], len(terms)))
    found = estimate(own.features, own.labels.astype("int64"), terms, random=secrets.token_bytes)
    described: list[Json] = [_described(each) for each in found]
    output.result({"own_rows": own.num_rows, "forecasts": described}, _in_words(found))


def _in_advance(rows: int, features: int, budgets: int) -> str:
    from privacy.forecasting.duration import seconds_for

    seconds = seconds_for(rows=rows, features=features, budgets=budgets)
    takes = f"{math.ceil(seconds)} seconds" if seconds < _MINUTES_FROM_S else f"{math.ceil(seconds / 60)} minutes"
    return f"{rows:,} own rows with {features} features: about {takes} of one core, longer on a busy machine"


def _in_words(found: list[Forecast]) -> str:
    from privacy.accounting.statement import protected_in_words

    first, terms = found[0], found[0].terms
    protected = protected_in_words(terms.unit, rows=terms.rows_per_person, colluders=terms.colluders, owners=terms.institutions)
    lines = [
        f"{first.own_rows:,} own rows; {terms.institutions} institutions with {terms.rows:,} rows",
        f"every epsilon: at delta {_decimal(terms.delta)}, {protected}",
        f"alone, without privacy: {first.alone_by}, area under the ROC curve {_interval(first.alone)}",
        f"joint, without noise: {_interval(first.joint_without_noise)}",
        "",
        table(
            ("epsilon", "the noise costs", "joining gains", "verdict"),
            [(f"{each.terms.epsilon:g}", _interval(each.cost), _interval(each.gain, "+"), each.verdict) for each in found],
        ),
        "",
        "Rows of the others are taken to be like your own. Intervals are of 95 %. Keep this to yourself: it tells of your rows.",
    ]
    return "\n".join(lines)


def _decimal(number: float) -> str:
    """Returns a number as requests and ledgers write it, without an exponent."""
    return f"{Decimal(str(number)):f}"


def _interval(figure: Figure, sign: str = "") -> str:
    return f"{figure.value:{sign}.4f} [{figure.low:{sign}.4f}, {figure.high:{sign}.4f}]"


def _described(found: Forecast) -> dict[str, Json]:
    from protocols.private_training import RELATION

    figures: dict[str, Json] = {
        name: [round(number, 6) for number in (figure.value, figure.low, figure.high)]
        for name, figure in (
            ("alone", found.alone),
            ("joint_without_noise", found.joint_without_noise),
            ("cost", found.cost),
            ("gain", found.gain),
        )
    }
    terms: dict[str, Json] = {**vars(found.terms), "relation": RELATION, "unit": found.terms.unit.value}
    return {"terms": terms, "alone_by": found.alone_by, **figures, "verdict": found.verdict}
