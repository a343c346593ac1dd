"""The client of a command: opened from the researcher's configuration, closed when the command ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from parties.cli.options import now

if TYPE_CHECKING:
    from parties.client.client import Client


@contextmanager
def opened_client(config: Path) -> Iterator[Client]:
    """Opens a client for the length of a `with` block."""
    # Loading it takes longer than most commands.
    from parties.client.client import Client

    client = Client.open(config, now=now())
    try:
        yield client
    finally:
        client.close()
