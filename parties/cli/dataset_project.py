"""`confide dataset project`: for whom this institution's key makes pseudonyms, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.options import PartyConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import load_party_config
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from parties.storage.linking import ProjectRecord

app = typer.Typer(help="Open and close projects of keyed pseudonyms.", no_args_is_help=True)
NameOption = Annotated[str, typer.Option("--name", help="The project's name, the same at every institution.")]


@app.command("open")
@reported
def open_(
    *,
    config: PartyConfigOption,
    name: NameOption,
    peers: Annotated[list[str], typer.Option("--with", help="Another institution of the project; repeat for all of them.")],
    evaluations: Annotated[
        int, typer.Option("--evaluations", min=0, help="How many evaluations each of them may ask for: so many guesses as well.")
    ],
    rotation: Annotated[int, typer.Option("--rotation", min=1, help="Counts the keys of the project.")] = 1,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Help others to make pseudonyms of a project, up to a number; again for another number or the next rotation."""
    from parties.linking.projects import open_project

    loaded = load_party_config(config)
    record = open_project(loaded, name, peers=peers, evaluations=evaluations, rotation=rotation, now=now())
    text = f"Project {name} is open at rotation {rotation}, with {', '.join(record.members)}: {evaluations} evaluations for each."
    Output(output_format).result(_describe(record, {}), text)


@app.command("close")
@reported
def close(*, config: PartyConfigOption, name: NameOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Help nobody any more to make pseudonyms of a project."""
    from parties.linking.projects import close_project

    record = close_project(load_party_config(config), name, now=now())
    Output(output_format).result(_describe(record, {}), f"Project {name} is closed; nothing is evaluated for anybody.")


@app.command("list")
@reported
def list_all(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the projects that were opened here, and what was evaluated for whom."""
    from parties.linking.projects import list_projects

    found = list_projects(load_party_config(config))
    rows = [
        (record.project, str(record.rotation), peer, f"{used} of {record.evaluations}", "closed" if record.closed else "open")
        for record, uses in found
        for peer, used in uses.items()
    ]
    text = table(("project", "rotation", "for", "evaluated", "standing"), rows)
    Output(output_format).result({"projects": [_describe(record, uses) for record, uses in found]}, text)


def _describe(record: ProjectRecord, uses: Mapping[str, int]) -> dict[str, Json]:
    return {
        "name": record.project,
        "rotation": record.rotation,
        "members": list(record.members),
        "evaluations": record.evaluations,
        "evaluated": dict(uses),
        "opened": record.opened.strftime(TIME_FORMAT),
        "closed": None if record.closed is None else record.closed.strftime(TIME_FORMAT),
    }
