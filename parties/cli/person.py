"""`confide person`: the key of somebody who acts for an institution."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from governance.identity.names import grouped
from governance.people.person import Person
from governance.people.roles import PersonRole
from parties.cli.options import NewFolderOption
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported
from parties.people import PersonFolder, make_person
from parties.policy_file import person_line

app = typer.Typer(help="Keys of the people who act for an institution.", no_args_is_help=True)

RolesOption = Annotated[list[PersonRole], typer.Option("--roles", help="What the person does; may be repeated.")]


@app.command("init")
@reported
def init(
    *,
    person: Annotated[str, typer.Option("--id", help="Id of the person at the institution: a-z, 0-9 and -.")],
    folder: NewFolderOption,
    roles: RolesOption,
    member: Annotated[
        str | None, typer.Option("--member", help="Her id as a researcher of the consortium, if she is one.")
    ] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Make a key here; prints the line for the policy's list of people."""
    made = make_person(folder, person, roles, member=member)
    lines = [
        f"Made a key in {folder}; it never leaves this folder.",
        "Whoever keeps the institution's policy adds this line under `people:`, after comparing the fingerprint with you:",
        f"  - {person_line(made)}",
        f"fingerprint: {grouped(made.key.fingerprint)}",
    ]
    Output(output_format).result(_described(made), "\n".join(lines))


@app.command("show")
@reported
def show(
    *,
    folder: Annotated[Path, typer.Option("--folder", help="The person's folder.", file_okay=False)],
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Show a person's id and the fingerprint of her key."""
    person, key = PersonFolder(folder).load()
    data: dict[str, Json] = {"id": person, "key": key.public.hex, "fingerprint": key.public.fingerprint}
    Output(output_format).result(data, f"{person}\nkey: {key.public.hex}\nfingerprint: {grouped(key.public.fingerprint)}")


def _described(person: Person) -> dict[str, Json]:
    return {
        "id": person.id,
        "roles": sorted(role.value for role in person.roles),
        "key": person.key.hex,
        "member": person.member,
        "fingerprint": person.key.fingerprint,
    }
