"""`confide party`: an institution's commands."""

from __future__ import annotations

from typing import Annotated

import typer

from governance.identity.certificates import parse_certificate
from governance.identity.names import MemberKind, Role, grouped
from parties.cli.consortium import describe, in_words
from parties.cli.options import DirectoryOption, FounderOption, NewFolderOption, PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from parties.config import load_party_config
from parties.enrolment import Enrolment, init_party, join_party
from parties.storage.files import read_public
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.job import TIME_FORMAT

app = typer.Typer(help="Set up an institution's party, enrol it, run it.", no_args_is_help=True)


@app.command("init")
@reported
def init(
    *,
    party: Annotated[str, typer.Option("--id", help="Id of the party: a-z, 0-9 and -.")],
    endpoint: Annotated[str, typer.Option("--endpoint", help="host:port at which the others reach it.")],
    listen: Annotated[str, typer.Option("--listen", help="host:port that its one public port binds to.")],
    folder: NewFolderOption,
    roles: Annotated[list[Role], typer.Option("--roles", help="What it wants to do; may be repeated.")],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Make keys here, a party.yaml, and a request for the founder."""
    enrolment = init_party(folder, party=party, endpoint=endpoint, listen=listen, roles=roles)
    policy = "Its policy.yaml lists nobody and refuses every job until you change it: docs/policy.md."
    Output(output_format).result(describe_enrolment(enrolment), f"{enrolment_in_words(enrolment)}\n{policy}")


@app.command("join")
@reported
def join(
    *,
    config: PartyConfigOption,
    directory: DirectoryOption,
    founder_fingerprint: FounderOption = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Take over the directory that the founder signed, and this party's certificate in it."""
    data = read_public(directory, max_bytes=MAX_DOCUMENT_BYTES)
    joined = join_party(load_party_config(config), data, founder_fingerprint=founder_fingerprint, now=now())
    text = f"Joined {joined.consortium}, version {joined.version} of its directory."
    Output(output_format).result(describe(joined), text)


@app.command("show")
@reported
def show(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show this party's configuration, certificate and directory."""
    loaded = load_party_config(config)
    member = loaded.folder.member.load_member(kind=MemberKind.PARTY, member=loaded.party, now=now())
    until = parse_certificate(member.certificate).not_after.strftime(TIME_FORMAT)
    data: dict[str, Json] = {
        "party": loaded.party,
        "listen": loaded.listen,
        "certificate_valid_until": until,
        "directory": describe(member.directory),
    }
    text = f"party {loaded.party}, listens at {loaded.listen}, certificate valid until {until}\n{in_words(member.directory)}"
    Output(output_format).result(data, text)


@app.command("serve")
@reported
def serve(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Run this party's process until it is told to stop."""
    from parties.server.serve import serve as run

    run(load_party_config(config))


def describe_enrolment(enrolment: Enrolment) -> dict[str, Json]:
    """Returns an enrolment for the JSON formats."""
    return {
        "id": enrolment.request.id,
        "config": str(enrolment.config_file),
        "request": str(enrolment.request_file),
        "fingerprint": enrolment.request.fingerprint,
    }


def enrolment_in_words(enrolment: Enrolment) -> str:
    """Returns an enrolment for people."""
    return "\n".join(
        [
            f"Made keys and {enrolment.config_file}.",
            f"Send {enrolment.request_file} to the founder, and read out its fingerprint over another channel:",
            f"fingerprint: {grouped(enrolment.request.fingerprint)}",
        ]
    )
