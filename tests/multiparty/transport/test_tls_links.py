"""Links over real mutual TLS on loopback: how they are joined, carry frames and end."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from governance.identity.names import MemberKind
from parties.transport import streams
from parties.transport.frames import MAX_FRAME_BYTES
from parties.transport.streams import ATTEMPT_KEY, LINK_METHOD, SESSION_KEY, LinkTable, dial
from parties.transport.tls import open_channel
from parties.wire.status import from_rpc_error
from protocols.errors import ErrorCode
from protocols.links import TensorSpec
from tests.support.link_pairs import Running, a_frame, a_link, framed
from tests.support.tls_calls import SESSION_ID, refusal
from tests.support.tls_world import (
    PEER,
    SERVER,
    TlsWorld,
)

pytestmark = pytest.mark.multiparty
ROOT = Path(__file__).parents[3]
_ATTEMPTS = itertools.count(1_000)  # every test its own: a link is joined once


# Links.


class Joined:
    """A link between this test's worker ends: `near` dialled, `far` was accepted by the server."""

    def __init__(self, links: LinkTable, channel: grpc.Channel, attempt: int) -> None:
        self.near, near_party = socket.socketpair()
        self.far, far_party = socket.socketpair()
        links.expect(SESSION_ID, attempt, PEER, far_party)
        dial(channel, session=SESSION_ID, attempt=attempt, endpoint=near_party)
        for end in (self.near, self.far):
            end.settimeout(15)
        self._parties = (near_party, far_party)

    def close(self) -> None:
        for end in (self.near, self.far, *self._parties):
            end.close()


@pytest.fixture
def joined(links: LinkTable, channels: dict[MemberKind, grpc.Channel]) -> Iterator[Joined]:
    made = Joined(links, channels[MemberKind.PARTY], attempt=next(_ATTEMPTS))
    yield made
    made.close()


