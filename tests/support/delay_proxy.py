"""Distance on one machine: a TCP proxy that delivers everything a fixed time after it was sent, and limits nothing else.

It stands at the endpoint that the directory gives; the party itself listens elsewhere. Every piece is stamped when it is read
and written when its time has come, by two threads, so pieces follow each other as closely as they came: what a party pays is
latency alone. Loopback answers TCP's own questions at once, so the window and slow start of TCP on a real line are not shown;
the windows of HTTP/2 inside it are.
"""

from __future__ import annotations

import re
import socket
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread

from parties.config import load_party_config
from parties.harness import free_ports
from tests.support.accepting import accepted

_AT_ONCE = 1 << 18
_MOST_UNDER_WAY = 256 << 20  # bytes of one direction: far above what the windows of the parties let out in a round trip


class DelayProxy:
    """Carries TCP connections to a port of loopback; each direction takes `one_way_s` seconds longer."""

    def __init__(self, listen: int, target: int, *, one_way_s: float) -> None:
        self.address = f"127.0.0.1:{listen}"
        self._listen = listen
        self._target = target
        self._one_way_s = one_way_s
        self._open: list[socket.socket] = []
        self._changed = Condition()
        self._server: socket.socket | None = None

    def start(self) -> None:
        """Begins to listen."""
        self._server = socket.create_server(("127.0.0.1", self._listen))
        Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def stop(self) -> None:
        """Ends all connections and stops listening."""
        if self._server is not None:
            with suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
        with self._changed:
            for endpoint in self._open:
                with suppress(OSError):
                    endpoint.shutdown(socket.SHUT_RDWR)
                endpoint.close()
            self._open.clear()

    def _accept(self, server: socket.socket) -> None:
        for near in accepted(server):
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            for endpoint in (near, far):
                endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                way = _Way(self._one_way_s)
                Thread(target=way.read, args=(source,), daemon=True).start()
                Thread(target=way.write, args=(sink,), daemon=True).start()


class _Way:
    """What is under way in one direction of one connection."""

    def __init__(self, one_way_s: float) -> None:
        self._one_way_s = one_way_s
        self._changed = Condition()
        self._pieces: deque[tuple[float, bytes]] = deque()  # when it is due; an empty one is the end
        self._size = 0

    def read(self, source: socket.socket) -> None:
        data = b"more"
        while data:
            try:
                data = source.recv(_AT_ONCE)
            except OSError:
                data = b""
            with self._changed:
                self._changed.wait_for(lambda: self._size < _MOST_UNDER_WAY)
                self._pieces.append((time.monotonic() + self._one_way_s, data))
                self._size += len(data)
                self._changed.notify_all()

    def write(self, sink: socket.socket) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._pieces))
                due, data = self._pieces.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            with suppress(OSError):
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            with self._changed:
                self._size -= len(data)
                self._changed.notify_all()


def move_apart(folder: Path, parties: Iterable[str], *, one_way_s: float) -> dict[str, DelayProxy]:
    """Puts a proxy at the published endpoint of every party of a consortium that does not run yet; returns them, started.

    The party itself is moved to another port. A connection passes one proxy, so a round trip takes twice `one_way_s` longer.
    """
    names = tuple(parties)
    proxies = {}
    for party, port in zip(names, free_ports(len(names)), strict=True):
        config_file = folder / party / "party.yaml"
        published = int(load_party_config(config_file).listen.rpartition(":")[2])
        text, count = re.subn(r"(?m)^listen: .*$", f'listen: "127.0.0.1:{port}"', config_file.read_text())
        if count != 1:
            raise ValueError(f"{config_file} has not exactly one listen")
        config_file.write_text(text)
        proxies[party] = DelayProxy(published, port, one_way_s=one_way_s)
        proxies[party].start()
    return proxies
