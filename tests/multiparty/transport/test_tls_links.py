"""Links over real mutual TLS on loopback: how they are joined, carry frames and end."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from governance.identity.names import MemberKind
from parties.server.stream_limits import MOST_STREAMS
from parties.transport import dialling, streams, tls_stream
from parties.transport.dialling import Route
from parties.transport.frames import MAX_FRAME_BYTES
from parties.transport.opening import JOINED, OPENING_BYTES, LinkOpening, refused
from parties.transport.port import PublicPort, calls_address
from parties.transport.streams import LinkTable, dial
from parties.transport.tls import LINK_PROTOCOL, accepting_context
from parties.transport.tls_stream import TlsStream
from protocols.errors import ErrorCode
from protocols.links import TensorSpec
from tests.support.link_pairs import Running, a_frame, a_link, framed
from tests.support.tls_calls import SESSION_ID
from tests.support.tls_links import asked, opened
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

    def __init__(self, links: LinkTable, route: Route, attempt: int) -> None:
        self.near, near_party = socket.socketpair()
        self.far, far_party = socket.socketpair()
        links.expect(SESSION_ID, attempt, PEER, far_party)
        dial(route, session=SESSION_ID, attempt=attempt, endpoint=near_party)
        for end in (self.near, self.far):
            end.settimeout(15)
        self._parties = (near_party, far_party)

    def close(self) -> None:
        for end in (self.near, self.far, *self._parties):
            end.close()


@pytest.fixture
def joined(links: LinkTable, route: Route) -> Iterator[Joined]:
    made = Joined(links, route, attempt=next(_ATTEMPTS))
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


def test_link_frame_above_the_limit_from_a_peer_ends_the_link(world: TlsWorld, endpoint: str, links: LinkTable) -> None:
    far, far_party = socket.socketpair()
    with far, far_party:
        far.settimeout(15)
        links.expect(SESSION_ID, 3, PEER, far_party)
        with opened(world.peer, endpoint) as peer:
            assert asked(peer, LinkOpening(SESSION_ID, 3).to_bytes()) is None
            peer.sendall(framed(b"x" * 100) + framed(b"x" * (MAX_FRAME_BYTES + 1))[:1000])
            assert b"".join(iter(lambda: far.recv(1 << 16), b"")) == framed(b"x" * 100)
            assert peer.recv(1) == b""


def test_link_whose_peer_closes_tls_and_stays_has_ended_after_its_last_words(
    world: TlsWorld, endpoint: str, links: LinkTable
) -> None:
    """Whatever came after that would be kept and never opened."""
    far, far_party = socket.socketpair()
    with far, far_party:
        far.settimeout(15)
        links.expect(SESSION_ID, 4, PEER, far_party)
        with opened(world.peer, endpoint) as peer:
            assert asked(peer, LinkOpening(SESSION_ID, 4).to_bytes()) is None
            peer.sendall(framed(b"last"))
            peer.settimeout(0.5)
            with suppress(OSError):
                peer.unwrap()  # says so, and waits for an answer
            assert b"".join(iter(lambda: far.recv(1 << 16), b"")) == framed(b"last")


def test_link_whose_peer_takes_nothing_for_long_is_given_up(
    world: TlsWorld, endpoint: str, links: LinkTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives, so that TCP alone would wait for it for good; and a worker that gives up is not heard while its link is full."""
    monkeypatch.setattr(tls_stream, "SEND_S", 1.0)
    far, far_party = socket.socketpair()
    with far, far_party:
        links.expect(SESSION_ID, 5, PEER, far_party)
        with opened(world.peer, endpoint) as peer:
            assert asked(peer, LinkOpening(SESSION_ID, 5).to_bytes()) is None
            far.settimeout(0.5)
            with suppress(TimeoutError, BrokenPipeError):
                while True:
                    far.sendall(framed(bytes(65_000)))
            far.settimeout(15)
            assert far.recv(1) == b""


def test_link_leaves_nothing_to_resume(world: TlsWorld, endpoint: str, links: LinkTable) -> None:
    """Each one shows its certificate anew, which is compared with the directory of that moment."""
    far, far_party = socket.socketpair()
    with far, far_party, opened(world.peer, endpoint) as peer:
        links.expect(SESSION_ID, 6, PEER, far_party)
        assert asked(peer, LinkOpening(SESSION_ID, 6).to_bytes()) is None
        assert peer.session is not None
        assert not peer.session.has_ticket


