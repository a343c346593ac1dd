"""What callers cost who never say anything: their connections are counted and closed, and members are still served."""

from __future__ import annotations

import socket
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest

from parties.transport.streams import LinkTable
from parties.transport.tls import accepting_context, open_channel
from parties.transport.tls_stream import TlsStream
from tests.support.tls_world import SERVER, TlsWorld, a_tls_world, serving

pytestmark = pytest.mark.multiparty


@pytest.fixture(scope="module")
def world() -> TlsWorld:
    return a_tls_world()


@pytest.fixture
def capped(world: TlsWorld) -> Iterator[str]:
    """A public port that takes three connections at once."""
    with serving(world, LinkTable(), max_connections=3) as endpoint:
        yield endpoint


def connect(endpoint: str) -> socket.socket:
    host, _, port = endpoint.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def is_closed(connection: socket.socket, *, within_s: float) -> bool:
    connection.settimeout(within_s)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_silent_connections_are_closed_and_their_places_are_free_again(world: TlsWorld, capped: str) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(capped)) for _ in range(3)]
        time.sleep(0.5)  # the port takes connections aside
        beyond = stack.enter_context(connect(capped))
        assert is_closed(beyond, within_s=4)
        assert all(is_closed(connection, within_s=20) for connection in silent)  # after the time for a handshake
    with open_channel(world.peer, endpoint=capped, party=SERVER) as channel:
        grpc.channel_ready_future(channel).result(timeout=20)


def test_connections_that_the_server_of_calls_refuses_are_let_go_though_their_callers_stay(world: TlsWorld, capped: str) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(capped)).sendall(b"GET / HTTP/1.1\r\n")  # no TLS
        with open_channel(world.peer, endpoint=capped, party=SERVER) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)


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
