"""In whose name a party asks for assessments by itself: a researcher of the institution, whose folder the configuration names.

So a repeated assessment is asked for like any other job, and everybody's rules about queriers hold for it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from governance.evidence.standing import StandingAssessment
from governance.identity.names import MemberKind
from parties.server.party import Party
from parties.transport.peers import Peers
from parties.wire.generated.confide.v1 import governance_pb2
from parties.wire.methods import HAND_ASSESSMENT
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job

CALL_TIMEOUT_S = 30.0

if TYPE_CHECKING:
    from parties.client.client import Client
    from parties.client.opening import Opened


class Asks(Protocol):
    """What a standing assessment needs of a researcher's client."""

    def prepare(self, order: StandingAssessment, now: datetime) -> Job:
        """Returns the job of one repetition; asks for public descriptions only."""
        ...

    def submit(self, job: Job) -> None:
        """Gives a job to every participant; the same job again is the same job."""
        ...

    def counts(self, job: Job) -> Opened:
        """Returns what a completed job opened, (thresholds, 2), and the shares of it; again the same."""
        ...

    def cancel(self, job: Job) -> None:
        """Asks for the end of a job that is under way."""
        ...

    def hand_over(self, owner: str, opened: bytes) -> bool:
        """Hands an opened assessment, secret, to another owner's party; returns whether that one has stated it."""
        ...


class Assessor:
    """Asks over the network, in the name of the researcher whom the configuration names."""

    def __init__(self, party: Party, peers: Peers) -> None:
        """Takes the party and its channels: what is opened is handed over by the party, everything else asked by her."""
        self._party = party
        self._peers = peers

    def prepare(self, order: StandingAssessment, now: datetime) -> Job:
        """See `Asks`.

        Raises:
            ConfideError: INVALID_CONFIG (the operator's fault): no researcher is named, or another one than in the order; what a
                party says, or PARTY_UNREACHABLE.
        """
        from parties.client.prepare import prepare_job
        from parties.client.requests import API_VERSION, AssessRequest

        fields = {
            "api_version": API_VERSION,
            "type": "assess",
            "computing_parties": list(order.computing_parties),
            "dealer": order.dealer,
            "agreement": order.agreement,
            "purpose": order.purpose,
            "agree_within_minutes": order.agree_within_minutes,
            "expires_in_minutes": order.expires_in_minutes,
            "datasets": list(order.datasets),
            "members": list(order.members),
            "model": order.ref.label,
            "attack": order.attack,
            "shadows": order.shadows,
            "thresholds": list(order.thresholds) or None,
            "min_cell": order.min_cell,
        }
        request = AssessRequest.model_validate(fields)
        with self._client(now) as client:
            if client.researcher != order.querier:
                what = f"assessor is {client.researcher}; the standing assessment asks as {order.querier}"
                raise ConfideError(ErrorCode.INVALID_CONFIG, what, party=self._party.id)
            return prepare_job(client, request, folder=Path(), now=now).job

    def submit(self, job: Job) -> None:
        """See `Asks`.

        Raises:
            ConfideError: a party's refusal with all its reasons, or PARTY_UNREACHABLE.
        """
        from parties.client.calls import PreparedJob

        with self._client(self._party.now()) as client:
            client.calls.submit(PreparedJob(job))

    def counts(self, job: Job) -> Opened:
        """See `Asks`.

        Raises:
            ConfideError: NOT_READY: not everybody shows the ending yet; RELEASE_WITHHELD: a party's rule; a party that does not
                answer.
        """
        with self._client(self._party.now()) as client:
            (opened,) = client.calls.opened(job).values()
            return opened

    def hand_over(self, owner: str, opened: bytes) -> bool:
        """See `Asks`.

        Raises:
            ConfideError: that party's refusal, or PARTY_UNREACHABLE.
        """
        request = governance_pb2.HandAssessmentRequest(opened=opened)
        reply = HAND_ASSESSMENT.call(self._peers.channel(owner), request, party=owner, timeout_s=CALL_TIMEOUT_S)
        return reply.stated

    def cancel(self, job: Job) -> None:
        """See `Asks`.

        Raises:
            ConfideError: nobody answers, or it is too late.
        """
        with self._client(self._party.now()) as client:
            client.calls.cancel(job)

    def _client(self, now: datetime) -> Client:
        from parties.client.client import Client
        from parties.client.records import JobRecords
        from parties.config import load_researcher_config

        if self._party.config.assessor is None:
            what = "the configuration names no researcher in whose name assessments are repeated"
            raise ConfideError(ErrorCode.INVALID_CONFIG, what, remedy="Set `assessor` in party.yaml.", party=self._party.id)
        config = load_researcher_config(self._party.config.assessor)
        member = config.folder.load_member(kind=MemberKind.RESEARCHER, member=config.researcher, now=now)
        # The party's directory is the one that its own checks go by.
        return Client(replace(member, directory=self._party.directory), JobRecords(config.folder.root / "jobs"))
