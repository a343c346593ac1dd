"""How far other parties' clocks are from this one: one small probe each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from parties.operating.own import tls_identity
from parties.storage.state import Member
from parties.transport.tls import open_channel
from parties.wire.methods import PROBE
from protocols.errors import ConfideError


@dataclass(frozen=True)
class ClockReading:
    """One party's clock.

    Attributes:
        party: its id.
        failure: why it could not be read; None if it was.
        offset_s: its clock minus this one.
        error_s: by how much that may be wrong.
    """

    party: str
    failure: ConfideError | None
    offset_s: float = 0.0
    error_s: float = 0.0


def read_clocks(member: Member, parties: Sequence[str], *, timeout_s: float) -> tuple[ClockReading, ...]:
    """Reads the clocks of these parties at once."""
    if not parties:
        return ()
    with ThreadPoolExecutor(len(parties), thread_name_prefix="clock") as pool:
        return tuple(pool.map(lambda party: _read(member, party, timeout_s), parties))


def _read(member: Member, party: str, timeout_s: float) -> ClockReading:
    try:
        with open_channel(tls_identity(member), endpoint=member.directory.party(party).endpoint, party=party) as channel:
            PROBE.call(channel, PROBE.request(), party=party, timeout_s=timeout_s)  # opens the connection
            before = time.time()
            reply = PROBE.call(channel, PROBE.request(), party=party, timeout_s=timeout_s)
            after = time.time()
    except ConfideError as error:
        return ClockReading(party, error)
    return ClockReading(party, None, reply.received_ns / 1e9 - (before + after) / 2, (after - before) / 2)
