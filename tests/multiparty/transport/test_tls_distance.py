"""Links between distant parties, and to one that does not keep up: what is paid is latency alone, and every wait is bounded."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from parties.harness import free_ports
from parties.transport.dialling import Route
from parties.transport.streams import LinkTable, dial
from parties.worker.link import WorkerLink
from protocols.links import TensorSpec
from tests.support.delay_proxy import DelayProxy
from tests.support.link_pairs import Running, a_link
from tests.support.tls_calls import SESSION_ID
from tests.support.tls_world import PEER, SERVER, TlsWorld

pytestmark = pytest.mark.multiparty
ONE_WAY_S = 0.1
MIB = 1 << 20
_ATTEMPTS = itertools.count(2_000)


@contextmanager
def two_workers(links: LinkTable, route: Route) -> Iterator[tuple[WorkerLink, WorkerLink]]:
    """The ends of a link: the one that dialled, and the one that was accepted."""
    attempt = next(_ATTEMPTS)
    near, near_party = socket.socketpair()
    far, far_party = socket.socketpair()
    links.expect(SESSION_ID, attempt, PEER, far_party)
    dial(route, session=SESSION_ID, attempt=attempt, endpoint=near_party)
    with near, near_party, far, far_party:
        yield a_link(near, peer=SERVER, attempt=attempt), a_link(far, peer=PEER, attempt=attempt)


@pytest.fixture
def distant(world: TlsWorld, endpoint: str) -> Iterator[Route]:
    proxy = DelayProxy(free_ports(1)[0], int(endpoint.rpartition(":")[2]), one_way_s=ONE_WAY_S)
    proxy.start()
    yield world.route(proxy.address)
    proxy.stop()


def take_rounds(link: WorkerLink, first: int, sizes: list[int]) -> float:
    """Both ends send, then receive, once for each size; returns the seconds of all."""
    began = time.monotonic()
    for operation, size in enumerate(sizes, first):
        link.send(operation, [np.full(size, operation, np.uint8)])
        (found,) = link.receive(operation, [TensorSpec("uint8", (size,))])
        assert found[0] == found[-1] == operation
    return time.monotonic() - began


def test_rounds_between_distant_parties_cost_one_way_each_whatever_their_size(links: LinkTable, distant: Route) -> None:
    """A message that waited for an answer, or for room in a window, would cost a round trip more each round."""
    sizes = [64, 100_000, 3_300_000, 3_300_000, 64, 3_300_000]
    with two_workers(links, distant) as (near, far):
        other = Running(lambda: (take_rounds(far, 1, [64, 3_300_000]), take_rounds(far, 3, sizes)))
        take_rounds(near, 1, [64, 3_300_000])  # connects, and lets the windows grow
        taken = take_rounds(near, 3, sizes)
        other.result(60)
    assert (len(sizes) - 2) * ONE_WAY_S <= taken < len(sizes) * 3 * ONE_WAY_S


def test_link_to_a_worker_that_does_not_read_holds_the_sender_back_within_a_bound(links: LinkTable, route: Route) -> None:
    """What a dealer is ahead waits in the reader's window, in sockets and in the stream's window: nowhere without a bound."""
    size, messages, window = MIB - 128, 120, 8 * MIB
    with two_workers(links, route) as (dealer, computing):
        computing.read_ahead(window)
        sending = Running(lambda: [dealer.send(n, [np.full(size, n % 251, np.uint8)]) for n in range(1, messages + 1)])
        sent, moving = 0, True
        while moving:
            time.sleep(1.0)
            moving, sent = dealer.payload_bytes != sent, dealer.payload_bytes
        assert window <= sent < window + 40 * MIB
        for number in range(1, messages + 1):
            (found,) = computing.receive(number, [TensorSpec("uint8", (size,))])
            assert found[0] == found[-1] == number % 251
        sending.result()
