"""`confide researcher`: how a researcher enrols."""

from __future__ import annotations

from typing import Annotated

import typer

from parties.cli.consortium import describe
from parties.cli.options import DirectoryOption, FounderOption, NewFolderOption, ResearcherConfigOption, now
from parties.cli.output import FormatOption, Output, OutputFormat, reported
from parties.cli.party import describe_enrolment, enrolment_in_words
from parties.config import load_researcher_config
from parties.enrolment import init_researcher, join_researcher
from parties.storage.files import read_public
from protocols.canonical import MAX_DOCUMENT_BYTES

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