def test_link_of_an_unknown_session_is_refused(world: TlsWorld, endpoint: str) -> None:
    with opened(world.peer, endpoint) as peer:
        assert asked(peer, LinkOpening(SESSION_ID, 7).to_bytes()) is ErrorCode.UNKNOWN_SESSION


@pytest.mark.parametrize("said", [bytes(OPENING_BYTES), b"GET / HTTP/1.1\r\nHost: hospital-a\r\n"])
def test_link_that_says_no_opening_is_refused(said: bytes, world: TlsWorld, endpoint: str) -> None:
    with opened(world.peer, endpoint) as peer:
        assert asked(peer, said) is ErrorCode.INVALID_ARGUMENT


def test_link_of_a_researcher_is_refused(world: TlsWorld, endpoint: str) -> None:
    with opened(world.researcher, endpoint) as peer:
        assert asked(peer, LinkOpening(SESSION_ID, 7).to_bytes()) is ErrorCode.NOT_AUTHORISED


@pytest.mark.parametrize("member", ["hospital-x", PEER])
def test_link_with_a_certificate_that_the_directory_does_not_list_is_refused(member: str, world: TlsWorld, endpoint: str) -> None:
    with opened(world.outsider(member), endpoint) as peer:
        assert asked(peer, LinkOpening(SESSION_ID, 7).to_bytes()) is ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize("who", ["another authority", "itself", "expired"])
def test_link_with_a_certificate_that_tls_refuses_gets_no_answer(who: str, world: TlsWorld, endpoint: str) -> None:
    identity = {
        "another authority": lambda: world.of_another_authority(PEER),
        "itself": lambda: world.signed_by_itself(PEER),
        "expired": lambda: world.outsider(PEER, age=timedelta(days=120)),
    }[who]()
    # A caller of TLS 1.3 believes that it is through before its certificate has been looked at.
    with pytest.raises(OSError, match=r"alert|reset|closed|EOF"), opened(identity, endpoint) as peer:
        asked(peer, LinkOpening(SESSION_ID, 7).to_bytes())


def test_link_without_a_certificate_gets_no_answer(world: TlsWorld, endpoint: str) -> None:
    with pytest.raises(OSError, match=r"alert|reset|closed|EOF"), opened(world.peer, endpoint, shows=False) as peer:
        asked(peer, LinkOpening(SESSION_ID, 7).to_bytes())


def test_link_under_tls_1_2_is_refused(world: TlsWorld, endpoint: str) -> None:
    with pytest.raises(ssl.SSLError), opened(world.peer, endpoint, version=ssl.TLSVersion.TLSv1_2):
        pass


def test_link_that_asks_for_the_protocol_elsewhere_than_in_tls_is_a_call(endpoint: str) -> None:
    host, _, port = endpoint.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=15) as plain:
        plain.sendall(LINK_PROTOCOL.encode())
        assert plain.recv(1) == b""


@pytest.mark.parametrize("wanted", ["another party", "another key"])
def test_link_to_a_port_with_another_certificate_is_not_opened(
    wanted: str, world: TlsWorld, endpoint: str, links: LinkTable
) -> None:
    """Of another party, or of one whose key the directory has replaced: its certificate is the authority's until it ends."""
    route = world.route(endpoint)
    if wanted == "another party":
        route = replace(route, party="hospital-c")
    else:
        route = replace(route, certificate=world.outsider(SERVER).certificate.decode())
    near, near_party = socket.socketpair()
    far, far_party = socket.socketpair()
    with near, near_party, far, far_party:
        near.settimeout(15)
        links.expect(SESSION_ID, 9, PEER, far_party)
        dial(route, session=SESSION_ID, attempt=9, endpoint=near_party)
        assert near.recv(1) == b""
        assert links.take(SESSION_ID, 9, PEER) is far_party


def test_link_meant_for_another_party_is_refused(world: TlsWorld, endpoint: str, links: LinkTable) -> None:
    far, far_party = socket.socketpair()
    with far, far_party:
        links.expect(SESSION_ID, 7, "hospital-c", far_party)
        with opened(world.peer, endpoint) as peer:
            assert asked(peer, LinkOpening(SESSION_ID, 7).to_bytes()) is ErrorCode.UNKNOWN_SESSION
        assert links.take(SESSION_ID, 7, "hospital-c") is far_party


