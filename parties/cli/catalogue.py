"""`confide catalogue`: what a researcher may name in a request.

A noun of its own: `dataset` is the owner's, who registers and retires; the catalogue is what all of them offer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import ResearcherConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from parties.client.catalogue import DatasetEntry, ModelEntry

PartyOption = Annotated[list[str] | None, typer.Option("--party", help="Ask this party alone; may be repeated.")]
app = typer.Typer(help="See which data sets and models the parties offer to requests.", no_args_is_help=True)


@app.command("list")
@reported
def list_all(
    *, config: ResearcherConfigOption, parties: PartyOption = None, output_format: FormatOption = OutputFormat.TEXT
) -> None:
    """List the data sets and models of all parties, as requests name them."""
    from parties.client.catalogue import list_datasets, list_models
    from parties.client.client import Client

    with Client.open(config, now=now()) as client:
        for party in parties or ():
            client.directory.party(party)  # a wrong name is told before anybody is asked
        datasets, models = list_datasets(client, parties or ()), list_models(client, parties or ())
    output = Output(output_format)
    for party, what in datasets.unheard.items():
        output.note(f"{party} could not be asked: {what}")
    data: dict[str, Json] = {
        "datasets": [_dataset(entry) for entry in datasets],
        "models": [_model(entry) for entry in models],
        "unheard": dict(datasets.unheard),
    }
    output.result(data, f"{datasets.table()}\n\n{models.table()}")


@app.command("show")
@reported
def show(
    *,
    label: Annotated[str, typer.Argument(metavar="NAME", help="party/name of a data set, or name@version of a model.")],
    config: ResearcherConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Show one data set's or model's columns, and what the model was trained on."""
    from parties.client.catalogue import find_model, list_datasets
    from parties.client.client import Client

    with Client.open(config, now=now()) as client:
        if "@" in label:
            model = find_model(client, label)
            data, schema = _model(model), model.schema
        else:
            party, slash, _ = label.partition("/")
            if not slash:
                what = f"{label[:130]!r} names neither a data set (party/name) nor a model (name@version)"
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="`confide catalogue list` shows the names.")
            listed = list_datasets(client, [client.directory.party(party).id])
            if listed.unheard:
                raise ConfideError(ErrorCode.PARTY_UNREACHABLE, listed.unheard[party], party=party)
            entry = next((entry for entry in listed if entry.label == label), None)
            if entry is None:
                raise ConfideError(ErrorCode.UNKNOWN_DATASET, f"{party} has no data set {label[:130]!r}")
            data, schema = _dataset(entry), entry.schema
    columns: list[Json] = [
        {"name": column.name, "role": column.role.value, "expected": column.expected if column.column_type else ""}
        for column in schema.columns
    ]
    shown = {name: value for name, value in data.items() if name != "claims"}  # they stand in words beside
    lines = [f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}" for name, value in shown.items()]
    lines += [f"  {column.name} ({column.role.value}): {column.expected}" for column in schema.columns if column.column_type]
    Output(output_format).result({**data, "columns": columns}, "\n".join(lines))


@app.command("agreements")
@reported
def agreements(
    *, config: ResearcherConfigOption, parties: PartyOption = None, output_format: FormatOption = OutputFormat.TEXT
) -> None:
    """List the agreements between the parties, as requests name them, and where they are in force."""
    from parties.client.agreements import list_agreements
    from parties.client.client import Client

    with Client.open(config, now=now()) as client:
        for party in parties or ():
            client.directory.party(party)
        found = list_agreements(client, parties or ())
    output = Output(output_format)
    for party, what in found.unheard.items():
        output.note(f"{party} could not be asked: {what}")
    shown: list[Json] = [
        {"digest": entry.signed.digest, **entry.agreement.to_document(), "in_force_at": list(entry.in_force_at)}
        for entry in found
    ]
    output.result({"agreements": shown, "unheard": dict(found.unheard)}, found.table())


def _dataset(entry: DatasetEntry) -> dict[str, Json]:
    return {
        "name": entry.label,
        "version": entry.version,
        "num_rows": entry.num_rows,
        "num_features": entry.schema.num_features,
        "label_column": entry.schema.label.name if entry.schema.has_label else None,
        "schema_digest": entry.schema.digest,
        "commitment": entry.commitment,
        "alignment": entry.alignment,
    }


def _model(entry: ModelEntry) -> dict[str, Json]:
    return {
        "name": entry.label,
        "computing_parties": list(entry.computing_parties),
        "sources": list(entry.sources),
        "job": entry.job_id,
        "created": entry.created,
        "disputed": entry.disputed,
        "aliases": list(entry.aliases),
        "revoked": list(entry.revoked),
        "deleted_at": list(entry.deleted_at),
        "privacy": entry.privacy,
        "claims": [claim.to_document() for claim in entry.claims],
    }
