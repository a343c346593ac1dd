"""The network between the members of a test consortium: one route per directed pair, each a small TCP proxy of ours.

Every member's directory names the routes as the endpoints of the others, so all its connections pass here, still encrypted
end to end. A route may slow down what it carries, carry nothing for a while without closing anything (what a partition looks
like from both ends), or break its connections and refuse new ones.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from threading import Condition, Thread

from tests.support.accepting import accepted

_AT_ONCE = 1 << 18


class Passage(Enum):
    """How a route treats what it is given."""

    OPEN = "open"
    STALLED = "stalled"  # nothing arrives, nothing is refused
    CUT = "cut"  # connections break, new ones are closed at once


class Route:
    """Carries TCP connections from a port of its own to a port of loopback."""

    def __init__(self, target: int) -> None:
        """Begins to listen at once; the target is connected to when somebody comes."""
        self._target = target
        self._changed = Condition()
        self._state = Passage.OPEN
        self._delay_s = 0.0
        self._open: set[socket.socket] = set()
        self._closed = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        Thread(target=self._accept, daemon=True).start()

    def delay(self, seconds: float) -> None:
        """From now on every piece that is read waits this long before it goes on; 0 for none."""
        with self._changed:
            self._delay_s = seconds

    def stall(self) -> None:
        """Carries nothing until `open`; what is sent meanwhile arrives then."""
        self._become(Passage.STALLED)

    def cut(self) -> None:
        """Breaks every connection and refuses new ones until `open`."""
        self._become(Passage.CUT)
        self._break_connections()

    def open(self) -> None:
        """Carries again, without delay."""
        self.delay(0.0)
        self._become(Passage.OPEN)

    def close(self) -> None:
        """Ends everything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._break_connections()

    def _become(self, state: Passage) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _break_connections(self) -> None:
        with self._changed:
            endpoints = list(self._open)
        for endpoint in endpoints:
            with suppress(OSError):
                endpoint.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        for near in accepted(self._server):
            Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        if not self._may_pass():  # a stalled route must not even answer the greeting of TLS
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        for endpoint in (near, far):
            endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            self._open |= {near, far}
        back = Thread(target=self._carry, args=(far, near), daemon=True)
        back.start()
        self._carry(near, far)
        back.join()
        with self._changed:
            self._open -= {near, far}
        near.close()
        far.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_AT_ONCE):
                if self._delay_s:
                    time.sleep(self._delay_s)
                if not self._may_pass():
                    break
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _may_pass(self) -> bool:
        """Waits while the route is stalled; False once it is cut or closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._state is not Passage.STALLED)
            return not self._closed and self._state is Passage.OPEN


class Routes:
    """All routes of a consortium, by who connects and who is connected to."""

    def __init__(self, targets: dict[str, int], members: Iterable[str]) -> None:
        """Opens a route from every member to every other party; `targets` gives the parties' real ports."""
        self._routes = {(member, party): Route(port) for member in members for party, port in targets.items() if member != party}

    def port(self, member: str, party: str) -> int:
        """Where a member connects to, to reach a party."""
        return self._routes[member, party].port

    def of(self, member: str) -> list[Route]:
        """Every route from and to a member."""
        return [route for pair, route in self._routes.items() if member in pair]

    def between(self, one: str, other: str) -> list[Route]:
        """The routes between two members."""
        return [route for pair, route in self._routes.items() if set(pair) == {one, other}]

    def close(self) -> None:
        for route in self._routes.values():
            route.close()
