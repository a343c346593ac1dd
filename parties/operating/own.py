"""Calls that an operator's command makes as its own party: to itself, and to the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from governance.identity.names import MemberKind
from parties.config import PartyConfig
from parties.storage.state import Member
from parties.transport.tls import TlsIdentity, open_channel
from parties.wire import methods
from protocols import PROTOCOL_VERSION
from protocols.errors import ConfideError


@dataclass(frozen=True)
class PeerAnswer:
    """Whether a party answers, seen from here.

    Attributes:
        party: its id.
        endpoint: where it was asked.
        failure: why it could not be asked; None if it answered.
        round_trip_s: of one small call on an open connection.
        software_version: the version that it runs.
        protocol_version: likewise.
        directory_version: of the directory that it holds.
    """

    party: str
    endpoint: str
    failure: ConfideError | None
    round_trip_s: float = 0.0
    software_version: str = ""
    protocol_version: int = 0
    directory_version: int = 0


def load_own_member(config: PartyConfig, now: datetime) -> Member:
    """Reads the party's keys, certificate and directory, and checks that they fit together.

    Raises:
        ConfideError: NOT_ENROLLED, FILE_MODE, UNAUTHENTICATED (the operator's fault).
    """
    return config.folder.member.load_member(kind=MemberKind.PARTY, member=config.party, now=now)


def tls_identity(member: Member) -> TlsIdentity:
    """Returns what a member needs for its connections."""
    return TlsIdentity(
        private_key=member.tls_key.export_secret_pem(),
        certificate=member.certificate.encode(),
        ca_certificate=member.directory.ca_certificate.encode(),
    )


def local_endpoint(config: PartyConfig) -> str:
    """Returns where the party of this machine is reached from this machine."""
    host, _, port = config.listen.rpartition(":")
    wildcards = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  (asks the wildcard address locally)
    return f"{wildcards.get(host, host)}:{port}"


@contextmanager
def own_channel(config: PartyConfig, member: Member) -> Iterator[grpc.Channel]:
    """Opens a channel to the party of this machine, as itself."""
    with open_channel(tls_identity(member), endpoint=local_endpoint(config), party=config.party) as channel:
        yield channel


def is_serving(channel: grpc.Channel, *, timeout_s: float) -> bool:
    """Whether the party at the other end says that it serves."""
    try:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
    except grpc.RpcError:
        return False
    serving: bool = reply.status == health_pb2.HealthCheckResponse.SERVING
    return serving


def ask_peers(member: Member, *, timeout_s: float) -> tuple[PeerAnswer, ...]:
    """Says hello to every other party of the directory at once."""
    others = [entry for entry in member.directory.parties if entry.id != member.identity.id]
    if not others:
        return ()
    with ThreadPoolExecutor(len(others), thread_name_prefix="hello") as pool:
        return tuple(pool.map(lambda entry: _ask(member, entry.id, entry.endpoint, timeout_s), others))


def _ask(member: Member, party: str, endpoint: str, timeout_s: float) -> PeerAnswer:
    request = methods.HELLO.request(protocol_version=int(PROTOCOL_VERSION))
    try:
        with open_channel(tls_identity(member), endpoint=endpoint, party=party) as channel:
            methods.HELLO.call(channel, request, party=party, timeout_s=timeout_s)
            began = time.perf_counter()
            reply = methods.HELLO.call(channel, request, party=party, timeout_s=timeout_s)
            took = time.perf_counter() - began
    except ConfideError as error:
        return PeerAnswer(party, endpoint, error)
    return PeerAnswer(
        party=party,
        endpoint=endpoint,
        failure=None,
        round_trip_s=took,
        software_version="".join(c for c in reply.software_version[:40] if c.isprintable()),
        protocol_version=reply.protocol_version,
        directory_version=reply.directory_version,
    )
