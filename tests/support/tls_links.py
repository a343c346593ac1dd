"""Connections to a public port that speak a link's protocol, made with nothing but TLS: for what no party of ours says."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_connection

from governance.identity.names import tls_name
from parties.transport.opening import read_answer
from parties.transport.tls import LINK_PROTOCOL, TlsIdentity
from protocols.errors import ConfideError, ErrorCode
from tests.support.tls_world import SERVER


@contextmanager
def opened(
    identity: TlsIdentity,
    endpoint: str,
    *,
    party: str = SERVER,
    shows: bool = True,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    protocol: str = LINK_PROTOCOL,
) -> Iterator[ssl.SSLSocket]:
    """A connection that asks for a link, or for calls, in one version of TLS, with a certificate or without."""
    context = ssl.create_default_context(cadata=identity.ca_certificate.decode())
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols([protocol])
    if shows:
        with open(os.memfd_create("identity"), "wb", buffering=0) as file:
            file.write(identity.private_key + identity.certificate)
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    host, _, port = endpoint.rpartition(":")
    with (
        create_connection((host, int(port)), timeout=15) as plain,
        context.wrap_socket(plain, server_hostname=tls_name(party)) as wrapped,
    ):
        yield wrapped


def asked(peer: ssl.SSLSocket, said: bytes) -> ErrorCode | None:
    """Says something and returns the code that it is refused with; None if the link is joined."""
    peer.sendall(said)

    def hear(count: int) -> bytes:
        found = peer.recv(count)
        if not found:
            raise ConnectionResetError("connection closed")
        return found

    try:
        read_answer(hear, party=SERVER)
    except ConfideError as error:
        return error.code
    return None
