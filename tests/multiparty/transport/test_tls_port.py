"""The one public port: it takes links and passes calls on, and nothing but TLS decides who gets in."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Event, Semaphore
from typing import Any, cast

import grpc
import pytest

from parties.operating import diagnose
from parties.operating.finding import Verdict
from parties.transport import places
from parties.transport.port import PublicPort, calls_address
from parties.transport.tls import LINK_PROTOCOL, MAX_CONNECTIONS, accepting_context, open_channel, server_credentials
from parties.transport.tls_stream import TlsStream
from protocols.errors import ConfideError, ErrorCode
from tests.support.tls_calls import call
from tests.support.tls_links import opened
from tests.support.tls_world import PEER, SERVER, TlsWorld

pytestmark = pytest.mark.multiparty
HELLO = "/confide.v1.PartyService/Hello"


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _hear(stream: TlsStream, _settle: object) -> None:
    stream.hear(1, time.monotonic() + 60)


def test_port_that_is_taken_is_the_operators_to_change(taken: str, world: TlsWorld) -> None:
    with pytest.raises(ConfideError) as caught:
        PublicPort(taken, calls=calls_address(), context=accepting_context(world.server), serve=_hear)
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert taken in caught.value.what


def _names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Lets every name stand for these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_port_is_bound_where_a_name_has_an_address_of_this_machine(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    _names(monkeypatch, "192.0.2.1", "127.0.0.1")  # the first is nobody's
    port = PublicPort("a.example:1", calls=calls_address(), context=accepting_context(world.server), serve=_hear)
    assert port.number
    port.stop()


def test_port_of_a_name_without_an_address_of_this_machine_is_the_operators_to_change(
    world: TlsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    _names(monkeypatch, "192.0.2.1")
    with pytest.raises(ConfideError) as caught:
        PublicPort("a.example:1", calls=calls_address(), context=accepting_context(world.server), serve=_hear)
    assert caught.value.code is ErrorCode.INVALID_CONFIG


def test_port_that_is_stopped_ends_its_connections_and_can_be_bound_again(world: TlsWorld) -> None:
    context = accepting_context(world.server)
    port = PublicPort("127.0.0.1:0", calls=calls_address(), context=context, serve=_hear)
    port.start()
    endpoint = f"127.0.0.1:{port.number}"
    with opened(world.peer, endpoint) as peer:
        port.stop()
        with suppress(ssl.SSLEOFError, ConnectionResetError):
            assert peer.recv(1) == b""
    again = PublicPort(endpoint, calls=calls_address(), context=context, serve=_hear)
    again.stop()


def test_protocol_that_is_only_named_beside_tls_is_not_served(world: TlsWorld, endpoint: str) -> None:
    """The name of the server asked for stands in the same record, and is anybody's to choose."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = endpoint.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=15) as plain:
        context.set_alpn_protocols(["h2", f"{LINK_PROTOCOL}x"])
        with suppress(ssl.SSLError, ConnectionResetError), context.wrap_socket(plain) as wrapped:
            assert wrapped.recv(1) == b""


def test_flood_leaves_nothing_behind(world: TlsWorld) -> None:
    port = PublicPort("127.0.0.1:0", calls=calls_address(), context=accepting_context(world.server), serve=_hear)
    port.start()
    with ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", port.number), timeout=15))
            assert len(port._places._places) <= MAX_CONNECTIONS // 4
    deadline = time.monotonic() + 15
    while port._open and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (port._open, port._callers, port._places._places) == ({}, {}, {})
    port.stop()


def test_connections_that_had_to_go_and_do_not_end_are_few(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps a thread and descriptors until it has ended."""
    monkeypatch.setattr(places, "TURN_S", 0.0)
    served, may_end = Semaphore(0), Event()

    def tarry(_stream: TlsStream, _settle: object) -> None:
        served.release()
        may_end.wait(60)

    port = PublicPort(
        "127.0.0.1:0", calls=calls_address(), context=accepting_context(world.server), serve=tarry, max_connections=4
    )
    port.start()
    endpoint, most = f"127.0.0.1:{port.number}", 4 + 1 + 16
    with ExitStack() as stack:
        for _ in range(most):
            stack.enter_context(opened(world.peer, endpoint))
            assert served.acquire(timeout=15)
        with pytest.raises(OSError, match=r"EOF|reset|Broken pipe"), opened(world.peer, endpoint):
            pass
        assert len(port._open) == most
        may_end.set()
        deadline = time.monotonic() + 15
        while port._open and time.monotonic() < deadline:
            time.sleep(0.01)
        stack.enter_context(opened(world.peer, endpoint))
        assert served.acquire(timeout=15)
    port.stop()


def test_calls_beside_each_other_pass_whole(world: TlsWorld, endpoint: str) -> None:
    def ask(_: int) -> bytes:
        with open_channel(world.peer, endpoint=endpoint, party=SERVER) as channel:
            return call(channel, HELLO)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(24))) == {f"party {PEER}".encode()}


def test_port_behind_which_only_calls_pass_is_found_out(world: TlsWorld, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "tls_identity", lambda _: world.peer)
    calls_alone = grpc.server(ThreadPoolExecutor(2))
    port = calls_alone.add_secure_port("127.0.0.1:0", server_credentials(world.server))
    calls_alone.start()
    found = [diagnose._name_links(cast(Any, None), SERVER, where) for where in (endpoint, f"127.0.0.1:{port}")]
    calls_alone.stop(0).wait()
    assert [(finding.check, finding.verdict) for finding in found] == [("links", Verdict.PASS), ("links", Verdict.FAIL)]
