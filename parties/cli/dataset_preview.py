"""`confide dataset preview`: the first rows before and after a recipe, for their owner alone."""

from __future__ import annotations

from typing import Annotated

import typer

from parties.cli.output import FormatOption, Output, OutputFormat, reported
from parties.cli.preparation_words import (
    ContractOption,
    RawFileOption,
    RecipeOption,
    outcome_data,
    outcome_lines,
    refused_lines,
    rows_table,
)


@reported
def preview(
    *,
    file: RawFileOption,
    contract: ContractOption,
    recipe: RecipeOption,
    rows: Annotated[int, typer.Option("--rows", help="Of how many rows.", min=1, max=1_000)] = 10,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Show the first rows before and after a recipe; they are printed here and kept nowhere."""
    from parties.preparing.preparing import Instructions, preview_file

    found = preview_file(file, Instructions.read(contract, recipe), num_rows=rows)
    lines = ["These rows are for their owner's eyes.", "", "Before:", rows_table(found["before"]), ""]
    if found["refused"] is not None:
        lines += refused_lines(found["refused"])
    else:
        lines += ["After:", rows_table(found["after"]), "", *outcome_lines(found["outcome"])]
        lines.append("Of these rows alone; steps that look at all rows may do other things to the whole file.")
    outcome = None if found["outcome"] is None else outcome_data(found["outcome"])
    Output(output_format).result({**found, "outcome": outcome}, "\n".join(lines))
