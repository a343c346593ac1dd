"""`confide model receive` and `confide model licence`: weights that a release opened, and what they may be used for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parties.cli.options import ResearcherConfigOption, now
from parties.cli.output import FormatOption, Output, OutputFormat, reported
from protocols.job import TIME_FORMAT

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="As `confide model receive` wrote it.", file_okay=False)]


@reported
def receive(
    *,
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="A completed release: its id, or its beginning.")],
    into: Annotated[Path, typer.Option("--into", help="A folder that does not exist yet.", file_okay=False)],
    config: ResearcherConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Open the weights of a release, and keep them with the licences of all parties that released them."""
    from parties.client.client import Client
    from parties.released import keep_released, refuse_folder

    refuse_folder(into)  # before the shares are fetched, since they are handed out once
    client = Client.open(config, now=now())
    try:
        job = client.job(job_id)
        keep_released(into, job, client.calls.released(job), client.directory)
    finally:
        client.close()
    text = f"The weights are in {into}; `confide model licence {into}` shows what they may be used for."
    Output(output_format).result({"job": job.job_id, "folder": str(into)}, text)


@reported
def licence(
    *,
    folder: FolderArgument,
    purpose: Annotated[str, typer.Option("--purpose", help="What you want to use the weights for.")],
    config: ResearcherConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Check that released weights are whole and that their licence permits you this use now."""
    from governance.privacy_claims import claims_in_words
    from parties.client.client import Client
    from parties.released import load_released

    client = Client.open(config, now=now())
    try:
        found = load_released(folder, client.directory, recipient=client.researcher, purpose=purpose, now=now()).licence
    finally:
        client.close()
    issuers = sorted(found.commitments)
    data = {
        "model": found.ref.label,
        "purpose": found.purpose,
        "recipients": list(found.recipients),
        "issuers": list(issuers),
        "expires": found.expires.strftime(TIME_FORMAT),
        "job": found.job,
        "privacy": claims_in_words(found.claims),
    }
    text = (
        f"{found.ref.label}, released by {', '.join(issuers)} in job {found.job}\n"
        f"for {found.purpose}, by {', '.join(found.recipients)}, until {found.expires.strftime(TIME_FORMAT)}\n"
        f"privacy: {claims_in_words(found.claims)}"
    )
    Output(output_format).result(dict(data), text)
