"""`confide dataset prepare` and `reproduce`: raw rows through a recipe, into a file or to see that they come out the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parties.cli.options import PartyConfigOption
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from parties.cli.preparation_words import ContractOption, RawFileOption, RecipeOption, outcome_data, outcome_lines
from parties.config import load_party_config
from protocols.errors import ConfideError, ErrorCode


@reported
def prepare(
    *,
    file: RawFileOption,
    contract: ContractOption,
    recipe: RecipeOption,
    out: Annotated[Path, typer.Option("--out", help="Where the prepared rows go: .parquet; must not exist.", dir_okay=False)],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The institution's party.yaml, for a recipe that makes pseudonyms.", dir_okay=False),
    ] = None,
    leave_out_invalid: Annotated[
        bool, typer.Option("--leave-out-invalid", help="Leave out rows that break the contract, and count them.")
    ] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Prepare raw rows under a contract by a recipe, in a process without network or files, into a file of the owner."""
    from parties.preparing.preparing import Instructions, prepare_to_file
    from privacy.preparation.contract import OnViolation

    outcome = prepare_to_file(
        file,
        Instructions.read(contract, recipe),
        out,
        on_violation=OnViolation.LEAVE_OUT if leave_out_invalid else OnViolation.REFUSE,
        config=None if config is None else load_party_config(config),
    ).to_document()
    text = "\n".join([*outcome_lines(outcome), f"Wrote {out}; only its owner may read it."])
    Output(output_format).result({"file": str(out), **outcome_data(outcome)}, text)


@reported
def reproduce(
    *,
    config: PartyConfigOption,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data set's name.")],
    file: RawFileOption,
    version: Annotated[int | None, typer.Option("--version", help="A version; the latest if not given.")] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Prepare a raw file again as a data set was prepared, and compare the rows with what was registered; keeps nothing."""
    from parties.preparing.registering import reproduce as again

    found = again(load_party_config(config), name=name, number=version, file=file)
    data: dict[str, Json] = {
        "name": found.record.name,
        "version": found.record.version,
        "same_file": found.is_same_file,
        "same_rows": found.is_same_rows,
        "code_then": found.code_then,
        "code_now": found.code_now,
    }
    if not found.is_same_rows:
        what = f"the rows are not those of {found.record.object_id}"
        cause = "another version of Confide prepared them" if found.code_then != found.code_now else "that is a defect of Confide"
        remedy = cause if found.is_same_file else "Name the file that was registered: this one is another."
        raise ConfideError(ErrorCode.COMMITMENT_DIFFERS, what, remedy=remedy)
    file_words = "The file is the one that was registered" if found.is_same_file else "The file is another one"
    text = f"{file_words}, and its {found.record.num_rows} rows are those of {found.record.name}, version {found.record.version}."
    Output(output_format).result(data, text)
