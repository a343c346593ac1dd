"""Whether a party serves, asked over its public port with its own certificate."""

from __future__ import annotations

from datetime import UTC, datetime

from parties.config import PartyConfig
from parties.operating.own import is_serving, load_own_member, own_channel


def is_healthy(config: PartyConfig, *, timeout_s: float) -> bool:
    """Asks the party of this configuration, as itself, at the address that it listens to.

    Raises:
        ConfideError: NOT_ENROLLED, FILE_MODE, INVALID_CONFIG or UNAUTHENTICATED (the operator's fault).
    """
    with own_channel(config, load_own_member(config, datetime.now(UTC))) as channel:
        return is_serving(channel, timeout_s=timeout_s)
