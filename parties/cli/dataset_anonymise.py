"""`confide dataset anonymise`: how to make the people of a table alike with the least loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.cli.preparation_words import CHOSEN_BY_ROWS

if TYPE_CHECKING:
    from privacy.preparation.anonymity.proposal import Proposal


@reported
def anonymise(
    *,
    file: Annotated[Path, typer.Option("--file", help="The rows: .csv or .parquet.", dir_okay=False)],
    contract: Annotated[Path, typer.Option("--contract", help="Says which columns are quasi-identifiers: YAML.", dir_okay=False)],
    k: Annotated[int, typer.Option("--k", help="How many rows must be alike, at least.")] = 5,
    least: Annotated[int, typer.Option("--l", help="How many values of a sensitive column they must have, at least.")] = 1,
    left_out: Annotated[float, typer.Option("--left-out", help="The largest share of rows that may be left out.")] = 0.05,
    hierarchies: Annotated[
        Path | None, typer.Option("--hierarchies", help="Rules by column: YAML; else bands of public ranges.", dir_okay=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write a recipe of the steps here.", dir_okay=False)] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Find the steps that make at least k people alike with the least loss; nothing leaves this process."""
    from parties.anonymising import anonymise_file, recipe_of
    from parties.raw_file import read_contract_file, write_document
    from privacy.preparation.anonymity.search import Demand

    agreed = read_contract_file(contract)
    found = anonymise_file(file, agreed, hierarchies, Demand(k, least, left_out))
    lines = [_words(found, k)]
    if out is not None:
        write_document(out, recipe_of(found, agreed).to_document())
        lines.append(f"Wrote {out}: add it to the recipe of the data set.")
    lines.append(CHOSEN_BY_ROWS)
    Output(output_format).result(_describe(found), "\n".join(lines))


def _words(found: Proposal, k: int) -> str:
    rows = [(document.pop("step"), document.pop("column", ""), _parameters(document)) for document in _documents(found)]
    node = found.found
    return "\n".join(
        [
            table(("step", "column", "parameters"), rows),
            "",
            f"Before: the smallest group has {found.before} row(s); {found.below} of {found.num_rows} rows are in groups "
            f"below {k}.",
            f"After: the smallest group has {node.smallest} rows, {node.left_out} rows are left out, "
            f"{node.loss:.1%} of the quasi-identifiers' detail is lost.",
            f"No other of {node.nodes} combinations loses less; {node.looked_at} had to be looked at.",
        ]
    )


def _parameters(document: dict[str, Any]) -> str:
    return ", ".join(f"{key} {', '.join(value) if isinstance(value, list) else value}" for key, value in document.items())


def _documents(found: Proposal) -> list[dict[str, Any]]:
    return [step.to_document() for step in found.steps]


def _describe(found: Proposal) -> dict[str, Json]:
    return {
        "steps": [dict(document) for document in _documents(found)],
        "before": {"smallest": found.before, "below": found.below, "num_rows": found.num_rows},
        "after": {"smallest": found.found.smallest, "left_out": found.found.left_out, "loss": found.found.loss},
        "searched": {"nodes": found.found.nodes, "looked_at": found.found.looked_at},
    }
