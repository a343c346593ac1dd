"""`confide consortium`: the founder's commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from governance.identity.directory import Directory
from governance.identity.names import Role, grouped
from parties import consortium
from parties.cli.options import ConsortiumFolderOption, NewFolderOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.storage.files import read_public, write_public
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.job import TIME_FORMAT

app = typer.Typer(help="Found a consortium, approve members, publish the directory.", no_args_is_help=True)


@app.command("init")
@reported
def init(
    *,
    consortium_id: Annotated[str, typer.Option("--id", help="Id of the consortium: a-z, 0-9 and -.")],
    folder: NewFolderOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Make the consortium's keys, its certificate and version 1 of its directory."""
    directory = consortium.init_consortium(folder, consortium=consortium_id, now=now())
    lines = [
        f"Founded {consortium_id} in {folder}.",
        f"founder's fingerprint: {grouped(directory.founder_key.fingerprint)}",
        "Read it out to every member, over another channel than the directory comes by.",
    ]
    Output(output_format).result(describe(directory), "\n".join(lines))


@app.command("approve")
@reported
def approve(
    *,
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The request file of the new member.", dir_okay=False)],
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="What the member read out over another channel.")],
    folder: ConsortiumFolderOption,
    roles: Annotated[list[Role] | None, typer.Option("--roles", help="Roles of a party, instead of those it asks for.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the new directory to this file.")] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Take a member into the directory, and sign and publish its next version."""
    data = read_public(request, max_bytes=MAX_DOCUMENT_BYTES)
    directory = consortium.approve(folder, data, fingerprint=fingerprint, roles=roles, now=now())
    published = consortium.ConsortiumFolder(folder).directory_file
    if out is not None:
        write_public(out, read_public(published, max_bytes=MAX_DOCUMENT_BYTES))
    text = f"Version {directory.version} of the directory is in {out or published}; send it to every member."
    Output(output_format).result(describe(directory), text)


@app.command("remove")
@reported
def remove(
    *,
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Id of a party or researcher.")],
    folder: ConsortiumFolderOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Take a member out of the directory, and sign its next version; no party lets it in once it has joined that version."""
    directory = consortium.remove(folder, member=member, now=now())
    text = f"{member} is not in version {directory.version} of the directory; send it to every member."
    Output(output_format).result(describe(directory), text)


@app.command("publish")
@reported
def publish(
    *,
    folder: ConsortiumFolderOption,
    out: Annotated[Path, typer.Option("--out", help="The file to write.", dir_okay=False)],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Write the newest signed directory to a file, to send to the members."""
    directory = consortium.publish(folder, out)
    Output(output_format).result(describe(directory), f"Version {directory.version} of the directory is in {out}.")


@app.command("show")
@reported
def show(*, folder: ConsortiumFolderOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show who belongs to the consortium."""
    directory = consortium.load_consortium(folder)
    Output(output_format).result(describe(directory), in_words(directory))


def describe(directory: Directory) -> dict[str, Json]:
    """Returns a directory for the JSON formats, without its certificates."""
    return {
        "consortium": directory.consortium,
        "version": directory.version,
        "issued": directory.issued.strftime(TIME_FORMAT),
        "founder_fingerprint": directory.founder_key.fingerprint,
        "parties": [
            {"id": party.id, "endpoint": party.endpoint, "roles": [role.value for role in party.roles]}
            for party in directory.parties
        ],
        "researchers": [{"id": entry.id, "institution": entry.institution} for entry in directory.researchers],
    }


def in_words(directory: Directory) -> str:
    """Returns a directory for people."""
    rows = [(party.id, party.endpoint, ", ".join(role.value for role in party.roles)) for party in directory.parties]
    rows += [(entry.id, entry.institution or "-", "researcher") for entry in directory.researchers]
    return "\n".join(
        [
            f"consortium {directory.consortium}, version {directory.version} of {directory.issued.strftime(TIME_FORMAT)}",
            f"founder's fingerprint: {grouped(directory.founder_key.fingerprint)}",
            "",
            table(("member", "at", "roles"), rows),
        ]
    )
