"""`confide researcher`: how a researcher enrols."""

from __future__ import annotations

from typing import Annotated

import typer

from governance.identity.certificates import parse_certificate
from governance.identity.names import MemberKind
from parties.cli.consortium import describe, in_words
from parties.cli.options import DirectoryOption, FounderOption, NewFolderOption, ResearcherConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from parties.cli.party import describe_enrolment, enrolment_in_words
from parties.config import load_researcher_config
from parties.enrolment import init_researcher, join_researcher
from parties.storage.files import read_public
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.job import TIME_FORMAT

app = typer.Typer(help="Set up a researcher's folder and enrol her.", no_args_is_help=True)


@app.command("init")
@reported
def init(
    *,
    researcher: Annotated[str, typer.Option("--id", help="Id of the researcher: a-z, 0-9 and -.")],
    folder: NewFolderOption,
    institution: Annotated[str | None, typer.Option("--institution", help="Id of the party she belongs to, if any.")] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Make keys here, a researcher.yaml, and a request for the founder."""
    enrolment = init_researcher(folder, researcher=researcher, institution=institution)
    Output(output_format).result(describe_enrolment(enrolment), enrolment_in_words(enrolment))


@app.command("join")
@reported
def join(
    *,
    config: ResearcherConfigOption,
    directory: DirectoryOption,
    founder_fingerprint: FounderOption = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Take over the directory that the founder signed, and the certificate in it."""
    data = read_public(directory, max_bytes=MAX_DOCUMENT_BYTES)
    joined = join_researcher(load_researcher_config(config), data, founder_fingerprint=founder_fingerprint, now=now())
    text = f"Joined {joined.consortium}, version {joined.version} of its directory."
    Output(output_format).result(describe(joined), text)


@app.command("show")
@reported
def show(*, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show this researcher's certificate, and the parties and roles that her requests may name."""
    loaded = load_researcher_config(config)
    member = loaded.folder.load_member(kind=MemberKind.RESEARCHER, member=loaded.researcher, now=now())
    until = parse_certificate(member.certificate).not_after.strftime(TIME_FORMAT)
    data: dict[str, Json] = {
        "researcher": loaded.researcher,
        "certificate_valid_until": until,
        "directory": describe(member.directory),
    }
    text = f"researcher {loaded.researcher}, certificate valid until {until}\n{in_words(member.directory)}"
    Output(output_format).result(data, text)
