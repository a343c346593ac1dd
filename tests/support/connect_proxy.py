"""An HTTP proxy that passes connections on when it is asked with CONNECT, as institutions have one before their network.

It carries what it is given and looks at the first bytes of each connection alone, to tell a test whether a link or a call went
through it. It may ask for credentials, answer with a status of its own, say nothing, or never end its answer.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from threading import Condition, Thread

from parties.transport.tls import LINK_PROTOCOL
from tests.support.accepting import accepted

_AT_ONCE = 1 << 16
_MOST_REQUEST_BYTES = 1 << 14


class Manner(Enum):
    """How the proxy answers."""

    PASS = "passes on what it may"
    HANG = "says nothing"
    ENDLESS = "goes on and on"
    HANG_UP = "closes at once"


@dataclass(frozen=True)
class Asked:
    """One request: where to, with which `name:password`, with which status it was answered, and what went through first."""

    target: str
    credentials: str
    status: int
    is_link: bool = False


@dataclass
class ConnectProxy:
    """A proxy on a port of loopback; every host is on this machine.

    Attributes:
        credentials: `name:password` that it asks for; empty for none.
        status: what it answers everybody with; 200 passes on.
        hosts: names that it takes for this machine.
    """

    credentials: str = ""
    status: int = 200
    manner: Manner = Manner.PASS
    hosts: tuple[str, ...] = ()
    asked: list[Asked] = field(default_factory=list)
    _open: set[socket.socket] = field(default_factory=set)
    _changed: Condition = field(default_factory=Condition)

    def __post_init__(self) -> None:
        """Begins to listen."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        Thread(target=self._accept, daemon=True).start()

    def url(self, credentials: str = "") -> str:
        """What an environment names the proxy with."""
        return f"http://{credentials}@{self.address}" if credentials else f"http://{self.address}"

    def await_asked(self, count: int, *, within_s: float = 10.0) -> list[Asked]:
        """Waits until so many requests have been answered."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.asked) >= count, within_s)
            return list(self.asked)

    def close(self) -> None:
        """Ends all connections and listens no more."""
        with self._changed:
            for endpoint in (self._server, *self._open):
                with suppress(OSError):
                    endpoint.shutdown(socket.SHUT_RDWR)
                endpoint.close()

    def _accept(self) -> None:
        for near in accepted(self._server):
            with self._changed:
                self._open.add(near)
            Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            target, credentials, rest = _read_request(near)
            match self.manner:
                case Manner.HANG:
                    self._note(Asked(target, credentials, 0))
                    near.recv(1)
                case Manner.HANG_UP:
                    self._note(Asked(target, credentials, 0))
                case Manner.ENDLESS:
                    near.sendall(b"HTTP/1.1 200 OK\r\n")
                    while True:
                        near.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
                case Manner.PASS:
                    self._pass(near, target, credentials, rest)

    def _pass(self, near: socket.socket, target: str, credentials: str, rest: bytes) -> None:
        status = 407 if credentials != self.credentials else self.status
        host, _, port = target.rpartition(":")
        if status == 200:
            try:
                far = socket.create_connection(("127.0.0.1" if host in self.hosts else host.strip("[]"), int(port)), timeout=5)
            except OSError:
                status = 502
        if status != 200:
            self._note(Asked(target, credentials, status))
            body = b"<html>no</html>"
            near.sendall(b"HTTP/1.1 %d Not So\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
            return
        with far:
            with self._changed:
                self._open.add(far)
            far.settimeout(None)
            near.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")
            first = rest or near.recv(_AT_ONCE)
            self._note(Asked(target, credentials, status, LINK_PROTOCOL.encode() in first))
            far.sendall(first)
            back = Thread(target=_carry, args=(far, near), daemon=True)
            back.start()
            _carry(near, far)
            back.join()

    def _note(self, asked: Asked) -> None:
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()


def _read_request(near: socket.socket) -> tuple[str, str, bytes]:
    found = b""
    while b"\r\n\r\n" not in found:
        piece = near.recv(_AT_ONCE)
        found += piece
        if not piece or len(found) > _MOST_REQUEST_BYTES:
            raise ConnectionResetError
    head, _, rest = found.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if method != "CONNECT" or headers["host"] != target:
        raise ConnectionResetError
    kind, _, credentials = headers.get("proxy-authorization", "").partition(" ")
    return target, base64.b64decode(credentials).decode() if kind == "Basic" else "", rest


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_AT_ONCE):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def a_proxy(credentials: str = "", *, status: int = 200, manner: Manner = Manner.PASS) -> Iterator[ConnectProxy]:
    """A proxy that ends with the block."""
    proxy = ConnectProxy(credentials, status, manner)
    try:
        yield proxy
    finally:
        proxy.close()
