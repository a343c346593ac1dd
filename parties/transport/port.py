"""The one public port of a party: links are taken here, every other connection goes to gRPC as it is.

Both kinds are mutual TLS 1.3 from their first byte. Which of the two a connection is stands in its first record, in the clear: a
link names its protocol (ALPN). Who only writes the name there without speaking it is refused by the handshake. gRPC's own server
listens on a socket of this machine that has no port, and asks for the same certificates as before: it sees every byte of its
connections and nobody opens them on the way. Whether a call's connection is a member's the port learns from whoever serves the
call, by the name of the local socket that carries it.
"""

from __future__ import annotations

import errno
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from threading import Lock, Thread

from parties.transport.carrying import PlainEnd, carry
from parties.transport.places import Places, source_of
from parties.transport.timing import left
from parties.transport.tls import HANDSHAKE_S, LINK_PROTOCOL, MAX_CONNECTIONS
from parties.transport.tls_stream import TlsStream, give_up_after, keep_alive
from protocols.errors import ConfideError, ErrorCode

_HANDSHAKE_RECORD = 0x16
_RECORD_HEADER_BYTES = 5
_MAX_RECORD_BYTES = _RECORD_HEADER_BYTES + (16 << 10)
_BACKLOG = 1_024
_CALLS_BYTES = 64 << 10  # what is read of a call at once: strangers may have as many of these as connections
_PAUSE_S = 0.1
# Connections that have lost their place and whose threads have not ended yet: for so many places one, and some.
_PLACES_PER_ENDING, _SOME_ENDING = 4, 16
# gRPC's server closes what it has refused or is through with. Whoever stays then is no longer waited for: strangers too.
_PARTING_S = 1.0
_DEAF_S = 20.0  # a caller that takes nothing of what is sent; gRPC's server cannot see that through this machine's socket


def calls_address() -> str:
    """Returns a new address of this machine for gRPC's server; the name is of no use to anybody who finds it."""
    return f"unix-abstract:confide-{secrets.token_hex(16)}"


