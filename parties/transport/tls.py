"""Mutual TLS 1.3 for every channel, link and port; the only module that makes credentials.

gRPC has no setting for the TLS version. All certificates of a consortium hold ECDSA keys, and the only cipher suite left for
TLS 1.2 needs an RSA certificate, so no 1.2 handshake can succeed (`parties/__init__.py`, docs/adr/0004-tls-1-3-only.md; a test
tries it).
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field

import grpc

import parties
from governance.identity.names import tls_name
from parties.transport.proxies import proxy_for
from protocols.errors import ConfideError, ErrorCode

MAX_MESSAGE_BYTES = 4 << 20
MAX_STATUS_BYTES = 64 << 10
MAX_CONNECTIONS = 1_024  # of everybody, at one port
HANDSHAKE_S = 5.0
# What a link says in its first words, in the clear, that it speaks: by it the public port tells links from calls.
LINK_PROTOCOL = "confide-link/1"
_COMMON = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.optimization_target", "latency"),
]
SERVER_OPTIONS = [
    *_COMMON,
    ("grpc.so_reuseport", 0),  # a second process on the same port must fail, not share it
    ("grpc.max_concurrent_streams", 32),  # of one connection; what a member may hold open in all is counted in the services
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_S * 1000)),
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    # New calls then need a new connection, and so a certificate that is still good; streams that are open go on.
    ("grpc.max_connection_age_ms", 60 * 60_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]
_CHANNEL_OPTIONS = [
    *_COMMON,
    # A failure with all its problems travels in the trailers; the usual 8 KiB would turn it into another failure.
    ("grpc.max_metadata_size", MAX_STATUS_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_STATUS_BYTES),
    ("grpc.enable_retries", 0),  # what may be repeated is decided where the call is made
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # how long an attempt has at least: three ways there and back, and a busy machine
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


@dataclass(frozen=True)
class TlsIdentity:
    """What one member needs for TLS: its own key and certificate, and the consortium's CA certificate; PEM."""

    private_key: bytes = field(repr=False)
    certificate: bytes
    ca_certificate: bytes


def server_credentials(identity: TlsIdentity) -> grpc.ServerCredentials:
    """Credentials of the public port: callers must hold a certificate of the consortium.

    Raises:
        ConfideError: SETUP_INCOMPLETE (the operator's fault): this process could still be talked into TLS 1.2.
    """
    _require_tls_1_3()
    pair = [(identity.private_key, identity.certificate)]
    return grpc.ssl_server_credentials(pair, root_certificates=identity.ca_certificate, require_client_auth=True)


def open_channel(identity: TlsIdentity, *, endpoint: str, party: str) -> grpc.Channel:
    """Opens a channel to the party's public port; whoever answers must hold that party's certificate.

    Raises:
        ConfideError: SETUP_INCOMPLETE (the operator's fault): this process could still be talked into TLS 1.2; INVALID_CONFIG
            (the operator's): the proxy that the environment names has no address.
    """
    _require_tls_1_3()
    credentials = grpc.ssl_channel_credentials(identity.ca_certificate, identity.private_key, identity.certificate)
    options = [
        *_CHANNEL_OPTIONS,
        ("grpc.ssl_target_name_override", tls_name(party)),
        ("grpc.enable_http_proxy", int(proxy_for(endpoint) is not None)),  # where links go directly, calls do
    ]
    return grpc.secure_channel(endpoint, credentials, options)


def accepting_context(identity: TlsIdentity) -> ssl.SSLContext:
    """Returns what the accepting end of a link proves itself with; who dials must hold a certificate of the consortium."""
    context = _link_context(identity, ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # a link is opened once: there is nothing to resume
    return context


def dialling_context(identity: TlsIdentity) -> ssl.SSLContext:
    """Returns what the dialling end of a link proves itself with; who answers must hold the certificate of the name asked for."""
    return _link_context(identity, ssl.PROTOCOL_TLS_CLIENT)


def _link_context(identity: TlsIdentity, side: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=identity.ca_certificate.decode())
    context.set_alpn_protocols([LINK_PROTOCOL])
    # A key is taken from a path alone: a file in memory, never the disk.
    with open(os.memfd_create("identity", os.MFD_CLOEXEC), "wb", buffering=0) as file:
        file.write(identity.private_key + b"\n" + identity.certificate)
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def _require_tls_1_3() -> None:
    if not parties.IS_TLS_1_2_FORBIDDEN:
        what = "gRPC was loaded before Confide, so TLS 1.2 cannot be switched off in this process"
        raise ConfideError(ErrorCode.SETUP_INCOMPLETE, what, remedy="import the package `parties` before `grpc`")