def test_link_carries_messages_of_any_size_in_both_directions(joined: Joined) -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.integers(-(2**63), 2**63 - 1, count, dtype=np.int64) for count in (1, (1 << 20) // 8, (3 << 20) // 8 + 1)]
    near, far = a_link(joined.near, peer=SERVER), a_link(joined.far, peer=PEER)

    def answer() -> None:
        for number, array in enumerate(arrays, start=1):
            far.send(number, far.receive(number, [TensorSpec("int64", array.shape)]))

    answering = Running(answer)
    for number, array in enumerate(arrays, start=1):
        near.send(number, [array])
        (returned,) = near.receive(number, [TensorSpec("int64", array.shape)])
        np.testing.assert_array_equal(returned, array)
    answering.result()
    near.close()
    far.close()
    assert near.frame_bytes == far.frame_bytes
    assert near.payload_bytes == sum(array.nbytes for array in arrays)


def test_link_worker_that_ends_ends_the_other_side_after_its_last_words(joined: Joined) -> None:
    joined.near.sendall(a_frame())
    joined.near.close()
    data = b"".join(iter(lambda: joined.far.recv(1 << 16), b""))
    assert data == a_frame()


def test_link_accepting_worker_that_ends_ends_the_dialling_side_after_its_last_words(joined: Joined) -> None:
    joined.near.sendall(a_frame())
    assert joined.far.recv(1 << 16)
    joined.far.sendall(a_frame(sequence=1))
    joined.far.close()
    data = b"".join(iter(lambda: joined.near.recv(1 << 16), b""))
    assert data == a_frame(sequence=1)


def test_link_frame_above_the_limit_from_a_worker_ends_the_link(joined: Joined) -> None:
    joined.near.sendall(a_frame())
    assert joined.far.recv(1 << 16) == a_frame()
    joined.near.sendall((MAX_FRAME_BYTES + 1).to_bytes(4, "little"))
    assert joined.far.recv(1) == b""


def test_link_frame_above_the_limit_from_a_peer_ends_the_link(links: LinkTable, channels: dict[MemberKind, grpc.Channel]) -> None:
    far, far_party = socket.socketpair()
    with far, far_party:
        far.settimeout(15)
        links.expect(SESSION_ID, 3, PEER, far_party)
        metadata = ((SESSION_KEY, SESSION_ID), (ATTEMPT_KEY, "3"))
        frames = iter([b"x" * 100, b"x" * (MAX_FRAME_BYTES + 1), b"y" * 100])
        stream = channels[MemberKind.PARTY].stream_stream(LINK_METHOD)(frames, metadata=metadata, timeout=15)
        received = b"".join(iter(lambda: far.recv(1 << 16), b""))
        assert received == framed(b"x" * 100)
        assert list(stream) == []


def test_link_of_an_unknown_session_is_refused(channels: dict[MemberKind, grpc.Channel]) -> None:
    error = refusal(channels[MemberKind.PARTY], LINK_METHOD)
    assert error.code is ErrorCode.UNKNOWN_SESSION


@pytest.mark.parametrize("attempt", ["", "-1", "one", "1.0", "9999999"])
def test_link_without_a_sound_attempt_is_refused(attempt: str, channels: dict[MemberKind, grpc.Channel]) -> None:
    metadata = ((SESSION_KEY, SESSION_ID), (ATTEMPT_KEY, attempt))
    with pytest.raises(grpc.RpcError) as caught:
        list(channels[MemberKind.PARTY].stream_stream(LINK_METHOD)(iter([]), metadata=metadata, timeout=10))
    assert from_rpc_error(caught.value, party=SERVER).code is ErrorCode.INVALID_ARGUMENT


def test_link_meant_for_another_party_is_refused(links: LinkTable, channels: dict[MemberKind, grpc.Channel]) -> None:
    far, far_party = socket.socketpair()
    with far, far_party:
        links.expect(SESSION_ID, 7, "hospital-c", far_party)
        assert refusal(channels[MemberKind.PARTY], LINK_METHOD).code is ErrorCode.UNKNOWN_SESSION
        assert links.take(SESSION_ID, 7, "hospital-c") is far_party


def test_link_second_stream_for_the_same_one_is_refused_and_the_first_lives(
    links: LinkTable, channels: dict[MemberKind, grpc.Channel]
) -> None:
    first = Joined(links, channels[MemberKind.PARTY], attempt=7)
    first.near.sendall(a_frame())
    assert first.far.recv(1 << 16) == a_frame()
    assert refusal(channels[MemberKind.PARTY], LINK_METHOD).code is ErrorCode.UNKNOWN_SESSION
    first.far.sendall(a_frame())
    assert first.near.recv(1 << 16) == a_frame()
    first.close()


def test_link_dial_before_the_other_side_expects_it_is_joined_in_time(
    links: LinkTable, channels: dict[MemberKind, grpc.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CONNECT_S", 15)
    near, near_party = socket.socketpair()
    far, far_party = socket.socketpair()
    with near, near_party, far, far_party:
        far.settimeout(15)
        dial(channels[MemberKind.PARTY], session=SESSION_ID, attempt=8, endpoint=near_party)
        near.sendall(a_frame())
        time.sleep(0.3)
        links.expect(SESSION_ID, 8, PEER, far_party)
        assert far.recv(1 << 16) == a_frame()


def test_link_dial_to_a_port_where_nobody_listens_ends_for_the_worker(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CONNECT_S", 0.3)
    near, near_party = socket.socketpair()
    with socket.socket() as taken, near, near_party:
        near.settimeout(15)
        taken.bind(("127.0.0.1", 0))
        with open_channel(world.peer, endpoint=f"127.0.0.1:{taken.getsockname()[1]}", party=SERVER) as channel:
            dial(channel, session=SESSION_ID, attempt=1, endpoint=near_party)
            assert near.recv(1) == b""


# A peer that is killed.

_PEER_PROCESS = """
import json, socket, sys
from parties.transport.streams import dial
from parties.transport.tls import TlsIdentity, open_channel

said = json.loads(sys.stdin.readline())
identity = TlsIdentity(*(said[name].encode() for name in ("private_key", "certificate", "ca_certificate")))
worker, party = socket.socketpair()
channel = open_channel(identity, endpoint=said["endpoint"], party=said["party"])
dial(channel, session=said["session"], attempt=said["attempt"], endpoint=party)
worker.sendall(bytes.fromhex(said["frame"]))
worker.recv(1)
print("joined", flush=True)
worker.recv(1 << 20)
sys.stdin.read()
"""


def test_link_killed_peer_ends_it_within_seconds(world: TlsWorld, endpoint: str, links: LinkTable) -> None:
    said = {
        "private_key": world.peer.private_key.decode(),
        "certificate": world.peer.certificate.decode(),
        "ca_certificate": world.peer.ca_certificate.decode(),
        "endpoint": endpoint,
        "party": SERVER,
        "session": SESSION_ID,
        "attempt": next(_ATTEMPTS),
        "frame": a_frame().hex(),
    }
    far, far_party = socket.socketpair()
    command = [sys.executable, "-c", _PEER_PROCESS]
    with far, far_party, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        far.settimeout(30)
        links.expect(SESSION_ID, said["attempt"], PEER, far_party)
        process.stdin.write(json.dumps(said).encode() + b"\n")
        process.stdin.flush()
        assert far.recv(1 << 16) == a_frame()
        far.sendall(a_frame())
        assert process.stdout.readline() == b"joined\n"
        started = time.monotonic()
        process.kill()
        assert far.recv(1) == b""
        assert time.monotonic() - started < 5
