"""One public port over real mutual TLS on loopback, and a channel of each kind of caller to it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from governance.identity.names import MemberKind
from parties.transport import dialling, streams
from parties.transport.dialling import Route
from parties.transport.streams import LinkTable
from parties.transport.tls import open_channel
from tests.support.tls_world import (
    SERVER,
    TlsWorld,
    a_tls_world,
    serving,
)


@pytest.fixture(scope="module")
def world() -> TlsWorld:
    return a_tls_world()


@pytest.fixture(scope="module")
def links() -> LinkTable:
    return LinkTable()


@pytest.fixture(scope="module")
def endpoint(world: TlsWorld, links: LinkTable) -> Iterator[str]:
    with serving(world, links) as address:
        yield address


@pytest.fixture(autouse=True)
def _short_wait_for_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (dialling, streams):
        monkeypatch.setattr(module, "CONNECT_S", 1.5)


@pytest.fixture(scope="module")
def route(world: TlsWorld, endpoint: str) -> Route:
    """How the other party reaches the port."""
    return world.route(endpoint)


@pytest.fixture(scope="module")
def channels(world: TlsWorld, endpoint: str) -> Iterator[dict[MemberKind, grpc.Channel]]:
    """One channel of a party and one of a researcher."""
    with (
        open_channel(world.peer, endpoint=endpoint, party=SERVER) as party,
        open_channel(world.researcher, endpoint=endpoint, party=SERVER) as researcher,
    ):
        yield {MemberKind.PARTY: party, MemberKind.RESEARCHER: researcher}
