"""`confide dataset`: a data owner's commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli import dataset_project
from parties.cli.dataset_align import align
from parties.cli.dataset_anonymise import anonymise
from parties.cli.dataset_minimise import minimise
from parties.cli.dataset_prepare import prepare, reproduce
from parties.cli.dataset_preview import preview
from parties.cli.dataset_report import report
from parties.cli.dataset_schema import schema as schema_of
from parties.cli.options import PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.cli.preparation_words import outcome_data, outcome_lines
from parties.config import load_party_config
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from parties.storage.datasets import DatasetRecord

app = typer.Typer(help="Register rows at their owner; only shares ever leave.", no_args_is_help=True)


@app.command("register")
@reported
def register(
    *,
    config: PartyConfigOption,
    name: Annotated[str, typer.Option("--name", help="The data set's name here: a-z, 0-9 and -.")],
    file: Annotated[Path, typer.Option("--file", help="The rows: .csv or .parquet.", dir_okay=False)],
    schema: Annotated[
        Path | None, typer.Option("--schema", help="The schema of rows that are prepared already: YAML.", dir_okay=False)
    ] = None,
    contract: Annotated[
        Path | None, typer.Option("--contract", help="Or, of raw rows, the contract: YAML.", dir_okay=False)
    ] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="And the recipe: YAML.", dir_okay=False)] = None,
    leave_out_invalid: Annotated[
        bool, typer.Option("--leave-out-invalid", help="Leave out rows that break the contract, and count them.")
    ] = False,
    alignment_secret: Annotated[
        Path | None,
        typer.Option("--alignment-secret", help="Other owners hold other columns of these rows: the secret.", dir_okay=False),
    ] = None,
    alignment_label: Annotated[
        str | None, typer.Option("--alignment-label", help="Likewise: what the owners call this set of people.")
    ] = None,
    rows_per_person: Annotated[
        int | None,
        typer.Option(
            "--rows-per-person", min=1, help="So many rows one person has at most; counted where identifiers are there."
        ),
    ] = None,
    population: Annotated[
        str | None,
        typer.Option(
            "--population", help="Whose rows these are: all data sets of one population share a budget. Else the data set's name."
        ),
    ] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Check rows against their schema and keep them, sealed, as the next version of a data set."""
    from parties.alignment_secrets import AlignBy
    from parties.registration import register_dataset
    from privacy.preparation.contract import OnViolation

    if (alignment_secret is None) != (alignment_label is None):
        what = "rows are aligned under a secret and a label"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give --alignment-secret and --alignment-label, or neither.")
    align_by = (
        AlignBy(alignment_secret, alignment_label) if alignment_secret is not None and alignment_label is not None else None
    )
    on_violation = OnViolation.LEAVE_OUT if leave_out_invalid else OnViolation.REFUSE
    settings, outcome = load_party_config(config), None
    if schema is not None and contract is None and recipe is None:
        record = register_dataset(
            settings,
            name=name,
            file=file,
            schema_file=schema,
            on_violation=on_violation,
            now=now(),
            align_by=align_by,
            rows_per_person=rows_per_person,
            population=population,
        )
        left_out = sum(record.left_out.values())
    elif schema is None and contract is not None and recipe is not None:
        from parties.preparing.preparing import Instructions
        from parties.preparing.registering import register_prepared

        instructions = Instructions.read(contract, recipe)
        record, made = register_prepared(
            settings,
            name=name,
            file=file,
            instructions=instructions,
            on_violation=on_violation,
            now=now(),
            align_by=align_by,
            rows_per_person=rows_per_person,
            population=population,
        )
        outcome = made.to_document()
        left_out = made.rows_read - made.rows_out
    else:
        what = "rows are registered under a schema, or under a contract by a recipe"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give --schema, or --contract and --recipe.")
    text = f"Registered {record.num_rows} rows as {record.name}, version {record.version}; {left_out} left out."
    if record.population != record.name:
        text += f"\nThe population is {record.population}: one budget, dataset/{record.population}, for all data sets of it."
    if record.alignment:
        text += f"\nAlignment {record.alignment}: the other owners' parts must show the same."
    data = _describe(record)
    if outcome is not None:
        text = "\n".join([text, *outcome_lines(outcome)])
        data |= {"preparation": outcome_data(outcome)}
    Output(output_format).result(data, text)


@app.command("alignment-secret")
@reported
def alignment_secret(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the secret is written; must not exist.")],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Make the secret under which owners of different columns of the same rows align them."""
    from parties.alignment_secrets import make_alignment_secret

    make_alignment_secret(file)
    text = f"Wrote {file}. Hand it to the owners of the other columns, and to nobody else."
    Output(output_format).result({"file": str(file)}, text)


@app.command("list")
@reported
def list_all(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the data sets registered here."""
    from parties.storage.database import one_transaction

    with one_transaction(load_party_config(config).folder.database_file) as tables:
        records = tables.datasets.latest()
    rows = [(r.name, str(r.version), str(r.num_rows), r.population, r.created.strftime(TIME_FORMAT)) for r in records]
    text = table(("name", "version", "rows", "population", "registered"), rows)
    Output(output_format).result({"datasets": [_describe(record) for record in records]}, text)


@app.command("show")
@reported
def show(
    *,
    config: PartyConfigOption,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data set's name.")],
    version: Annotated[int | None, typer.Option("--version", help="A version; the latest if not given.")] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Show one registration: what is public about it, and what was left out."""
    from parties.storage.database import one_transaction

    with one_transaction(load_party_config(config).folder.database_file) as tables:
        record = tables.datasets.get(name, version)
        prepared = tables.preparations.find(record.name, record.version)
    data = _describe(record)
    left_out = ", ".join(f"{count} {reason}" for reason, count in record.left_out.items()) or "none"
    text = "\n".join(f"{field}: {value}" for field, value in (data | {"left_out": left_out}).items())
    if prepared is not None:
        made = prepared.statement
        facts = {
            "statement_digest": made.digest,
            "contract": made.contract.name,
            "contract_digest": made.contract.digest,
            "recipe": f"{made.recipe.name} version {made.recipe.version}",
            "recipe_digest": made.recipe.digest,
            "seed_commitment": made.seed_commitment,
            "raw_commitment": made.raw_commitment,
            "code": made.code,
        }
        lines = [f"preparation, {field}: {value}" for field, value in facts.items()]
        text = "\n".join([text, *lines, *outcome_lines(prepared.outcome)])
        data |= {"preparation": {**facts, **outcome_data(prepared.outcome)}}
    Output(output_format).result(data, text)


def _describe(record: DatasetRecord) -> dict[str, Json]:
    return {
        "name": record.name,
        "version": record.version,
        "num_rows": record.num_rows,
        "schema_digest": sha256_hex(record.schema_document),
        "commitment": record.commitment,
        "alignment": record.alignment,
        "left_out": dict(record.left_out),
        "rows_per_person": record.rows_per_person,
        "population": record.population,
        "rows_per_person_from": "counted" if record.is_counted else "declared" if record.rows_per_person else "unknown",
        "registered": record.created.strftime(TIME_FORMAT),
    }


app.command("preview")(preview)
app.command("prepare")(prepare)
app.command("reproduce")(reproduce)
app.command("anonymise")(anonymise)
app.command("minimise")(minimise)
app.command("schema")(schema_of)
app.command("report")(report)
app.command("align")(align)
app.add_typer(dataset_project.app, name="project")
