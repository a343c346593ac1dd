"""`confide privacy tables`: what a released table tells of the rows behind it, attacked by the owner of these."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.attack_words import (
    DatasetsOption,
    OutOption,
    SeedOption,
    about_seconds,
    report_data,
    report_in_words,
    statement_of,
)
from parties.cli.options import now
from parties.cli.output import FormatOption, Output, OutputFormat, reported

if TYPE_CHECKING:
    from privacy.figures import Figures


@reported
def tables(
    *,
    released: Annotated[Path, typer.Argument(metavar="RELEASED", help="The table: .csv or .parquet.", dir_okay=False)],
    behind: Annotated[Path, typer.Option("--behind", help="Rows that it was made from, in the same form.", dir_okay=False)],
    others: Annotated[Path, typer.Option("--others", help="As many rows that it was not made from.", dir_okay=False)],
    schema: Annotated[Path, typer.Option("--schema", help="Of all three: the released columns, with ranges.", dir_okay=False)],
    sensitive: Annotated[str, typer.Option("--sensitive", help="The column that an attacker would like to know.")],
    seed: SeedOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="With --out: the institution's party.yaml.", dir_okay=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="With --out: name@version of the model that the table stands for.")
    ] = None,
    dataset: DatasetsOption = None,
    out: OutOption = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Attack a released table: singling-out, linkability and inference, with own rows; nothing leaves this machine."""
    from parties.attack_files import SEED_BITS, place_in_table, read_schema_file, read_table_files
    from privacy.risk.own_table import assess_table, seconds_for

    statement = statement_of(config, model, dataset, out, now=now())
    agreed = read_schema_file(schema)
    secret = place_in_table(sensitive, agreed)
    table = read_table_files(released, behind, others, agreed)
    output = Output(output_format)
    about_seconds(output, seconds_for(table))
    report = assess_table(table, secret=secret, seed=secrets.randbits(SEED_BITS) if seed is None else seed)
    if statement is not None:
        statement.write(report, now=now())
    data = {**report_data(report, statement), "released": len(table.released)}
    text = f"{len(table.released)} released rows; {report.members} rows behind them, {report.others} others\n"
    output.result(data, text + report_in_words(report, statement, _verdict(report.figures)))


def _verdict(figures: Figures) -> str:
    telling = [name for name, figure in sorted(figures.items()) if figure.low > 0]
    if telling:
        return f"The table tells of the rows behind it: the whole interval of {', '.join(telling)} lies above 0."
    if all(figure.high < 0 for figure in figures.values()):
        return "Every attack succeeds more often on the others: are they the rows that the table was made from?"
    return "No attack succeeded more often on the rows behind the table than on others by more than chance. Another one may."
