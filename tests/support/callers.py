"""A member that calls parties method by method, so that a test can say what no honest program would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import grpc

from governance.documents import DocumentKind, sign_bytes
from governance.identity.names import MemberKind
from parties.config import PartyConfig, ResearcherConfig
from parties.transport.peers import Peers
from parties.transport.tls import TlsIdentity
from parties.wire import methods
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.canonical import canonical_bytes
from protocols.job import Job

_WITHIN_S = 30.0


class Caller:
    """One member's keys and channels."""

    def __init__(self, config: PartyConfig | ResearcherConfig) -> None:
        now = datetime.now(UTC)
        if isinstance(config, PartyConfig):
            member = config.folder.member.load_member(kind=MemberKind.PARTY, member=config.party, now=now)
        else:
            member = config.folder.load_member(kind=MemberKind.RESEARCHER, member=config.researcher, now=now)
        identity = TlsIdentity(
            private_key=member.tls_key.export_secret_pem(),
            certificate=member.certificate.encode(),
            ca_certificate=member.directory.ca_certificate.encode(),
        )
        self._member = member
        self._peers = Peers(identity, lambda: member.directory)

    def close(self) -> None:
        self._peers.close()

    def channel(self, party: str) -> grpc.Channel:
        return self._peers.channel(party)

    def call(self, method: methods.Method[Any, Any], request: Any, *, party: str) -> Any:
        """Calls a method once; raises the party's refusal."""
        return method.call(self.channel(party), request, party=party, timeout_s=_WITHIN_S)

    def submit(
        self, job: Job | dict[str, Any], *, party: str, weights: bytes = b"", query_share: bytes = b"", querier: str = ""
    ) -> None:
        """Gives one party a job under this member's signature, as if it came from `querier`; also one that is no valid job."""
        body = job.to_bytes() if isinstance(job, Job) else canonical_bytes(job)
        key, signer = self._member.signing_key, querier or self._member.identity.id
        signed = sign_bytes(body, kind=DocumentKind.JOB, signer=signer, key=key)
        request = jobs_pb2.SubmitJobRequest(job=to_wire(signed), initial_weights=weights, query_share=query_share)
        self.call(methods.SUBMIT_JOB, request, party=party)


@contextmanager
def calling(config: PartyConfig | ResearcherConfig) -> Iterator[Caller]:
    """A caller whose channels are closed at the end of the block."""
    caller = Caller(config)
    try:
        yield caller
    finally:
        caller.close()
