"""Computing parties that commit to shares and hand them out, some of them dishonestly, and the querier who opens the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from governance.commitments import NONCE_BYTES, CommittedShare, commitment_of
from parties.client.opening import agreed_commitments, open_output
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.job import Job
from protocols.prg import AesCtrStream
from protocols.secrets import SecretBytes
from protocols.session import actions as act
from protocols.session import events as on
from protocols.session import messages as said
from protocols.session.endings import Ending
from protocols.session.machine import SessionMachine
from protocols.session.spec import SessionSpec
from protocols.session.states import State
from protocols.sharing import share_additive
from tests.support.world_parts import EPOCH, PLAN


@dataclass
class OpeningParty:
    """A computing party at the end of a session: its machine, its committed shares, and what it sees of the others."""

    name: str
    machine: SessionMachine
    kept: dict[str, CommittedShare]
    seen: list[jobs_pb2.FetchOutputReply] = field(default_factory=list)

    def commitments(self) -> dict[str, str]:
        return {name: commitment_of(share) for name, share in self.kept.items()}

    def hand_out(self, output: str) -> jobs_pb2.FetchOutputReply:
        """What an honest party answers."""
        share = self.kept[output]
        return jobs_pb2.FetchOutputReply(
            party=self.name, share=share.share, shape=share.shape, scale_bits=share.scale_bits, nonce=share.nonce
        )


class LastChooser(OpeningParty):
    """Waits until it has seen all other shares, and then answers with the share that makes the result what it wants."""

    wanted: NDArray[np.int64]

    def hand_out(self, output: str) -> jobs_pb2.FetchOutputReply:
        others = sum((np.frombuffer(reply.share, "<i8") for reply in self.seen), np.zeros(self.wanted.size, np.int64))
        reply = super().hand_out(output)
        reply.share = (self.wanted.reshape(-1) - others).astype("<i8").tobytes()
        return reply


class OtherNonce(OpeningParty):
    """Answers with the share that it committed to, and another nonce."""

    def hand_out(self, output: str) -> jobs_pb2.FetchOutputReply:
        reply = super().hand_out(output)
        reply.nonce = bytes(NONCE_BYTES)
        return reply


class Copier(OpeningParty):
    """Commits to what another party committed to and repeats its answer, which would double that share."""

    model: OpeningParty

    def commitments(self) -> dict[str, str]:
        return self.model.commitments()

    def hand_out(self, output: str) -> jobs_pb2.FetchOutputReply:
        return self.model.hand_out(output)


def spec_of(job: Job) -> SessionSpec:
    return SessionSpec(
        session=job.job_id,
        job_digest=job.digest,
        participants=job.participants,
        committers=job.computing_parties,
        outputs=tuple(output.name for output in job.outputs),
        querier=job.querier,
        attempt=1,
        agree_by=EPOCH + 60,
        start_by=EPOCH + 600,
    )


def parties_with_shares(
    job: Job, value: NDArray[np.int64], *, kinds: Mapping[str, type[OpeningParty]]
) -> dict[str, OpeningParty]:
    """Shares a value of every output among the computing parties, whose workers have just finished."""
    source = AesCtrStream(SecretBytes(bytes(32)))
    shares = share_additive(value, num_parties=len(job.computing_parties), source=source)
    made = {}
    for party, share in zip(job.computing_parties, shares, strict=True):
        kept = {
            output.name: CommittedShare(
                job.job_id,
                1,
                output.name,
                party,
                value.shape,
                0,
                share.astype("<i8").tobytes(),
                source.take(NONCE_BYTES).tobytes(),
            )
            for output in job.outputs
        }
        machine = SessionMachine(spec_of(job), party)
        made[party] = kinds.get(party, OpeningParty)(party, machine, kept)
    return made


def end_session(job: Job, parties: Mapping[str, OpeningParty], *, shown: Mapping[str, Ending] | None = None) -> dict[str, Ending]:
    """Lets all computing parties vote for what they committed to, and each accept an ending of the lead.

    Args:
        job: the job.
        parties: its computing parties.
        shown: what a dishonest lead proposes to whom, in place of the true ending.
    """
    votes = {party: said.Vote(said.Verdict.DONE, None, parties[party].commitments()) for party in job.computing_parties}
    true = completed(job, {party: vote.commitments for party, vote in votes.items()})
    endings = {}
    for name, party in parties.items():
        party.machine._memory.state = party.machine._memory.phase = State.RELEASING
        party.machine._memory.votes[name] = votes[name]
        party.machine._memory.digests = dict.fromkeys(job.participants, PLAN)
        proposed = true if shown is None else shown.get(name, true)
        sender = job.lead if name != job.lead else job.dealer
        message = said.SessionMessage(job.job_id, 1, sender, proposed)
        for action in party.machine.handle(on.Received(message), EPOCH):
            if isinstance(action, act.Announce):
                endings[name] = action.ending
    return endings


def completed(job: Job, commitments: Mapping[str, Mapping[str, str]]) -> Ending:
    """A completed ending with these commitments."""
    return Ending(
        job.job_id, 1, State.COMPLETED, "", State.RELEASING, "", "", "", job.lead, "2027-01-15T08:00:09Z", True, commitments
    )


def open_as_querier(
    job: Job, parties: Mapping[str, OpeningParty], endings: Mapping[str, Ending], *, last: Sequence[str] = ()
) -> NDArray[np.int64] | NDArray[np.float64]:
    """What the querier's client does; parties in `last` answer after the others, and are shown what these answered."""
    commitments = agreed_commitments(job, {party: endings.get(party) for party in job.computing_parties})
    output = job.outputs[0]
    replies = {}
    for party in sorted(job.computing_parties, key=lambda name: name in last):
        parties[party].seen = list(replies.values())
        replies[party] = parties[party].hand_out(output.name)
    return open_output(job, output, replies=[replies[party] for party in job.computing_parties], commitments=commitments).value


def with_commitment(ending: Ending, party: str, output: str, value: str) -> Ending:
    """The ending with one commitment replaced."""
    changed = {**ending.commitments, party: {**ending.commitments[party], output: value}}
    return replace(ending, commitments=changed)
