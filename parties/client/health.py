"""Whether a party serves, asked over its public port with its own certificate."""

from __future__ import annotations

from datetime import UTC, datetime

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from governance.identity.names import MemberKind
from parties.config import PartyConfig
from parties.transport.tls import TlsIdentity, open_channel


def is_healthy(config: PartyConfig, *, timeout_s: float) -> bool:
    """Asks the party of this configuration, as itself, at the address that it listens to.

    Raises:
        ConfideError: NOT_ENROLLED, FILE_MODE, INVALID_CONFIG or UNAUTHENTICATED (the operator's fault).
    """
    member = config.folder.member.load_member(kind=MemberKind.PARTY, member=config.party, now=datetime.now(UTC))
    identity = TlsIdentity(
        private_key=member.tls_key.export_secret_pem(),
        certificate=member.certificate.encode(),
        ca_certificate=member.directory.ca_certificate.encode(),
    )
    endpoint = config.listen.replace("0.0.0.0", "127.0.0.1")  # noqa: S104  (asks the wildcard address locally)
    with open_channel(identity, endpoint=endpoint, party=config.party) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return False
    serving: bool = reply.status == health_pb2.HealthCheckResponse.SERVING
    return serving
