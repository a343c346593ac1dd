"""Answers other parties' probes of the connection, and measures the way back for them; bounded in size, time and rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from governance.identity.certificates import parse_certificate
from parties.client.measure import MAX_IDLE_S, SIZES, measure, to_wire
from parties.operating.own import tls_identity
from parties.server.access import caller
from parties.server.party import Party
from parties.transport.tls import open_channel
from parties.wire.generated.confide.v1 import party_pb2
from protocols import PROTOCOL_VERSION
from protocols.errors import ConfideError, ErrorCode

# One run of `confide net diagnose` takes some 20 calls and 40 MB in each direction.
CALLS_PER_MINUTE = 120
BYTES_PER_MINUTE = 160 << 20
MAX_PADDING_BYTES = SIZES[0]


@dataclass
class _Spent:
    calls: int = 0
    size: int = 0
    window: float = 0.0
    is_measuring: bool = False


class Prober:
    """The probes of all callers; safe to use from several threads."""

    def __init__(self, party: Party, software_version: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the party, its version, and a clock in seconds for the rates."""
        self._party = party
        self._version = software_version
        self._clock = clock
        self._lock = Lock()
        self._spent: dict[str, _Spent] = {}

    def probe(self, request: party_pb2.ProbeRequest) -> party_pb2.ProbeReply:
        """Answers one probe.

        Raises:
            ConfideError: INVALID_ARGUMENT: more than a message may hold; PARTY_BUSY: more than this caller may ask for now.
        """
        received_ns, peer = time.time_ns(), caller().id
        if request.reply_bytes > MAX_PADDING_BYTES or request.idle_ms > MAX_IDLE_S * 1000:
            what = f"a probe asks for at most {MAX_PADDING_BYTES} bytes and {MAX_IDLE_S:.0f} s"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
        self._charge(peer, len(request.padding) + request.reply_bytes)
        directory = self._party.directory
        return party_pb2.ProbeReply(
            party=self._party.id,
            protocol_version=int(PROTOCOL_VERSION),
            software_version=self._version,
            directory_version=directory.version,
            received_ns=received_ns,
            certificate_until=int(parse_certificate(self._party.member.certificate).not_after.timestamp()),
            padding=bytes(request.reply_bytes),
            back=self._measure_back(peer, request.idle_ms / 1000) if request.measure_back else None,
        )

    def _charge(self, peer: str, size: int) -> None:
        with self._lock:
            spent, now = self._spent.setdefault(peer, _Spent(window=self._clock())), self._clock()
            if now - spent.window >= 60.0:
                spent.calls, spent.size, spent.window = 0, 0, now
            if spent.calls + 1 > CALLS_PER_MINUTE or spent.size + size > BYTES_PER_MINUTE:
                raise ConfideError(ErrorCode.PARTY_BUSY, f"{peer} probes too often", remedy="Probe again in a minute.")
            spent.calls += 1
            spent.size += size

    def _measure_back(self, peer: str, idle_s: float) -> party_pb2.Connection:
        spent = self._spent[peer]
        with self._lock:
            if spent.is_measuring:
                raise ConfideError(ErrorCode.PARTY_BUSY, f"the way back to {peer} is being measured already")
            spent.is_measuring = True
        try:
            identity, endpoint = tls_identity(self._party.member), self._party.directory.party(peer).endpoint
            # A connection of its own: that of the sessions may be busy, and must not be cut by a failing measurement.
            with open_channel(identity, endpoint=endpoint, party=peer) as channel:
                return to_wire(measure(channel, party=peer, idle_s=idle_s))
        except ConfideError as error:
            return to_wire(error)
        finally:
            with self._lock:
                spent.is_measuring = False
