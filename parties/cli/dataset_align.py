"""`confide dataset align`: find the rows of the same people at another institution, in private, and register them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from parties.config import PartyConfig, load_party_config
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from parties.linking.staging import CheckedRows, Terms
    from parties.storage.linking import IntersectionRecord


@reported
def align(
    *,
    config: PartyConfigOption,
    peer: Annotated[str, typer.Option("--with", help="The other institution; exactly one.")],
    label: Annotated[str, typer.Option("--label", help="What both call this set of people; the same at both.")],
    file: Annotated[Path, typer.Option("--file", help="The rows: .csv or .parquet.", dir_okay=False)],
    schema: Annotated[
        Path | None, typer.Option("--schema", help="The schema: YAML, with one identifier column.", dir_okay=False)
    ] = None,
    contract: Annotated[
        Path | None, typer.Option("--contract", help="Or, of raw rows, the contract: YAML, with a linkage key.", dir_okay=False)
    ] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="And the recipe: YAML.", dir_okay=False)] = None,
    name: Annotated[str, typer.Option("--name", help="The data set's name here; not needed with --size-only.")] = "",
    population: Annotated[
        str | None,
        typer.Option("--population", help="Whose rows these are: all data sets of one population share a budget. Else the name."),
    ] = None,
    size_only: Annotated[
        bool, typer.Option("--size-only", help="Disclose how many people are common, and nothing else; register nothing.")
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", min=1, max=86_400, help="Seconds that the other side has to run its command.")
    ] = 600.0,
    plan: Annotated[bool, typer.Option("--plan", help="Check the file, show what would be disclosed, and stop.")] = False,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Intersect identifiers with another institution's, in private, and register the common rows in a common order."""
    from parties.linking.alignment import intersect, take_up, terms_of
    from protocols.identifiers.intersection import Mode

    if not size_only and not name:
        what = "common rows are registered under a name"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give --name, or --size-only if nothing is registered.")
    loaded, output = load_party_config(config), Output(output_format)
    mode = Mode.SIZE if size_only else Mode.ROWS
    terms = terms_of(loaded, peer=peer, label=label, mode=mode, dataset=name, population=population)
    earlier = None if plan else take_up(loaded, terms)
    if earlier is not None:
        output.note(f"Concluded the intersection {label} with {peer}, whose last message was lost.")
        output.result(_data(earlier), _text(earlier))
        return
    checked = _read(loaded, terms, file=file, schema=schema, contract=contract, recipe=recipe, only_plan=plan)
    disclosed = plan_text(terms, checked.num_rows)
    if plan:
        output.result({"discloses": plan_data(terms, checked.num_rows)}, disclosed)
        return
    output.note(disclosed)
    output.note(f"{peer} has {wait_s:.0f} s to run the same command with the label {label}.")
    record = intersect(loaded, terms, checked, wait_s=wait_s)
    output.result(_data(record) | {"discloses": plan_data(terms, checked.num_rows)}, _text(record))


def _read(
    config: PartyConfig,
    terms: Terms,
    *,
    file: Path,
    schema: Path | None,
    contract: Path | None,
    recipe: Path | None,
    only_plan: bool,
) -> CheckedRows:
    if schema is not None and contract is None and recipe is None:
        from parties.linking.staging import read_set

        return read_set(config, terms, file=file, schema_file=schema)
    if schema is None and contract is not None and recipe is not None:
        from parties.linking.prepared import read_prepared_set, stand_ins
        from parties.preparing.preparing import Instructions, with_the_others

        instructions = Instructions.read(contract, recipe)
        make_pseudonyms = stand_ins if only_plan else with_the_others(config)
        return read_prepared_set(config, terms, file=file, instructions=instructions, make_pseudonyms=make_pseudonyms)
    what = "rows are aligned under a schema, or under a contract by a recipe"
    raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give --schema, or --contract and --recipe.")


def plan_data(terms: Terms, num_rows: int) -> dict[str, Json]:
    """Returns what a run will disclose to whom, for programs."""
    from protocols.identifiers.intersection import Mode

    both = ["number of rows of each side", "number of common people"]
    if terms.mode is Mode.ROWS:
        both += ["schema of each side", "of each own row, whether the other side has the person too"]
    return {
        "with": terms.peer,
        "label": terms.label,
        "mode": terms.mode.value,
        "own_rows": num_rows,
        "both_learn": list(both),
        "everybody_learns": ["data set, schema, number of common rows, alignment"] if terms.mode is Mode.ROWS else [],
    }


def plan_text(terms: Terms, num_rows: int) -> str:
    """Returns what a run will disclose to whom, for people."""
    from protocols.identifiers.intersection import Mode

    lines = [f"This run discloses, to {terms.party} and {terms.peer} alone:"]
    lines.append(f"  the number of rows of each side ({num_rows} here) and the number of people whom both have")
    if terms.mode is Mode.ROWS:
        lines.append("  the schema of each side")
        lines.append("  for every row of each side's own: whether the other side has this person too")
        lines.append("and to every member of the consortium: the registered part with its schema, number of rows and alignment.")
    else:
        lines.append("It discloses no row, and registers nothing.")
    lines.append(f"{terms.peer} may put into its set whomever it likes, and so test as many guesses as its set has rows.")
    return "\n".join(lines)


def _data(record: IntersectionRecord) -> dict[str, Json]:
    from protocols.identifiers.intersection import payload_bytes

    return {
        "with": record.peer,
        "label": record.label,
        "mode": record.mode.value,
        "own_rows": record.own_rows,
        "peer_rows": record.peer_rows,
        "found": record.found,
        "name": record.dataset,
        "version": record.dataset_version,
        "alignment": record.alignment,
        "transcript": record.transcript,
        "payload_bytes": payload_bytes(record.own_rows, record.peer_rows),
    }


def _text(record: IntersectionRecord) -> str:
    found = f"{record.found} of {record.own_rows} rows here are of people whom {record.peer} has among its {record.peer_rows}."
    if record.dataset_version is None:
        return f"{found}\nNothing was registered."
    where = f"Registered them as {record.dataset}, version {record.dataset_version}, in the order of the other side."
    return f"{found}\n{where}\nAlignment {record.alignment}: the other side's part must show the same."
