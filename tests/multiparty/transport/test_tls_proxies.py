"""Links, calls and `net diagnose` through a real HTTP proxy, which they take or leave alike."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import grpc
import pytest

from parties.operating import diagnose
from parties.operating.finding import Finding, Verdict, checked
from parties.transport import dialling
from parties.transport.dialling import Route, connected, reach
from parties.transport.proxies import proxy_for
from parties.transport.streams import LinkTable, dial
from parties.transport.tls import open_channel
from protocols.errors import ConfideError, ErrorCode
from tests.support.connect_proxy import Asked, ConnectProxy, Manner, a_proxy
from tests.support.link_pairs import a_frame
from tests.support.tls_calls import SESSION_ID, call, refusal
from tests.support.tls_world import PEER, SERVER, TlsWorld

pytestmark = pytest.mark.multiparty
HELLO = "/confide.v1.PartyService/Hello"
NAMES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")
_ATTEMPTS = itertools.count(1)


@pytest.fixture(autouse=True)
def _clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with a_proxy() as made:
        yield made


def _say_hello(world: TlsWorld, endpoint: str) -> bytes:
    with open_channel(world.peer, endpoint=endpoint, party=SERVER) as channel:
        return call(channel, HELLO)


@contextmanager
def _joined(links: LinkTable, route: Route) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A link through whatever the environment names: the workers' ends, of whom dialled and of whom accepted."""
    attempt = next(_ATTEMPTS)
    near, near_party = socket.socketpair()
    far, far_party = socket.socketpair()
    with near, near_party, far, far_party:
        links.expect(SESSION_ID, attempt, PEER, far_party)
        dial(route, session=SESSION_ID, attempt=attempt, endpoint=near_party)
        for end in (near, far):
            end.settimeout(15)
        yield near, far


def _pass_a_frame(links: LinkTable, route: Route) -> None:
    with _joined(links, route) as (near, far):
        near.sendall(a_frame())
        assert far.recv(1 << 16) == a_frame()
        far.sendall(a_frame())
        assert near.recv(1 << 16) == a_frame()


