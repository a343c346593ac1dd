"""`confide harness`: a throw-away consortium on this machine, for trials and tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table

if TYPE_CHECKING:
    from parties.harness import Harness

FolderOption = Annotated[Path, typer.Option("--folder", help="The harness's folder.", file_okay=False)]
DEFAULT_FOLDER = Path("build/harness")
app = typer.Typer(help="Run a throw-away consortium of real processes on this machine.", no_args_is_help=True)


@app.command("up")
@reported
def up(
    *,
    parties: Annotated[int, typer.Option("--parties", min=3, max=16, help="How many institutions.")] = 3,
    folder: FolderOption = DEFAULT_FOLDER,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Found a consortium with its parties and a researcher, and start every party."""
    from parties import harness

    started = harness.up(folder, parties=[f"party-{chr(ord('a') + i)}" for i in range(parties)])
    text = (
        f"{_in_words(started)}\n\n"
        f"researcher: --config {started.researcher_config}\n"
        f"people: --person {started.folder}/PARTY/people/{{{','.join(harness.PEOPLE)}}}\n"
        f"agreement: {harness.AGREEMENT}, for the purpose {harness.PURPOSE}, signed by all; register rows, then permit their use"
    )
    Output(output_format).result(_describe(started), text)


@app.command("status")
@reported
def status(*, folder: FolderOption = DEFAULT_FOLDER, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show which parties run."""
    from parties import harness

    found = harness.status(folder)
    Output(output_format).result(_describe(found), _in_words(found))


@app.command("down")
@reported
def down(*, folder: FolderOption = DEFAULT_FOLDER, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Stop every party; the folder stays."""
    from parties import harness

    stopped = harness.down(folder)
    Output(output_format).result(_describe(stopped), _in_words(stopped))


def _describe(harness: Harness) -> dict[str, Json]:
    from parties.harness import AGREEMENT, PEOPLE, PURPOSE, person_folder

    parties: list[Json] = [
        {"party": p.party, "config": str(p.config_file), "endpoint": p.endpoint, "pid": p.pid, "alive": p.is_alive}
        for p in harness.parties
    ]
    people: dict[str, Json] = {
        p.party: {person: str(person_folder(p.config, person)) for person in PEOPLE} for p in harness.parties
    }
    return {
        "folder": str(harness.folder),
        "parties": parties,
        "researcher_config": str(harness.researcher_config),
        "people": people,
        "agreement": AGREEMENT,
        "purpose": PURPOSE,
    }


def _in_words(harness: Harness) -> str:
    rows = [(p.party, p.endpoint, str(p.pid), "runs" if p.is_alive else "stopped", str(p.config_file)) for p in harness.parties]
    return table(("party", "at", "process", "state", "configuration"), rows)
