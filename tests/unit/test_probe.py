"""Probes of other parties are answered within bounds: of size, of rate, and one measurement of the way back at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from governance.identity.names import MemberKind, PeerIdentity
from parties.client.measure import MAX_IDLE_S, Measurement, from_wire, to_wire
from parties.server import access
from parties.server.probe import BYTES_PER_MINUTE, CALLS_PER_MINUTE, MAX_PADDING_BYTES, Prober
from parties.transport.tls import MAX_MESSAGE_BYTES
from parties.wire.generated.confide.v1 import party_pb2
from protocols.errors import ConfideError, ErrorCode
from tests.support.members import a_world

WORLD = a_world()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def prober(clock: Clock) -> Iterator[Prober]:
    member = SimpleNamespace(certificate=WORLD.certificate_of("hospital-a"), tls_key=WORLD.hospital_a.tls)
    party = SimpleNamespace(id="hospital-a", member=member, directory=WORLD.directory)
    token = access._caller.set(PeerIdentity(MemberKind.PARTY, "cardio", "hospital-b"))
    yield Prober(cast(Any, party), "1.2.3", clock=clock)
    access._caller.reset(token)


def refusal(prober: Prober, **fields: Any) -> ErrorCode:
    with pytest.raises(ConfideError) as caught:
        prober.probe(party_pb2.ProbeRequest(**fields))
    return caught.value.code


def test_probe_tells_who_and_when_and_nothing_else(prober: Prober) -> None:
    reply = prober.probe(party_pb2.ProbeRequest())
    assert (reply.party, reply.software_version, reply.directory_version) == ("hospital-a", "1.2.3", 3)
    assert abs(reply.received_ns / 1e9 - datetime.now(UTC).timestamp()) < 60
    assert reply.padding == b""
    assert not reply.HasField("back")


def test_probe_answers_with_as_many_bytes_as_asked_for(prober: Prober) -> None:
    reply = prober.probe(party_pb2.ProbeRequest(reply_bytes=MAX_PADDING_BYTES))
    assert len(reply.padding) == MAX_PADDING_BYTES
    assert reply.ByteSize() <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize("fields", [{"reply_bytes": MAX_PADDING_BYTES + 1}, {"idle_ms": int(MAX_IDLE_S * 1000) + 1}])
def test_probe_for_more_than_a_message_or_too_long_is_refused(prober: Prober, fields: dict[str, int]) -> None:
    assert refusal(prober, **fields) is ErrorCode.INVALID_ARGUMENT


def test_probes_above_the_rate_are_refused_until_the_minute_is_over(prober: Prober, clock: Clock) -> None:
    for _ in range(CALLS_PER_MINUTE):
        prober.probe(party_pb2.ProbeRequest())
    assert refusal(prober) is ErrorCode.PARTY_BUSY
    clock.now += 60
    prober.probe(party_pb2.ProbeRequest())


def test_probes_above_the_bytes_of_a_minute_are_refused(prober: Prober) -> None:
    for _ in range(BYTES_PER_MINUTE // (2 * MAX_PADDING_BYTES)):
        prober.probe(party_pb2.ProbeRequest(padding=bytes(MAX_PADDING_BYTES), reply_bytes=MAX_PADDING_BYTES))
    assert refusal(prober, reply_bytes=MAX_PADDING_BYTES) is ErrorCode.PARTY_BUSY


def test_one_callers_probes_take_nothing_from_another(prober: Prober) -> None:
    for _ in range(CALLS_PER_MINUTE):
        prober.probe(party_pb2.ProbeRequest())
    access._caller.set(PeerIdentity(MemberKind.PARTY, "cardio", "hospital-c"))
    prober.probe(party_pb2.ProbeRequest())


def test_way_back_that_is_being_measured_is_not_measured_twice(prober: Prober) -> None:
    prober.probe(party_pb2.ProbeRequest())
    prober._spent["hospital-b"].is_measuring = True
    assert refusal(prober, measure_back=True) is ErrorCode.PARTY_BUSY


def test_measurement_travels_and_comes_back_equal() -> None:
    until = datetime(2026, 5, 1, tzinfo=UTC)
    found = Measurement(0.25, 2e6, 3e6, 65536, 20.0, False, -1.5, 0.125, until, 1, "1.2.3", 7)
    assert from_wire(to_wire(found), party="hospital-b") == found


def test_failure_to_measure_travels_with_its_code_and_shows_no_control_characters() -> None:
    wire = to_wire(ConfideError(ErrorCode.PARTY_UNREACHABLE, "no\x1b[31m route"))
    found = from_wire(wire, party="hospital-b")
    assert isinstance(found, ConfideError)
    assert (found.code, found.what, found.party) == (ErrorCode.PARTY_UNREACHABLE, "no [31m route", "hospital-b")


def test_failure_with_a_code_that_is_unknown_here_is_still_a_failure() -> None:
    found = from_wire(party_pb2.Connection(code="SOMETHING_NEW", what="x"), party="hospital-b")
    assert isinstance(found, ConfideError)
    assert found.code is ErrorCode.INTERNAL
