"""The way out through an HTTP proxy: which one a connection takes, and asking it to pass the connection on.

Calls are gRPC's, which reads the environment itself. Here the same is read in the same way, so that links and calls leave an
institution through the same door; a test holds the two against each other.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from parties.transport.timing import left
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

# The first that is set decides, also if it is empty: then there is no proxy, or no exception. Names in capitals mean nothing.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_URL = re.compile(r"http://(?:([^/?#]*)@)?([^/?#@]+)([/?#].*)?", re.IGNORECASE | re.DOTALL)
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
_BRACKETED = re.compile(r"\[(.*:.*)\]")
_DEFAULT_PORT = 443  # gRPC's
_ANSWER = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n(.?)", re.DOTALL)
_END = b"\r\n\r\n"
MAX_ANSWER_BYTES = 8 << 10
_WRITE_IT_SO = "Write `http://[name:password@]host[:port]`, and what means something in a URL as `%2F`."
_SEE_THE_PROXY = "See that the proxy that the environment names is up, or except the party's host in `no_proxy`."


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        address: its `host:port`; public.
        credentials: `name:password` for it; secret, None where the environment gives none.
    """

    address: str
    credentials: SecretBytes | None = field(default=None, compare=False)


def proxy_for(endpoint: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """Returns the proxy that a connection to an endpoint takes, None if it goes there directly; as gRPC chooses for calls.

    Args:
        endpoint: `host:port` of the directory.
        environment: the variables of this process.

    Raises:
        ConfideError: INVALID_CONFIG (the operator's fault): the proxy has no address that could be reached.
    """
    name, url = _first(_PROXIES, environment)
    found = _URL.fullmatch(url)
    if found is None or _is_excepted(endpoint, _first(_EXCEPTIONS, environment)[1]):
        return None
    who, where, rest = found.groups()
    parts = _HOST_AND_PORT.fullmatch(where)
    port = int(parts[2] or _DEFAULT_PORT) if parts else 0
    # A password that is not written as in a URL ends the address too early: what looks like it then is not to be shown.
    if parts is None or not 1 <= port <= 65_535 or "@" in (rest or "") or not _is_name(parts[1]):
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{name} names no address of a proxy", remedy=_WRITE_IT_SO)
    return Proxy(f"{parts[1]}:{port}", SecretBytes(unquote_to_bytes(os.fsencode(who))) if who else None)


def unused_setting(environment: Mapping[str, str] = os.environ) -> str:
    """Returns the name of the variable that asks for a proxy of a kind that neither calls nor links can take; empty if none."""
    name, url = _first(_PROXIES, environment)
    return name if url and not _URL.fullmatch(url) else ""


def open_tunnel(connection: socket.socket, proxy: Proxy, endpoint: str, *, deadline: float) -> None:
    """Asks a proxy to pass a connection on, and waits until it does.

    Args:
        connection: an open one to the proxy.
        proxy: who is asked.
        endpoint: `host:port` of the directory.
        deadline: until when, of `time.monotonic`.

    Raises:
        ConfideError: PROXY_REFUSED (the operator's fault): it does not permit this, or is no proxy; PARTY_UNREACHABLE: it says
            nothing, or cannot reach the party itself.
    """
    lines = [f"CONNECT {endpoint} HTTP/1.1", f"Host: {endpoint}"]
    if proxy.credentials is not None:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(proxy.credentials.reveal()).decode()}")
    try:
        connection.settimeout(left(deadline))
        connection.sendall("\r\n".join((*lines, "", "")).encode("ascii"))
        answer = _hear(connection, deadline)
    except OSError as error:
        raise unreachable_proxy(proxy, error) from error
    demand_passage(answer, proxy=proxy, endpoint=endpoint)


def demand_passage(answer: bytes, *, proxy: Proxy, endpoint: str) -> None:
    """Reads what a proxy has answered: at most `MAX_ANSWER_BYTES`, untrusted.

    Raises:
        ConfideError: see `open_tunnel`.
    """
    found = _ANSWER.match(answer)
    status, has_more = (int(found[1]), bool(found[2])) if found else (0, False)
    # The party says nothing before it is spoken to: what follows a permission is not its own.
    if 200 <= status < 300 and not has_more:
        return
    through = f"the proxy {proxy.address}"
    if 500 <= status < 600:
        what = f"{through} does not reach {endpoint}: it answers {status}"
        raise ConfideError(
            ErrorCode.PARTY_UNREACHABLE, what, remedy="See that the party serves there, then ask who runs the proxy."
        )
    if status == 407:
        what = f"{through} asks for other credentials than it was given"
        remedy = (
            "Put them into the variable that names the proxy: `http://name:password@host:port`; it is asked for no other kind."
        )
        raise ConfideError(ErrorCode.PROXY_REFUSED, what, remedy=remedy)
    if status >= 300:
        raise ConfideError(ErrorCode.PROXY_REFUSED, f"{through} lets nothing through to {endpoint}: it answers {status}")
    what = f"what answers as {through} does not speak HTTP/1.1, or says more than a proxy does"
    raise ConfideError(ErrorCode.PROXY_REFUSED, what, remedy="Correct the variable that names the proxy: `http://host:port`.")


def unreachable_proxy(proxy: Proxy, error: OSError) -> ConfideError:
    """Returns the failure of a proxy that cannot be connected to, or breaks off."""
    silent = "says nothing in time" if isinstance(error, TimeoutError) else f"cannot be reached: {error.strerror or 'it hung up'}"
    return ConfideError(ErrorCode.PARTY_UNREACHABLE, f"the proxy {proxy.address} {silent}", remedy=_SEE_THE_PROXY)


def _hear(connection: socket.socket, deadline: float) -> bytes:
    """Reads until an answer is whole or as long as one may be; raises OSError if neither comes in time."""
    found = b""
    while _END not in found and len(found) < MAX_ANSWER_BYTES:
        connection.settimeout(left(deadline))
        piece = connection.recv(MAX_ANSWER_BYTES - len(found))
        if not piece:
            raise ConnectionResetError
        found += piece
    return found


def _first(names: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, str]:
    return next(((name, environment[name]) for name in names if name in environment), ("", ""))


def _is_name(host: str) -> bool:
    """Tells whether a host can be looked up at all."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _is_excepted(endpoint: str, exceptions: str) -> bool:
    """Tells whether an endpoint is an exception: they are names with all below them, addresses, and networks as 10.0.0.0/8."""
    host = endpoint.rpartition(":")[0].strip("[]").lower()
    return any(_is_meant(host, entry.strip().lower()) for entry in exceptions.split(","))


def _is_meant(host: str, entry: str) -> bool:
    name = entry.removeprefix(".")
    if name and (host == name or host.endswith(f".{name}")):
        return True
    network, _, bits = entry.partition("/")
    try:
        address, first = ipaddress.ip_address(host), ipaddress.ip_address(_BRACKETED.sub(r"\1", network))
        length = min(int(bits), first.max_prefixlen)
        return address in ipaddress.ip_network((first, length), strict=False)
    except ValueError:  # a name, or no network
        return False
