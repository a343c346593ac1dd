"""`confide health`: asks the party of a configuration whether it serves; for containers and supervisors."""

from __future__ import annotations

from typing import Annotated

import typer

from parties.cli.options import PartyConfigOption
from parties.cli.output import FormatOption, Output, OutputFormat, reported
from parties.config import load_party_config
from protocols.errors import ConfideError, ErrorCode


@reported
def health(
    *,
    config: PartyConfigOption,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, max=60, help="Seconds to wait.")] = 5.0,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Exit with 0 if the party serves."""
    from parties.client.health import is_healthy

    loaded = load_party_config(config)
    if not is_healthy(loaded, timeout_s=timeout_s):
        raise ConfideError(ErrorCode.PARTY_UNREACHABLE, f"{loaded.party} does not serve at {loaded.listen}", party=loaded.party)
    Output(output_format).result({"party": loaded.party, "serving": True}, f"{loaded.party} serves at {loaded.listen}")
