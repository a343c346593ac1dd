"""A TLS connection over a socket, in few calls of the kernel.

What is encrypted passes through memory, so that a frame takes one call and not one for each record of TLS.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from types import TracebackType
from typing import cast

from parties.transport.carrying import AT_ONCE_BYTES, Outbox
from parties.transport.timing import SEND_S, left

_RECORD_BYTES = 16 << 10
# What one read of the socket and the start of a record before it can hold when it is open.
_CLEAR_BYTES = AT_ONCE_BYTES + 2 * _RECORD_BYTES
_KEEPALIVE_S, _KEEPALIVES = 10, 3


def keep_alive(endpoint: socket.socket) -> None:
    """Sends small pieces at once, and finds out that the other machine has gone though it said nothing."""
    endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
    endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_S)
    endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVES)


def give_up_after(endpoint: socket.socket, seconds: float) -> None:
    """Ends a connection whose other side has taken nothing of what waits for it for so long."""
    endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


class TlsStream:
    """One end of a connection: first it waits for what it says and hears, then it is an `End` that is carried.

    The end of a direction is the end of TCP's. Who cuts a connection short can so make it look ended; the workers, which know
    what is to come and authenticate every frame, find that.
    """

    def __init__(self, endpoint: socket.socket, context: ssl.SSLContext, *, server_name: str | None) -> None:
        """Takes the socket, which it closes, and the name that whoever accepted must hold; None at the accepting end."""
        self._socket = endpoint
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name)
        self._encrypted = memoryview(bytearray(_RECORD_BYTES))  # strangers may have as many of these as connections
        self._clear = memoryview(b"")
        self._outbox = Outbox(endpoint)
        self._is_begun = False  # the first read finds what came with the last words before it
        self._has_ended = False
        self.fileno = endpoint.fileno
        self.finish = self._outbox.finish

    def __enter__(self) -> TlsStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    # While there is somebody to wait for; deadlines are of `time.monotonic`.

    def shake_hands(self, deadline: float, *, heard: bytes = b"") -> None:
        """Opens the connection.

        Args:
            deadline: until when.
            heard: what has been read from the socket before.

        Raises:
            OSError: the other side is not who it must be, speaks no TLS 1.3, ended, or took too long.
        """
        self._incoming.write(heard)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._send(deadline)
                self._receive(deadline)
            except ssl.SSLError:
                with suppress(OSError):
                    self._send(deadline)  # why it was refused
                raise
        self._send(deadline)

    @property
    def protocol(self) -> str | None:
        """What both sides have agreed to speak."""
        return self._tls.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> str:
        """The certificate whose key the other side holds; PEM, empty for none."""
        shown = self._tls.getpeercert(binary_form=True)
        return ssl.DER_cert_to_PEM_cert(shown) if shown else ""

    def say(self, data: bytes, deadline: float) -> None:
        """Sends a few bytes; raises OSError if they cannot be sent in time."""
        self._tls.write(data)
        self._send(deadline)

    def hear(self, count: int, deadline: float) -> bytes:
        """Waits for so many bytes; raises OSError if they do not come in time."""
        found = b""
        while len(found) < count:
            try:
                piece = self._tls.read(count - len(found))
            except ssl.SSLWantReadError:
                self._receive(deadline)
                continue
            if not piece:
                raise ConnectionResetError
            found += piece
        return found

    def _send(self, deadline: float) -> None:
        if self._outgoing.pending:
            self._socket.settimeout(left(deadline))
            self._socket.sendall(self._outgoing.read())

    def _receive(self, deadline: float) -> None:
        self._socket.settimeout(left(deadline))
        got = self._socket.recv_into(self._encrypted)
        if not got:
            raise ConnectionResetError
        self._incoming.write(self._encrypted[:got])

    # When it is carried.

    def begin(self) -> None:
        """From now on this is an `End`."""
        self._socket.setblocking(False)
        give_up_after(self._socket, SEND_S)
        self._encrypted = memoryview(bytearray(AT_ONCE_BYTES))
        self._clear = memoryview(bytearray(_CLEAR_BYTES))

    def read(self) -> memoryview | None:
        """Returns what has come; see `End.read`. Raises OSError for what is not the peer's."""
        got = None
        if self._has_ended:
            return self._clear[:0]
        if self._is_begun:
            try:
                got = self._socket.recv_into(self._encrypted)
            except BlockingIOError:
                return None
            except ConnectionError:
                got = 0
            if got:
                self._incoming.write(self._encrypted[:got])
        self._is_begun = True
        clear = self._open()
        if self._outgoing.pending and not self._outbox.is_full():  # TLS itself has something to say
            self._outbox.put(self._outgoing.read())
        if not clear and got != 0 and not self._has_ended:
            return None
        return self._clear[:clear]

    def write(self, data: memoryview) -> bool:
        """Sends; see `End.write`."""
        self._tls.write(data)
        return self._outbox.put(self._outgoing.read())

    def is_full(self) -> bool:
        """Tries to send what is left; see `End.is_full`."""
        return self._outbox.is_full()

    def _open(self) -> int:
        filled = 0
        while True:
            try:
                got = cast(int, self._tls.read(_RECORD_BYTES, self._clear[filled:]))  # into a buffer: how many
            except ssl.SSLWantReadError:
                return filled
            if not got:  # the other side has closed TLS: whatever follows would never be opened, nor be let go
                self._has_ended = True
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RD)  # so that it is read again, though nothing may follow
                return filled
            filled += got
            # A read of the longest record leaves nothing of it behind: with nothing after it, another would find nothing, and
            # say so by an exception that costs more than opening a small record.
            if not self._incoming.pending:
                return filled