def _diagnosed(world: TlsWorld, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    monkeypatch.setattr(diagnose, "tls_identity", lambda _: world.peer)
    looks = {
        "address and port": lambda: diagnose._reach(endpoint),
        "links": lambda: diagnose._name_links(cast(Any, None), SERVER, endpoint),
    }
    return [checked(check, look) for check, look in looks.items()]


# What passes.


@pytest.mark.parametrize("credentials", ["", "party:s%40cret"])
def test_calls_links_and_diagnosis_pass_the_proxy(
    credentials: str,
    world: TlsWorld,
    endpoint: str,
    links: LinkTable,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shown = credentials.replace("%40", "@")
    with a_proxy(shown) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url(credentials))
        assert _say_hello(world, endpoint) == f"party {PEER}".encode()
        assert proxy.await_asked(1) == [Asked(endpoint, shown, 200)]
        _pass_a_frame(links, world.route(endpoint))
        assert proxy.await_asked(2)[1:] == [Asked(endpoint, shown, 200, is_link=True)]
        found = _diagnosed(world, endpoint, monkeypatch)
        assert [finding.verdict for finding in found] == [Verdict.PASS, Verdict.PASS]
        assert f"through the proxy {proxy.address}" in found[0].what
        assert sum(asked.is_link for asked in proxy.await_asked(4)[2:]) == 1
    said = capfd.readouterr()
    assert "cret" not in said.out + said.err


def test_excepted_host_is_reached_directly(
    world: TlsWorld, endpoint: str, links: LinkTable, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy.url())
    monkeypatch.setenv("no_proxy", "elsewhere.example, 127.0.0.0/8")
    assert _say_hello(world, endpoint) == f"party {PEER}".encode()
    _pass_a_frame(links, world.route(endpoint))
    assert [finding.verdict for finding in _diagnosed(world, endpoint, monkeypatch)] == [Verdict.PASS, Verdict.PASS]
    assert proxy.asked == []


def test_host_is_named_to_the_proxy_and_not_looked_up_here(
    world: TlsWorld, endpoint: str, links: LinkTable, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind such a proxy there is often no public DNS."""
    proxy.hosts = ("hospital.example",)
    monkeypatch.setenv("https_proxy", proxy.url())
    named = endpoint.replace("127.0.0.1", "hospital.example")
    assert _say_hello(world, named) == f"party {PEER}".encode()
    _pass_a_frame(links, world.route(named))
    assert {asked.target for asked in proxy.await_asked(2)} == {named}
    assert diagnose._reach(named).verdict is Verdict.PASS


def test_setting_that_names_no_http_proxy_is_told(world: TlsWorld, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "https://name:s3cret@proxy.example:1")
    assert _say_hello(world, endpoint) == f"party {PEER}".encode()
    found = diagnose._reach(endpoint)
    assert (found.verdict, "https_proxy" in found.what, "s3cret" in str(found)) == (Verdict.WARN, True, False)


# Links go where gRPC sends calls.

NAMED, LITERAL = "h.a.example:1", "127.0.0.9:1"
PROXY = {"https_proxy": "http://PROXY"}
CHOICES: list[tuple[str, dict[str, str]]] = [
    *((LITERAL, {name: "http://PROXY"}) for name in ("grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY")),
    (LITERAL, {"grpc_proxy": "", "https_proxy": "http://PROXY"}),
    (LITERAL, {"https_proxy": "", "http_proxy": "http://PROXY"}),
    *((LITERAL, {"https_proxy": f"{kind}PROXY"}) for kind in ("https", "socks5", " ")),
    (LITERAL, {**PROXY, "no_grpc_proxy": "", "no_proxy": "127.0.0.9"}),
    (LITERAL, {**PROXY, "NO_PROXY": "127.0.0.9"}),
    *(
        (LITERAL, {**PROXY, "no_proxy": listed})
        for listed in (
            "", " , ", "*", ".", "127.0.0.9", ".9", "9", "127.0.0.9:1", "a, 127.0.0.9 ,b", "127.0.0.0/29", "127.0.0.0/28",
            "127.0.0.9/33", "127.0.0.8/33", "127.0.0.9/", "127.0.0.9/-1", "/8", "0/0", "[127.0.0.0]/8",
        )
    ),
    *(
        (NAMED, {**PROXY, "no_proxy": listed})
        for listed in (
            "h.a.example", "H.A.EXAMPLE", "a.example", ".a.example", ".h.a.example", "*.a.example", "ple", "example",
            "..a.example",
        )
    ),
    *(("[::1]:1", {**PROXY, "no_proxy": listed}) for listed in ("::1", "[::1]", "::/64", "[::]/64", "1")),
]  # fmt: skip


def test_grpc_and_links_choose_the_same_way(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's choice without a word of ours; a new version of it may read the environment otherwise."""
    credentials = grpc.ssl_channel_credentials(world.peer.ca_certificate)
    differ = []
    with a_proxy(status=403) as proxy:
        for endpoint, environment in CHOICES:
            for name in (*NAMES, "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
                monkeypatch.delenv(name, raising=False)
            for name, value in environment.items():
                monkeypatch.setenv(name, value.replace("PROXY", proxy.address))
            proxy.asked.clear()
            with (
                grpc.secure_channel(endpoint, credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel,
                suppress(grpc.RpcError),
            ):
                channel.unary_unary("/x/x")(b"", timeout=5)
            if (proxy_for(endpoint) is not None) != bool(proxy.asked):
                differ.append((endpoint, environment, list(proxy.asked)))
    assert differ == []


def test_grpc_is_told_to_go_where_links_go(
    world: TlsWorld, endpoint: str, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy.url())
    monkeypatch.setattr("parties.transport.tls.proxy_for", lambda _: None)
    assert _say_hello(world, endpoint) == f"party {PEER}".encode()
    assert proxy.asked == []


# What does not pass.


@pytest.mark.parametrize(
    ("credentials", "status", "text"),
    [("party:secret", 200, "asks for other credentials"), ("", 403, "answers 403")],
)
def test_proxy_that_refuses_is_asked_once_and_named(
    credentials: str, status: int, text: str, world: TlsWorld, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that is shown again and again is soon locked."""
    with a_proxy(credentials, status=status) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url("party:wr0ng"))
        if not credentials:
            proxy.credentials = "party:wr0ng"
        with pytest.raises(ConfideError) as caught:
            connected(world.route(endpoint))
        assert len(proxy.asked) == 1
        (found, _) = _diagnosed(world, endpoint, monkeypatch)
    assert caught.value.code is ErrorCode.PROXY_REFUSED
    assert text in caught.value.what
    assert "wr0ng" not in str(caught.value)
    assert (found.verdict, text in found.what) == (Verdict.FAIL, True)


def test_proxy_that_does_not_reach_the_party_is_asked_again_until_it_does(
    world: TlsWorld, endpoint: str, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The party's port may still be on its way up."""
    monkeypatch.setattr(dialling, "CONNECT_S", 15.0)
    monkeypatch.setenv("https_proxy", proxy.url())
    proxy.status = 502

    def let_through(_: float) -> None:
        proxy.status = 200

    monkeypatch.setattr(dialling.time, "sleep", let_through)
    with connected(world.route(endpoint)):
        pass
    assert [asked.status for asked in proxy.await_asked(2)] == [502, 200]


@pytest.mark.parametrize(
    ("manner", "within_s", "code", "text"),
    [
        (Manner.HANG, 0.5, ErrorCode.PARTY_UNREACHABLE, "says nothing in time"),
        (Manner.HANG_UP, 15.0, ErrorCode.PARTY_UNREACHABLE, "it hung up"),
        (Manner.ENDLESS, 15.0, ErrorCode.PROXY_REFUSED, "does not speak HTTP/1.1"),
    ],
)
def test_proxy_that_is_none_ends_in_bounded_time(
    manner: Manner, within_s: float, code: ErrorCode, text: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_proxy(manner=manner) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url())
        with pytest.raises(ConfideError) as caught:
            reach(endpoint, deadline=time.monotonic() + within_s)
    assert caught.value.code is code
    assert text in caught.value.what
    assert proxy.address in caught.value.what


def test_proxy_that_is_not_there_is_named_and_the_link_ends_for_the_worker(
    world: TlsWorld, endpoint: str, links: LinkTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("https_proxy", f"http://{address}")
        with pytest.raises(ConfideError) as caught:
            reach(endpoint, deadline=time.monotonic() + 5.0)
        assert (caught.value.code, address in caught.value.what) == (ErrorCode.PARTY_UNREACHABLE, True)
        with _joined(links, world.route(endpoint)) as (near, _):
            assert near.recv(1) == b""


def test_proxy_without_an_address_stops_calls_and_links_alike(
    world: TlsWorld, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:0")
    for attempt in (lambda: connected(world.route(endpoint)), lambda: open_channel(world.peer, endpoint=endpoint, party=SERVER)):
        with pytest.raises(ConfideError) as caught:
            attempt()
        assert caught.value.code is ErrorCode.INVALID_CONFIG


def test_call_through_a_proxy_that_refuses_names_the_party(
    world: TlsWorld, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_proxy(status=403) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url())
        with open_channel(world.peer, endpoint=endpoint, party=SERVER) as channel:
            assert refusal(channel, HELLO).code is ErrorCode.PARTY_UNREACHABLE