def test_link_second_connection_for_the_same_one_is_refused_and_the_first_lives(
    world: TlsWorld, endpoint: str, links: LinkTable, route: Route
) -> None:
    first = Joined(links, route, attempt=7)
    first.near.sendall(a_frame())
    assert first.far.recv(1 << 16) == a_frame()
    with opened(world.peer, endpoint) as peer:
        assert asked(peer, LinkOpening(SESSION_ID, 7).to_bytes()) is ErrorCode.UNKNOWN_SESSION
    first.far.sendall(a_frame())
    assert first.near.recv(1 << 16) == a_frame()
    first.close()


def test_links_of_one_party_are_as_many_as_it_may_hold(world: TlsWorld, endpoint: str, links: LinkTable, route: Route) -> None:
    joined = [Joined(links, route, attempt=next(_ATTEMPTS)) for _ in range(MOST_STREAMS[MemberKind.PARTY])]
    for link in joined:
        link.near.sendall(a_frame())
        assert link.far.recv(1 << 16) == a_frame()
    with opened(world.peer, endpoint) as peer:
        assert asked(peer, LinkOpening(SESSION_ID, 7).to_bytes()) is ErrorCode.TOO_MANY_STREAMS
    for link in joined:
        link.close()


def test_link_dial_before_the_other_side_expects_it_is_joined_in_time(
    links: LinkTable, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CONNECT_S", 15)
    near, near_party = socket.socketpair()
    far, far_party = socket.socketpair()
    with near, near_party, far, far_party:
        far.settimeout(15)
        dial(route, session=SESSION_ID, attempt=8, endpoint=near_party)
        near.sendall(a_frame())
        time.sleep(0.3)
        links.expect(SESSION_ID, 8, PEER, far_party)
        assert far.recv(1 << 16) == a_frame()


def test_link_dial_to_a_port_where_nobody_listens_ends_for_the_worker(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "CONNECT_S", 0.3)
    near, near_party = socket.socketpair()
    with socket.socket() as taken, near, near_party:
        near.settimeout(15)
        taken.bind(("127.0.0.1", 0))
        route = world.route(f"127.0.0.1:{taken.getsockname()[1]}")
        dial(route, session=SESSION_ID, attempt=1, endpoint=near_party)
        assert near.recv(1) == b""


def _answered(world: TlsWorld, monkeypatch: pytest.MonkeyPatch, *answers: bytes) -> tuple[int, bytes]:
    """What a worker hears whose link is answered so, connection by connection (no words: it ends), and how many there were."""
    monkeypatch.setattr(streams, "CONNECT_S", 15.0)
    came: list[bytes] = []

    def serve(stream: TlsStream, _settle: object) -> None:
        with stream:
            came.append(answers[len(came)])
            if came[-1]:
                stream.hear(OPENING_BYTES, time.monotonic() + 15)
                stream.say(came[-1], time.monotonic() + 15)

    port = PublicPort("127.0.0.1:0", calls=calls_address(), context=accepting_context(world.server), serve=serve)
    port.start()
    near, near_party = socket.socketpair()
    with near, near_party:
        near.settimeout(30)
        dial(world.route(f"127.0.0.1:{port.number}"), session=SESSION_ID, attempt=1, endpoint=near_party)
        heard = b""
        while piece := near.recv(1 << 16):
            heard += piece
    port.stop()
    return len(came), heard


def test_link_whose_connection_ends_before_an_answer_is_dialled_again(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who dials is through with the handshake first: the port may have given the place to somebody else by then."""
    assert _answered(world, monkeypatch, b"", b"", JOINED + a_frame()) == (3, a_frame())


def test_link_that_is_refused_is_not_dialled_again(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _answered(world, monkeypatch, refused(ErrorCode.UNKNOWN_SESSION)) == (1, b"")


# A peer that is killed.

_PEER_PROCESS = """
import json, socket, sys
from parties.transport.dialling import Route
from parties.transport.streams import dial
from parties.transport.tls import TlsIdentity

said = json.loads(sys.stdin.readline())
identity = TlsIdentity(*(said[name].encode() for name in ("private_key", "certificate", "ca_certificate")))
worker, party = socket.socketpair()
route = Route(identity, said["endpoint"], said["party"], said["listed"])
dial(route, session=said["session"], attempt=said["attempt"], endpoint=party)
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
        "listed": world.directory.party(SERVER).certificate,
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
