"""A recording proxy: it stands at the endpoint that the directory gives, and keeps every byte that passes."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Lock, Thread

from tests.support.accepting import accepted

_AT_ONCE = 1 << 16


class WireTap:
    """Carries TCP connections to a port of loopback and records both directions of each."""

    def __init__(self, listen: int, target: int) -> None:
        """Begins to listen on `listen` at once; connections are made to `target`."""
        self.port = listen
        self._target = target
        self._lock = Lock()
        self._streams: list[bytearray] = []
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", listen))
        self._thread = Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def recorded(self) -> bytes:
        """Everything so far; the directions of all connections one after the other."""
        with self._lock:
            return b"".join(bytes(stream) for stream in self._streams)

    def close(self) -> None:
        """Ends all connections and stops listening."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        with self._lock:
            for endpoint in self._open:
                with suppress(OSError):
                    endpoint.shutdown(socket.SHUT_RDWR)
                endpoint.close()

    def _accept(self) -> None:
        for near in accepted(self._server):
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            for endpoint in (near, far):
                endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        stream = bytearray()
        with self._lock:
            self._streams.append(stream)
        with suppress(OSError):
            while data := source.recv(_AT_ONCE):
                with self._lock:
                    stream += data
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
