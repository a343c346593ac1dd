"""What commands say of a preparation, for its owner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from parties.cli.output import Json, table

RawFileOption = Annotated[Path, typer.Option("--file", help="The raw rows: .csv or .parquet.", dir_okay=False)]
ContractOption = Annotated[Path, typer.Option("--contract", help="The contract: YAML.", dir_okay=False)]
RecipeOption = Annotated[Path, typer.Option("--recipe", help="The recipe: YAML.", dir_okay=False)]
CHOSEN_BY_ROWS = "Chosen by looking at these rows, which this choice then tells of: no epsilon of a job over them counts it."
_SHOWN_CHARS = 24


def outcome_lines(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yields what a preparation did: rows by step, columns that were dropped, warnings. `outcome` is the document of one."""
    yield f"{outcome['rows_read']} rows read, {outcome['rows_out']} come out."
    steps = [
        (str(number), step["kind"], str(step["rows_in"]), str(step["rows_in"] - step["rows_out"]), _notes(step["notes"]))
        for number, step in enumerate(outcome["steps"])
    ]
    if steps:
        yield table(("", "step", "rows in", "left out", ""), steps)
    if outcome["left_out"]:
        counts = ", ".join(f"{count} {reason}" for reason, count in outcome["left_out"].items())
        yield f"Left out after the last step, by what broke the contract: {counts}."
    for name, why in outcome["dropped"].items():
        yield f"Dropped while the file was read: {name} ({why})."
    if outcome["not_shared"]:
        yield f"Read, and not among what comes out: {', '.join(outcome['not_shared'])}."
    for warning in outcome["warnings"]:
        where = f"{warning['where']}: " if warning["where"] else ""
        yield f"Look at this: {where}{warning['what']} ({warning['remedy']})."


def outcome_data(outcome: Mapping[str, Any]) -> dict[str, Json]:
    """Returns the same for the JSON formats: without the digest of the file, which could be guessed at."""
    return {key: value for key, value in outcome.items() if key != "raw"}


def rows_table(side: Mapping[str, Any]) -> str:
    """Returns rows as a table, long cells cut; for their owner's eyes."""
    return table(tuple(side["columns"]), [tuple(map(_cut, row)) for row in side["rows"]])


def _cut(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: _SHOWN_CHARS + 1])
    return shown if len(shown) <= _SHOWN_CHARS else shown[: _SHOWN_CHARS - 3] + "..."


def _notes(notes: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {found}" for name, found in notes.items())


def refused_lines(refused: Mapping[str, Any]) -> Sequence[str]:
    """Returns what stood against a preparation, in words."""
    lines = [f"The recipe refuses these rows: {refused['what']}"]
    for problem in refused["problems"]:
        lines.append(f"  - {problem['where']}: {problem['what']} ({problem['remedy']})")
    return lines
