"""What callers cost who never say anything: their connections are counted and closed, and members are still served."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest

from parties.transport import tls
from parties.transport.streams import LinkTable
from parties.transport.tls import open_channel
from tests.support import tls_world
from tests.support.tls_world import SERVER, TlsWorld, a_tls_world, serving

pytestmark = pytest.mark.multiparty


@pytest.fixture(scope="module")
def world() -> TlsWorld:
    return a_tls_world()


@pytest.fixture
def capped(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A public port that takes three connections at once."""
    options = [(name, 3 if name == "grpc.max_allowed_incoming_connections" else value) for name, value in tls.SERVER_OPTIONS]
    monkeypatch.setattr(tls_world, "SERVER_OPTIONS", options)
    with serving(world, LinkTable()) as endpoint:
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