class PublicPort:
    """Listens on the port; safe to stop from another thread."""

    def __init__(
        self,
        listen: str,
        *,
        calls: str,
        context: ssl.SSLContext,
        serve: Callable[[TlsStream, Callable[[Hashable], None]], None],
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Binds the port.

        Args:
            listen: `host:port`.
            calls: where gRPC's server listens (`calls_address`).
            context: what links are accepted with (`accepting_context`).
            serve: serves a connection that has shaken hands as a link, in a thread of its own, until it ends; it says which
                member it is as soon as it knows.
            max_connections: of both kinds together.

        Raises:
            ConfideError: INVALID_CONFIG (the operator's fault): the address cannot be bound.
        """
        self._calls = "\0" + calls.partition(":")[2]
        self._context = context
        self._serve = serve
        self._most_open = max_connections + max_connections // _PLACES_PER_ENDING + _SOME_ENDING
        self._lock = Lock()
        self._places: Places[socket.socket] = Places(max_connections)
        self._open: dict[socket.socket, socket.socket | None] = {}  # and what carries it to gRPC's server
        self._callers: dict[str, socket.socket] = {}  # by what gRPC's server calls them
        self._is_over = False
        host, _, port = listen.rpartition(":")
        try:
            self._listeners = _listening(host.strip("[]"), int(port))
        except OSError as error:
            raise ConfideError(
                ErrorCode.INVALID_CONFIG,
                f"{listen} cannot be bound: the port may be taken",
                remedy="Stop what uses the port, or change `listen` in the configuration.",
            ) from error

    @property
    def number(self) -> int:
        """The number of the port."""
        return int(self._listeners[0].getsockname()[1])

    def start(self) -> None:
        """Begins to take connections."""
        for listener in self._listeners:
            Thread(target=self._accept, args=(listener,), name="port", daemon=True).start()

    def stop(self) -> None:
        """Takes no more connections and ends all that are open."""
        with self._lock:
            self._is_over = True
            for listener in self._listeners:
                with suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                listener.close()
            for endpoint in self._open:
                self._end(endpoint)

    def settle_call(self, peer: str, member: Hashable) -> None:
        """Notes that a caller has shown a member's certificate; takes what gRPC calls the caller (`ServicerContext.peer`)."""
        with self._lock:
            endpoint = self._callers.get(peer)
            if endpoint is not None:
                self._places.settle(endpoint, member)

    def _settle_link(self, endpoint: socket.socket, member: Hashable) -> None:
        with self._lock:
            self._places.settle(endpoint, member)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                endpoint, address = listener.accept()
            except OSError:
                if self._is_over:
                    return
                time.sleep(_PAUSE_S)  # no descriptor is left, or a caller went away: the port stays open
                continue
            if not self._take_in(endpoint, source_of(address[0])):
                endpoint.close()
                continue
            try:
                Thread(target=self._welcome, args=(endpoint,), name="connection", daemon=True).start()
            except RuntimeError:  # no thread is left
                self._part_from(endpoint)

    def _take_in(self, endpoint: socket.socket, source: str) -> bool:
        with self._lock:
            if self._is_over or len(self._open) >= self._most_open:
                return False
            leaving = self._places.enter(endpoint, source, now=time.monotonic())
            if leaving is endpoint:
                return False
            self._open[endpoint] = None
            if leaving is not None:
                self._end(leaving)
        return True

    def _end(self, endpoint: socket.socket) -> None:
        """Lets the thread of a connection find its end, whatever it waits for."""
        for end in (endpoint, self._open[endpoint]):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _part_from(self, endpoint: socket.socket) -> None:
        with self._lock:
            self._places.leave(endpoint)
            self._open.pop(endpoint, None)
        endpoint.close()

    def _welcome(self, endpoint: socket.socket) -> None:
        try:
            keep_alive(endpoint)
            deadline = time.monotonic() + HANDSHAKE_S
            first = first_record(endpoint, deadline)
            if LINK_PROTOCOL.encode() in first:
                self._link(endpoint, first, deadline)
            else:
                self._pass_on(endpoint, first)
        except OSError:
            pass  # whoever called did not say what must be said, or has gone
        finally:
            self._part_from(endpoint)

    def _link(self, endpoint: socket.socket, first: bytes, deadline: float) -> None:
        stream = TlsStream(endpoint, self._context, server_name=None)
        stream.shake_hands(deadline, heard=first)
        if stream.protocol == LINK_PROTOCOL:
            self._serve(stream, partial(self._settle_link, endpoint))

    def _pass_on(self, endpoint: socket.socket, first: bytes) -> None:
        give_up_after(endpoint, _DEAF_S)
        with socket.socket(socket.AF_UNIX) as calls:
            calls.bind("")  # the system names it
            calls.settimeout(HANDSHAKE_S)
            name = f"unix-abstract:{calls.getsockname()[1:].decode('ascii')}"
            with self._lock:
                self._open[endpoint], self._callers[name] = calls, endpoint
            try:
                calls.connect(self._calls)
                calls.sendall(first)
                caller, server = (PlainEnd(end, buffer_bytes=_CALLS_BYTES) for end in (endpoint, calls))
                carry(caller, server, ending_s=_PARTING_S)
            finally:
                with self._lock:
                    self._open[endpoint] = None
                    del self._callers[name]


def first_record(endpoint: socket.socket, deadline: float) -> bytes:
    """Reads until the first record of a TLS connection is whole, or what has come begins none.

    Raises:
        OSError: nothing or too little came until the deadline (of `time.monotonic`), or the caller has gone.
    """
    found = b""
    while len(found) < _expected(found):
        endpoint.settimeout(left(deadline))
        piece = endpoint.recv(_MAX_RECORD_BYTES)
        if not piece:
            raise ConnectionResetError
        found += piece
    return found


def _expected(found: bytes) -> int:
    """Returns how many bytes must be there before it is known what a connection is."""
    if not found:
        return 1
    if found[0] != _HANDSHAKE_RECORD:
        return 0  # no TLS: gRPC's server knows how to refuse it
    if len(found) < _RECORD_HEADER_BYTES:
        return _RECORD_HEADER_BYTES
    return min(_RECORD_HEADER_BYTES + int.from_bytes(found[3:5], "big"), _MAX_RECORD_BYTES)


def _listening(host: str, port: int) -> list[socket.socket]:
    """Returns a listener for every address of a host that this machine has: a name may stand for one that is switched off."""
    if host in ("0.0.0.0", "::") and socket.has_dualstack_ipv6():  # noqa: S104  (what the configuration asks for)
        return [socket.create_server(("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)]
    found: list[socket.socket] = []
    absent: OSError | None = None
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            found.append(socket.create_server(address, family=family, backlog=_BACKLOG))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for listener in found:
                    listener.close()
                raise
            absent = error
    if absent is not None and not found:
        raise absent
    return found
