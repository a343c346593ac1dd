"""Options that several commands share, and the one place where a command asks for the time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from protocols.errors import ConfideError


def _config_of_profile() -> Path:
    from parties.client.profiles import load_profile

    try:
        return load_profile().researcher_config
    except ConfideError as error:
        raise typer.BadParameter(f"none is given, and there is no profile: {error.what}", param_hint="--config") from error


PartyConfigOption = Annotated[Path, typer.Option("--config", help="The institution's party.yaml.", dir_okay=False)]
ResearcherConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        help="The researcher's researcher.yaml; else that of the profile in CONFIDE_PROFILE, else of the active one.",
        dir_okay=False,
        default_factory=_config_of_profile,
        show_default=False,
    ),
]
PersonOption = Annotated[
    Path, typer.Option("--person", help="The folder of the person who has the institution do it.", file_okay=False)
]
NewFolderOption = Annotated[Path, typer.Option("--folder", help="Where everything goes; made if missing.", file_okay=False)]
ConsortiumFolderOption = Annotated[Path, typer.Option("--folder", help="The consortium's folder.", file_okay=False)]
DirectoryOption = Annotated[Path, typer.Option("--directory", help="The signed directory.", dir_okay=False)]
FounderOption = Annotated[
    str | None,
    typer.Option(
        "--founder-fingerprint",
        help="What the founder read out over another channel; needed the first time, pinned afterwards.",
    ),
]


def now() -> datetime:
    """Returns the time, UTC."""
    return datetime.now(UTC)
