"""Opens the connection of a link to a peer's public port, by the way that calls take too: directly or through a proxy."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass

from governance.identity.certificates import parse_certificate
from governance.identity.names import tls_name
from parties.transport.proxies import open_tunnel, proxy_for, unreachable_proxy
from parties.transport.timing import CONNECT_S
from parties.transport.tls import HANDSHAKE_S, LINK_PROTOCOL, TlsIdentity, dialling_context
from parties.transport.tls_stream import TlsStream, keep_alive
from protocols.errors import ConfideError, ErrorCode

AGAIN_S = 0.2


@dataclass(frozen=True)
class Route:
    """How a peer is reached: as whom, where, whose certificate must be there, and the one that the directory lists (PEM)."""

    identity: TlsIdentity
    endpoint: str
    party: str
    certificate: str


def connected(route: Route) -> TlsStream:
    """Returns an open connection; the peer's port may still be on its way up.

    Raises:
        ConfideError: PARTY_UNREACHABLE (the peer's fault, or of the way to it); UNAUTHENTICATED (the peer's): what answers is not
            the party in the directory; PROXY_REFUSED, INVALID_CONFIG (the operator's), at once.
    """
    context, deadline = dialling_context(route.identity), time.monotonic() + CONNECT_S
    while True:
        try:
            return _attempt(route, context)
        except ConfideError as error:
            # A proxy that refuses once does so again, and counts how often a wrong password is shown.
            if error.code in (ErrorCode.PROXY_REFUSED, ErrorCode.INVALID_CONFIG) or time.monotonic() + AGAIN_S > deadline:
                raise
            time.sleep(AGAIN_S)


def reach(endpoint: str, *, deadline: float) -> socket.socket:
    """Connects to an endpoint of the directory, through the proxy that the environment names for it.

    Args:
        endpoint: `host:port`.
        deadline: until when, of `time.monotonic`.

    Raises:
        OSError: it cannot be reached directly.
        ConfideError: PARTY_UNREACHABLE, PROXY_REFUSED, INVALID_CONFIG: it cannot be reached through the proxy.
    """
    proxy = proxy_for(endpoint)
    if proxy is None:
        return _connect(endpoint, deadline)
    try:
        connection = _connect(proxy.address, deadline)
    except OSError as error:
        raise unreachable_proxy(proxy, error) from error
    try:
        open_tunnel(connection, proxy, endpoint, deadline=deadline)
    except ConfideError:
        connection.close()
        raise
    return connection


def _connect(address: str, deadline: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=max(0.1, deadline - time.monotonic()))


def _attempt(route: Route, context: ssl.SSLContext) -> TlsStream:
    try:
        endpoint = reach(route.endpoint, deadline=time.monotonic() + HANDSHAKE_S)
    except OSError as error:
        raise ConfideError(ErrorCode.PARTY_UNREACHABLE, f"{route.endpoint}: {type(error).__name__}", party=route.party) from error
    try:
        keep_alive(endpoint)
        stream = TlsStream(endpoint, context, server_name=tls_name(route.party))
        stream.shake_hands(time.monotonic() + HANDSHAKE_S)
        if stream.protocol != LINK_PROTOCOL:
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE, f"what answers does not speak {LINK_PROTOCOL}", party=route.party)
        if not _is_listed(stream.peer_certificate, route.certificate):
            what = f"what answers as {route.party} does not hold the key in the directory"
            raise ConfideError(ErrorCode.UNAUTHENTICATED, what, party=route.party)
    except OSError as error:
        endpoint.close()
        what = f"the handshake at {route.endpoint} fails: {type(error).__name__}"
        raise ConfideError(ErrorCode.PARTY_UNREACHABLE, what, party=route.party) from error
    except ConfideError:
        endpoint.close()
        raise
    return stream


def _is_listed(shown: str, listed: str) -> bool:
    """Tells whether a certificate holds the key in the directory: one that was replaced has the right name until it ends."""
    try:
        return parse_certificate(shown).public_key_digest == parse_certificate(listed).public_key_digest
    except ConfideError:  # it is of no member's form
        return False
