"""`confide`: the commands, one file per noun.

Modules of commands import only what every start needs; what one command needs, it imports itself, so that `confide --help`
never waits for a tensor library.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from parties.cli import (
    agreement,
    audit,
    augmentation,
    budget,
    catalogue,
    consortium,
    dataset,
    grant,
    harness,
    infer,
    job,
    model,
    net,
    party,
    person,
    policy,
    privacy,
    researcher,
    serve,
)
from parties.cli.doctor import doctor
from parties.cli.health import health
from parties.cli.privacy_check import check
from parties.cli.status import status
from protocols import PROTOCOL_VERSION

# The commands, in the order of `confide --help`: another noun is another line.
COMMANDS: tuple[tuple[str, typer.Typer], ...] = (
    ("consortium", consortium.app),
    ("party", party.app),
    ("researcher", researcher.app),
    ("person", person.app),
    ("policy", policy.app),
    ("catalogue", catalogue.app),
    ("agreement", agreement.app),
    ("dataset", dataset.app),
    ("augmentation", augmentation.app),
    ("grant", grant.app),
    ("job", job.app),
    ("serve", serve.app),
    ("infer", infer.app),
    ("budget", budget.app),
    ("model", model.app),
    ("privacy", privacy.app),
    ("net", net.app),
    ("audit", audit.app),
    ("harness", harness.app),
)

app = typer.Typer(
    name="confide",
    help="Institutions train a model together under secret sharing; researchers query it; nobody sees anybody's secret.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: it reads the same on a narrow terminal, in a pipe and in a log
    pretty_exceptions_enable=False,
)
for _name, _commands in COMMANDS:
    app.add_typer(_commands, name=_name)
app.command("status")(status)
app.command("doctor")(doctor)
app.command("health")(health)
app.command("privacy-check")(check)  # `confide privacy check` in a word, as pipelines name their checks


def _print_version(asked: bool) -> None:
    if asked:
        try:
            program = version("confide")
        except PackageNotFoundError:  # run from a source tree that was not set up
            program = "(not installed)"
        print(f"confide {program} protocol {PROTOCOL_VERSION}")
        raise typer.Exit


@app.callback()
def confide(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print program and protocol version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Confide."""


def main() -> None:
    """Runs the command line; the console script `confide`."""
    app()
