"""`confide dataset minimise`: which columns a task needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.cli.preparation_words import CHOSEN_BY_ROWS

if TYPE_CHECKING:
    from privacy.preparation.minimise import Minimisation


@reported
def minimise(
    *,
    file: Annotated[Path, typer.Option("--file", help="The rows: .csv or .parquet.", dir_okay=False)],
    contract: Annotated[Path, typer.Option("--contract", help="The contract of the task: YAML.", dir_okay=False)],
    within: Annotated[float, typer.Option("--within", help="How much less AUC (or R2) is still enough.")] = 0.005,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything drawn; the same gives the same.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the contract without the other columns here.", dir_okay=False)
    ] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Rank columns by the utility that is lost without them, and propose the smallest set; nothing leaves this process."""
    from parties.minimising import minimise_file
    from parties.raw_file import read_contract_file, write_document

    agreed = read_contract_file(contract)
    found, rows = minimise_file(file, agreed, seed=seed, margin=within)
    dropped = [worth.name for worth in found.ranked if worth.name not in found.proposed]
    if out is not None:
        write_document(out, agreed.without(dropped).to_document())
    lines = [_words(found), f"Made of {found.num_rows} rows; {sum(rows.left_out.values())} outside the contract were left out."]
    if out is not None:
        lines.append(f"Wrote {out}: the contract without the other {len(dropped)} columns.")
    lines.append(CHOSEN_BY_ROWS)
    Output(output_format).result(_describe(found, dropped), "\n".join(lines))


def _words(found: Minimisation) -> str:
    kept = set(found.proposed)
    rows = [(worth.name, f"{worth.lost:+.4f}", "yes" if worth.name in kept else "no") for worth in found.ranked]
    return "\n".join(
        [
            table(("column", f"{found.measure} lost without it", "proposed"), rows),
            "",
            f"{len(kept)} of {len(rows)} columns: {found.measure} {found.kept:.4f}, all of them {found.full:.4f}; on rows "
            f"that took no part in the choice {found.kept_held_out:.4f} and {found.full_held_out:.4f} "
            f"(standard error of the difference {found.held_out_error:.4f}).",
        ]
    )


def _describe(found: Minimisation, dropped: list[str]) -> dict[str, Json]:
    return {
        "measure": found.measure,
        "proposed": list(found.proposed),
        "dropped": list(dropped),
        "ranked": [{"column": worth.name, "lost": worth.lost, "left_at": worth.last} for worth in found.ranked],
        "utility": {"all": found.full, "proposed": found.kept},
        "held_out": {"all": found.full_held_out, "proposed": found.kept_held_out, "error": found.held_out_error},
        "num_rows": found.num_rows,
    }
