"""What strangers cost: their connections are counted, closed, and make room for others; members are served meanwhile."""

from __future__ import annotations

import socket
import ssl
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from threading import Event

import grpc
import pytest

from governance.identity.names import tls_name
from parties.transport import places, port
from parties.transport.opening import LinkOpening
from parties.transport.streams import LinkTable
from parties.transport.tls import accepting_context, dialling_context, open_channel
from parties.transport.tls_stream import TlsStream
from tests.support.link_pairs import Running, a_frame
from tests.support.tls_calls import SESSION_ID, call
from tests.support.tls_links import asked, opened
from tests.support.tls_world import PEER, SERVER, TlsWorld, serving

pytestmark = pytest.mark.multiparty
HELLO = "/confide.v1.PartyService/Hello"


@pytest.fixture
def capped(world: TlsWorld, links: LinkTable) -> Iterator[str]:
    """A public port that takes eight connections at once, and two strangers of one address."""
    with serving(world, links, max_connections=8) as endpoint:
        yield endpoint


def connect(endpoint: str, source: str = "127.0.0.1") -> socket.socket:
    host, _, port = endpoint.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20, source_address=(source, 0))


def is_closed(connection: socket.socket, *, within_s: float) -> bool:
    connection.settimeout(within_s)
    try:
        while connection.recv(1 << 10):
            pass
        return True
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def await_ready(channel: grpc.Channel, *, within_s: float) -> None:
    grpc.channel_ready_future(channel).result(timeout=within_s)


def test_silent_connections_are_closed_and_their_places_are_free_again(world: TlsWorld, capped: str) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(capped, f"127.0.0.{2 + number}")) for number in range(8)]
        assert all(is_closed(connection, within_s=20) for connection in silent)  # after the time for a handshake
    with open_channel(world.peer, endpoint=capped, party=SERVER) as channel:
        await_ready(channel, within_s=20)


def test_connections_that_the_server_of_calls_refuses_are_let_go_though_their_callers_stay(world: TlsWorld, capped: str) -> None:
    with ExitStack() as stack:
        for number in range(8):
            stack.enter_context(connect(capped, f"127.0.0.{2 + number}")).sendall(b"GET / HTTP/1.1\r\n")  # no TLS
        with open_channel(world.peer, endpoint=capped, party=SERVER) as channel:
            await_ready(channel, within_s=30)


# Who makes room.


def turn(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Sets how long a turn is; nobody goes for being slow meanwhile, however busy the machine is."""
    monkeypatch.setattr(places, "TURN_S", seconds)
    monkeypatch.setattr(port, "HANDSHAKE_S", 60.0)


def hello(world: TlsWorld) -> bytes:
    """The first record of a link, after which the other side waits for more."""
    outgoing = ssl.MemoryBIO()
    tls = dialling_context(world.peer).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=tls_name(SERVER))
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_flood_from_one_address_has_a_quarter_of_the_places(capped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turn(monkeypatch, 60.0)
    with ExitStack() as stack:
        flood = [stack.enter_context(connect(capped, "127.0.0.2")) for _ in range(20)]
        assert all(is_closed(connection, within_s=15) for connection in flood[2:])
        others = [stack.enter_context(connect(capped, f"127.0.0.{3 + number}")) for number in range(6)]
        assert not any(is_closed(connection, within_s=0.1) for connection in [*flood[:2], *others])


def test_floods_from_a_few_addresses_make_room_for_another_at_once(capped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turn(monkeypatch, 60.0)
    with ExitStack() as stack:
        taken = [stack.enter_context(connect(capped, f"127.0.0.{2 + number // 2}")) for number in range(8)]
        newcomer = stack.enter_context(connect(capped, "127.0.0.99"))
        assert is_closed(taken[0], within_s=15)
        assert not any(is_closed(connection, within_s=0.1) for connection in (*taken[1:], newcomer))


@pytest.mark.parametrize("what", ["silence", "part of a record", "hello"])
def test_stranger_that_has_waited_longest_makes_room_for_a_newcomer(
    what: str, world: TlsWorld, capped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the time for a handshake is over, whatever it has said."""
    turn(monkeypatch, 0.0)
    said = {"silence": b"", "part of a record": b"\x16\x03\x01\x02", "hello": hello(world)}[what]
    with ExitStack() as stack:
        taken = [stack.enter_context(connect(capped, f"127.0.0.{2 + number}")) for number in range(8)]
        for connection in taken:
            connection.sendall(said)
        newcomer = stack.enter_context(connect(capped, "127.0.0.99"))
        assert is_closed(taken[0], within_s=15)
        assert not is_closed(newcomer, within_s=0.1)


def test_member_gets_in_through_a_flood_and_keeps_its_connections(
    world: TlsWorld, links: LinkTable, capped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its own address too, once it is in: what strangers lose are strangers' places."""
    turn(monkeypatch, 0.25)
    far, far_party = socket.socketpair()
    states: list[grpc.ChannelConnectivity] = []
    is_in, ended = Event(), Event()
    with ExitStack() as stack:

        def flood() -> None:
            number = 0
            while not ended.wait(0.05):  # fewer than there are turns, so that nobody is refused
                number += 1
                with suppress(OSError):
                    stack.push(connect(capped, f"127.0.0.{(1 if is_in.is_set() else 2) + number % 30}"))

        flooding = Running(flood)
        stack.callback(ended.set)
        channel = stack.enter_context(open_channel(world.peer, endpoint=capped, party=SERVER))
        channel.subscribe(states.append)
        assert call(channel, HELLO) == f"party {PEER}".encode()
        far.settimeout(15)
        links.expect(SESSION_ID, 1, PEER, far_party)
        peer = stack.enter_context(opened(world.peer, capped))
        assert asked(peer, LinkOpening(SESSION_ID, 1).to_bytes()) is None
        states.clear()
        is_in.set()
        for _ in range(4):
            time.sleep(0.8)
            peer.sendall(a_frame())
            assert far.recv(1 << 16) == a_frame()
            assert call(channel, HELLO) == f"party {PEER}".encode()
        assert set(states) <= {grpc.ChannelConnectivity.READY}
        ended.set()
        flooding.result()
    far.close()
    far_party.close()


@pytest.mark.parametrize("who", ["member", "removed member"])
def test_connection_that_makes_no_call_stays_a_strangers(
    who: str, world: TlsWorld, capped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of the authority alone keeps no place."""
    turn(monkeypatch, 0.0)
    identity = world.peer if who == "member" else world.outsider("hospital-x")
    with ExitStack() as stack:
        idle = stack.enter_context(opened(identity, capped, protocol="h2"))
        assert idle.recv(1 << 10)  # HTTP/2 has begun
        others = [stack.enter_context(connect(capped, f"127.0.0.{2 + number}")) for number in range(8)]
        idle.settimeout(15)
        with suppress(ConnectionResetError, ssl.SSLEOFError):
            while idle.recv(1 << 10):
                pass
        assert not any(is_closed(connection, within_s=0.1) for connection in others)


def test_link_that_has_not_shaken_hands_takes_little_memory(world: TlsWorld) -> None:
    """A stranger may open as many as the port takes."""
    context = accepting_context(world.server)
    near, far = socket.socketpair()
    with near, far:
        tracemalloc.start()
        TlsStream(near, context, server_name=None)
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert taken < 32 << 10
