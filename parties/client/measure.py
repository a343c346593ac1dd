"""Measures one connection to a party: round trip, bandwidth, largest message, clocks, and whether it outlives silence.

Every figure comes from calls of the one public port, as sessions use it. Nothing is kept, and nothing but padding is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from threading import Event

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parties.transport.tls import MAX_MESSAGE_BYTES
from parties.wire.generated.confide.v1 import party_pb2
from parties.wire.methods import PROBE
from protocols.errors import ConfideError, ErrorCode

ROUND_TRIPS = 9
# Of padding; the first is the largest that fits into a message with what stands around it.
SIZES = (MAX_MESSAGE_BYTES - 1024, 1 << 20, 256 << 10, 64 << 10)
REPEATS = 3
CALL_TIMEOUT_S = 20.0
# A party sends keepalive pings every 15 s on a stream; one that outlives this silence outlives any.
DEFAULT_IDLE_S = 20.0
MAX_IDLE_S = 120.0
Probe = Callable[[party_pb2.ProbeRequest], party_pb2.ProbeReply]


@dataclass(frozen=True)
class Measurement:
    """What one connection is like, seen from the party that opened it.

    Attributes:
        round_trip_s: median of some small calls.
        sent_bytes_per_s: on the way there, best of some large calls.
        received_bytes_per_s: on the way back.
        largest_message_bytes: the largest padding that came through in both directions.
        idle_s: how long a stream was left without traffic.
        outlived_idle: whether it was still there.
        clock_offset_s: the other clock minus this one.
        clock_error_s: by how much that may be wrong: half the shortest round trip.
        certificate_until: end of the other party's certificate.
        protocol_version: the other party's.
        software_version: the other party's.
        directory_version: the version of the directory that the other party holds.
    """

    round_trip_s: float
    sent_bytes_per_s: float
    received_bytes_per_s: float
    largest_message_bytes: int
    idle_s: float
    outlived_idle: bool
    clock_offset_s: float
    clock_error_s: float
    certificate_until: datetime
    protocol_version: int
    software_version: str
    directory_version: int


def measure(channel: grpc.Channel, *, party: str, idle_s: float) -> Measurement:
    """Measures a channel; takes `idle_s` and some seconds.

    Args:
        channel: to the party's public port.
        party: its id.
        idle_s: how long to leave a stream without traffic.

    Raises:
        ConfideError: PARTY_UNREACHABLE, PEER_SILENT, UNAUTHENTICATED, or what the party answered (NOT_AUTHORISED, PARTY_BUSY).
    """

    def probe(request: party_pb2.ProbeRequest) -> party_pb2.ProbeReply:
        return PROBE.call(channel, request, party=party, timeout_s=CALL_TIMEOUT_S)

    stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    probe(party_pb2.ProbeRequest())  # the first call opens the connection
    round_trips, offsets = [], []
    for _ in range(ROUND_TRIPS):
        reply, began, took = _timed(probe, party_pb2.ProbeRequest())
        round_trips.append(took)
        offsets.append(reply.received_ns / 1e9 - (began + took / 2))
    best = min(range(ROUND_TRIPS), key=round_trips.__getitem__)
    largest = _largest(probe)
    sent = _rate(probe, party_pb2.ProbeRequest(padding=bytes(largest)), largest, round_trips[best])
    received = _rate(probe, party_pb2.ProbeRequest(reply_bytes=largest), largest, round_trips[best])
    return Measurement(
        round_trip_s=median(round_trips),
        sent_bytes_per_s=sent,
        received_bytes_per_s=received,
        largest_message_bytes=largest,
        idle_s=idle_s,
        outlived_idle=_outlives(stream, idle_s),
        clock_offset_s=offsets[best],
        clock_error_s=round_trips[best] / 2,
        certificate_until=datetime.fromtimestamp(reply.certificate_until, UTC),
        protocol_version=reply.protocol_version,
        software_version=reply.software_version,
        directory_version=reply.directory_version,
    )


def to_wire(found: Measurement | ConfideError) -> party_pb2.Connection:
    """Returns a measurement, or why there is none, as it travels back to the party that asked for it."""
    if isinstance(found, ConfideError):
        return party_pb2.Connection(code=found.code.name, what=found.what)
    return party_pb2.Connection(
        round_trip_ns=int(found.round_trip_s * 1e9),
        sent_bytes_per_s=int(found.sent_bytes_per_s),
        received_bytes_per_s=int(found.received_bytes_per_s),
        largest_message_bytes=found.largest_message_bytes,
        idle_ms=int(found.idle_s * 1e3),
        outlived_idle=found.outlived_idle,
        clock_offset_ns=int(found.clock_offset_s * 1e9),
        clock_error_ns=int(found.clock_error_s * 1e9),
        certificate_until=int(found.certificate_until.timestamp()),
        protocol_version=found.protocol_version,
        software_version=found.software_version,
        directory_version=found.directory_version,
    )


def from_wire(found: party_pb2.Connection, *, party: str) -> Measurement | ConfideError:
    """Returns what another party measured of its connection to this one; its texts are shown on one line, shortened."""
    if found.code:
        code = ErrorCode.__members__.get(found.code, ErrorCode.INTERNAL)
        return ConfideError(code, _shown(found.what), party=party)
    return Measurement(
        round_trip_s=found.round_trip_ns / 1e9,
        sent_bytes_per_s=float(found.sent_bytes_per_s),
        received_bytes_per_s=float(found.received_bytes_per_s),
        largest_message_bytes=found.largest_message_bytes,
        idle_s=found.idle_ms / 1e3,
        outlived_idle=found.outlived_idle,
        clock_offset_s=found.clock_offset_ns / 1e9,
        clock_error_s=found.clock_error_ns / 1e9,
        certificate_until=datetime.fromtimestamp(min(found.certificate_until, 1 << 33), UTC),
        protocol_version=found.protocol_version,
        software_version=_shown(found.software_version),
        directory_version=found.directory_version,
    )


def _timed(probe: Probe, request: party_pb2.ProbeRequest) -> tuple[party_pb2.ProbeReply, float, float]:
    began, start = time.time(), time.perf_counter()
    reply = probe(request)
    return reply, began, time.perf_counter() - start


def _largest(probe: Probe, sizes: Sequence[int] = SIZES) -> int:
    lost: ConfideError | None = None
    for size in sizes:
        try:
            reply = probe(party_pb2.ProbeRequest(padding=bytes(size), reply_bytes=size))
        except ConfideError as error:
            lost = error
            continue
        if len(reply.padding) == size:
            return size
    raise lost or ConfideError(ErrorCode.BAD_FRAME, f"no message of {sizes[-1]:,} bytes came through")


def _rate(probe: Probe, request: party_pb2.ProbeRequest, size: int, round_trip_s: float) -> float:
    took = min(_timed(probe, request)[2] for _ in range(REPEATS))
    return size / max(took - round_trip_s, 1e-6)


def _outlives(stream: grpc.Call, idle_s: float) -> bool:
    ended = Event()
    if not stream.add_callback(ended.set):
        return False
    outlived = not ended.wait(idle_s)
    stream.cancel()
    return outlived


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:200])
