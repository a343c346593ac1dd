"""A consortium whose certificates are valid now, and one public port behind the real access table."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from governance.identity.ca import generate_serial, issue_certificate, make_ca_certificate, make_csr
from governance.identity.directory import Directory, PartyEntry, ResearcherEntry
from governance.identity.keys import generate_ecdsa_key, generate_signing_key
from governance.identity.names import MemberKind, PeerIdentity, Role
from parties.server.access import ACCESS, AccessInterceptor, caller
from parties.server.links import LinkDoor
from parties.transport.dialling import Route
from parties.transport.port import PublicPort, calls_address
from parties.transport.streams import LinkTable
from parties.transport.tls import MAX_CONNECTIONS, SERVER_OPTIONS, TlsIdentity, accepting_context, server_credentials
from protocols.errors import ConfideError, ErrorCode, Problem
from tests.support.members import Founder, Keys, new_keys

CONSORTIUM = "cardio"
SERVER, PEER, RESEARCHER = "hospital-a", "hospital-b", "alice"
UNLISTED_METHOD = "/confide.v1.PartyService/Unlisted"  # registered at the server, but not in its access table
STREAMING = ("/grpc.health.v1.Health/Watch", "/confide.v1.JobsService/WatchJob")
PROBLEMS = tuple(Problem(f"row {number}", "w" * 400, "r" * 60) for number in range(45))


def a_current_founder() -> Founder:
    signing, ca = generate_signing_key(), generate_ecdsa_key()
    now = datetime.now(UTC)
    return Founder(CONSORTIUM, signing, ca, make_ca_certificate(ca, consortium=CONSORTIUM, serial=generate_serial(), now=now))


def identity_of(founder: Founder, keys: Keys, certificate: str) -> TlsIdentity:
    return TlsIdentity(keys.tls.export_secret_pem(), certificate.encode(), founder.ca_certificate.encode())


@dataclass(frozen=True)
class TlsWorld:
    """The members, their keys, and the directory that the server believes."""

    founder: Founder
    directory: Directory
    server: TlsIdentity
    peer: TlsIdentity
    researcher: TlsIdentity

    def route(self, endpoint: str) -> Route:
        """How the peer reaches the server at an endpoint."""
        return Route(self.peer, endpoint, SERVER, self.directory.party(SERVER).certificate)

    def outsider(self, member: str, *, kind: MemberKind = MemberKind.PARTY, age: timedelta = timedelta()) -> TlsIdentity:
        """An identity that this consortium's authority issued, for a key that is in no directory."""
        keys = new_keys()
        certificate = self.founder.certificate(keys, member, kind=kind, now=datetime.now(UTC) - age)
        return identity_of(self.founder, keys, certificate)

    def of_another_authority(self, member: str) -> TlsIdentity:
        """An identity of the same names, issued by somebody else; it trusts this consortium's authority."""
        other, keys = a_current_founder(), new_keys()
        certificate = other.certificate(keys, member, now=datetime.now(UTC))
        return identity_of(self.founder, keys, certificate)

    def signed_by_itself(self, member: str) -> TlsIdentity:
        keys = new_keys()
        certificate = issue_certificate(
            keys.tls,
            ca_certificate=make_ca_certificate(keys.tls, consortium=CONSORTIUM, serial=generate_serial(), now=datetime.now(UTC)),
            csr=make_csr(keys.tls, member=member),
            identity=PeerIdentity(MemberKind.PARTY, CONSORTIUM, member),
            serial=generate_serial(),
            now=datetime.now(UTC),
        )
        return identity_of(self.founder, keys, certificate)


def a_tls_world() -> TlsWorld:
    founder, now = a_current_founder(), datetime.now(UTC)
    keys = {member: new_keys() for member in (SERVER, PEER, RESEARCHER)}
    kinds = {SERVER: MemberKind.PARTY, PEER: MemberKind.PARTY, RESEARCHER: MemberKind.RESEARCHER}
    shown = {member: founder.certificate(keys[member], member, kind=kinds[member], now=now) for member in keys}
    directory = founder.directory(
        parties=tuple(
            PartyEntry(member, "127.0.0.1:1", tuple(Role), shown[member], keys[member].signing.public)
            for member in (SERVER, PEER)
        ),
        researchers=(ResearcherEntry(RESEARCHER, SERVER, shown[RESEARCHER], keys[RESEARCHER].signing.public),),
    )
    identities = {member: identity_of(founder, keys[member], shown[member]) for member in keys}
    return TlsWorld(founder, directory, identities[SERVER], identities[PEER], identities[RESEARCHER])


@contextmanager
def serving(world: TlsWorld, links: LinkTable, *, max_connections: int = MAX_CONNECTIONS) -> Iterator[str]:
    """Serves every method of the table, one that is not in it, and the real links; yields the endpoint."""
    interceptor = AccessInterceptor(lambda: world.directory, settle=lambda peer, member: port.settle_call(peer, member))
    server = grpc.server(ThreadPoolExecutor(16), interceptors=[interceptor], options=SERVER_OPTIONS)
    door = LinkDoor(lambda: world.directory, _EverySession(), links)
    services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for path in (*ACCESS, UNLISTED_METHOD):
        _, service, name = path.split("/")
        handler = (
            grpc.unary_stream_rpc_method_handler(_stream) if path in STREAMING else grpc.unary_unary_rpc_method_handler(_answer)
        )
        services.setdefault(service, {})[name] = handler
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(*entry) for entry in services.items()])
    calls, context = calls_address(), accepting_context(world.server)
    server.add_secure_port(calls, server_credentials(world.server))
    port = PublicPort("127.0.0.1:0", calls=calls, context=context, serve=door.serve, max_connections=max_connections)
    server.start()
    port.start()
    try:
        yield f"127.0.0.1:{port.number}"
    finally:
        server.stop(0).wait()
        port.stop()


class _EverySession:
    """Sessions of a party that has heard of every job, so that the table of links alone decides."""

    def knows(self, _job_id: str) -> bool:
        return True


def _answer(request: bytes, _: grpc.ServicerContext) -> bytes:
    """Says who called; `refuse` and `break` raise a refusal with many problems, and a defect."""
    if request == b"refuse":
        raise ConfideError(ErrorCode.INVALID_DATA, "rows are wrong", problems=PROBLEMS, remedy="mend them")
    if request == b"break":
        raise ValueError("row 7 holds 31.337")
    return f"{caller().kind.value} {caller().id}".encode()


def _stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    yield _answer(b"", context)
    yield _answer(request, context)
