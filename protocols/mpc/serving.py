"""Serves a shared model: a session that stays, answers queries as they come, and ends in order (docs/protocols/serving.md).

The weights are opened under their mask once an epoch; an epoch is the time in which one set of keys is in force. A query then
opens nothing but its own rows, masked. Between blocks the parties take turns (`serving_turns`): the lead says what is next, and
nothing is computed on a query that not every computing party holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Serving
from protocols.links import Link, TensorSpec
from protocols.mpc.channels import Channel
from protocols.mpc.inputs import LocalInputs, check_inputs
from protocols.mpc.keys import SessionKeys
from protocols.mpc.programs.names import OPEN_MODEL
from protocols.mpc.renewal import renew_keys
from protocols.mpc.serving_desk import Desk
from protocols.mpc.serving_epoch import Epoch
from protocols.mpc.serving_lead import FollowerTurns, LeadTurns, Turns
from protocols.mpc.serving_supply import ServingDealer, Supply, Totals, planned_runs
from protocols.mpc.serving_turns import EndReason, Query, Turn, batch_digest
from protocols.mpc.session import Progress
from protocols.mpc.timing import SegmentTiming, Stopwatch
from protocols.plan.plan import Plan
from protocols.ring import RingArray

_DIGEST_BYTES = 32


@dataclass(frozen=True)
class ServingOutcome:
    """How a serving session ended; public, and the same at all parties but for the last four.

    Attributes:
        reason: why.
        totals: queries and rows that were answered; blocks that were computed, at the dealer those that were dealt.
        epochs: how many sets of keys were in force, one after the other.
        rounds: rounds of openings that took place; 0 at the dealer.
        sent_bytes: payload bytes sent, by receiver.
        timing: what every segment took at this party.
    """

    reason: EndReason
    totals: Totals
    epochs: int
    rounds: int
    sent_bytes: Mapping[str, int]
    timing: tuple[SegmentTiming, ...]


def run_serving(
    *,
    job: Job,
    plan: Plan,
    party: str,
    keys: SessionKeys,
    links: Mapping[str, Link],
    model_share: Mapping[str, RingArray] | None,
    desk: Desk | None,
    fresh: Callable[[int], bytes],
    now: Callable[[], float],
    progress: Callable[[Progress], None],
    stopwatch: Stopwatch,
) -> ServingOutcome:
    """Runs one party's part of a serving session, after the parties have compared the plan's digest and exchanged secrets.

    Args:
        job: the countersigned job.
        plan: derived from it by this party.
        party: this party's id.
        keys: its first key schedule; erased when the next one is in force, and at the end.
        links: to every other participant, by id.
        model_share: at computing parties, int64 share of every parameter, by name; secret.
        desk: at computing parties, where queries wait; None at the dealer.
        fresh: gives so many random bytes of this party's own.
        now: a clock in seconds that never goes back; only the lead's is read.
        progress: told after every block.
        stopwatch: times blocks and dealing.

    Raises:
        ConfideError: INVALID_DATA (this party's fault) for shares that are not of the job's model; what the links raise;
            INTERNAL (ours) if program and plan differ.

    Learns: the dealer how many blocks were computed, and when; a computing party also the ids of queries, their numbers of rows,
    and uniform numbers.
    """
    if plan.job_digest != job.digest:
        raise ConfideError(ErrorCode.PLAN_DIFFERS, "the plan is of another job")
    if job.serving is None:
        raise ConfideError(ErrorCode.INVALID_JOB, "a job that serves says how long and how much")
    check_inputs(job, party, LocalInputs(model_share=model_share))
    channels = {peer: Channel(links[peer]) for peer in plan.participants if peer != party}
    session = _Serving(job, job.serving, plan, party, keys, channels, fresh, progress, stopwatch)
    try:
        if party == plan.dealer:
            return session.deal()
        if desk is None or model_share is None:
            raise ConfideError(ErrorCode.INTERNAL, "a computing party serves at a desk")
        return session.compute(desk, model_share, now)
    finally:
        session.keys.erase()


@dataclass
class _Serving:
    job: Job
    serving: Serving
    plan: Plan
    party: str
    keys: SessionKeys
    channels: Mapping[str, Channel]
    fresh: Callable[[int], bytes]
    progress: Callable[[Progress], None]
    stopwatch: Stopwatch
    epochs: int = 1
    rounds: int = 0
    batches: int = 0
    totals: Totals = field(default_factory=Totals)

    def deal(self) -> ServingOutcome:
        channel = self.channels[self.plan.computing_parties[-1]]
        dealer = ServingDealer(plan=self.plan, channel=channel, dealt=self._report, stopwatch=self.stopwatch)
        while (ended := dealer.deal_epoch(self.keys)) is None:
            self._renew()
        reason, self.totals = ended
        return self._outcome(reason)

    def compute(self, desk: Desk, model_share: Mapping[str, RingArray], now: Callable[[], float]) -> ServingOutcome:
        peers = [peer for peer in self.plan.computing_parties if peer != self.party]
        is_last = self.party == self.plan.computing_parties[-1]
        supply = Supply(self.channels[self.plan.dealer], self.plan) if is_last else None
        turns: Turns
        if self.party == self.job.lead:
            channels = {peer: self.channels[peer] for peer in peers}
            turns = LeadTurns(serving=self.serving, desk=desk, channels=channels, now=now)
        else:
            turns = FollowerTurns(serving=self.serving, lead=self.job.lead, desk=desk, channel=self.channels[self.job.lead])
        while True:
            reason = self._serve_epoch(desk, model_share, turns, supply)
            if reason is not None:
                desk.close(reason)
                if supply is not None:
                    supply.end(reason, self.totals)
                return self._outcome(reason)
            if supply is not None:
                supply.end_epoch()
            self._renew()

    def _serve_epoch(
        self, desk: Desk, model_share: Mapping[str, RingArray], turns: Turns, supply: Supply | None
    ) -> EndReason | None:
        """Serves until the lead announces fresh keys (then None) or the end."""
        epoch = Epoch(
            job=self.job, plan=self.plan, keys=self.keys, channels=self.channels, model_share=model_share,
            supply=supply, fresh=self.fresh, stopwatch=self.stopwatch,
        )  # fmt: skip
        with epoch.in_force():
            epoch.open_model()
            turns.begin_epoch()
            if self.epochs == 1:
                desk.open()
            while True:
                announced, batch = turns.take(self.totals)
                if announced.turn is not Turn.OFFER:
                    self.rounds += epoch.rounds
                    return announced.reason
                if batch:
                    self._answer(desk, epoch, batch)
                elif supply is not None:
                    supply.grant()

    def _answer(self, desk: Desk, epoch: Epoch, batch: Sequence[Query]) -> None:
        shares = [desk.take(query.query_id) for query in batch]
        answered, blocks = epoch.answer(np.concatenate(shares))
        ends = np.cumsum([query.rows for query in batch])
        pieces = np.split(answered, ends[:-1])
        mine = [desk.commit(query.query_id, piece) for query, piece in zip(batch, pieces, strict=True)]
        for query, commitments in zip(batch, self._exchange(batch, mine), strict=True):
            desk.answer(query.query_id, commitments)
        epoch.refill()
        self.totals = self.totals.plus(queries=len(batch), rows=int(ends[-1]), blocks=blocks)
        self._report(self.totals.blocks, self.rounds + epoch.rounds)

    def _exchange(self, batch: Sequence[Query], mine: Sequence[bytes]) -> list[dict[str, bytes]]:
        """Returns for every query the commitments of all computing parties; no answer has left anybody before.

        Raises:
            ConfideError: BAD_FRAME (the fault of the party named) if another one answered another batch.
        """
        self.batches += 1
        digest = batch_digest(self.keys.handshake, self.batches, batch)
        said = np.frombuffer(digest + b"".join(mine), np.uint8)
        peers = [peer for peer in self.plan.computing_parties if peer != self.party]
        for peer in peers:
            self.channels[peer].send([said])
        found = {self.party: list(mine)}
        for peer in peers:
            heard = self.channels[peer].receive([TensorSpec("uint8", said.shape)])[0].tobytes()
            if heard[:_DIGEST_BYTES] != digest:
                raise ConfideError(ErrorCode.BAD_FRAME, "another party answered another batch of queries", party=peer)
            found[peer] = [heard[at : at + _DIGEST_BYTES] for at in range(_DIGEST_BYTES, len(heard), _DIGEST_BYTES)]
        return [{name: found[name][index] for name in self.plan.computing_parties} for index in range(len(batch))]

    def _renew(self) -> None:
        """Draws fresh keys; as often as the agreed plan opens the weights, and no more often whatever somebody announces.

        Raises:
            ConfideError: BAD_FRAME (the fault of the party named, who announced it here).
        """
        if self.epochs >= planned_runs(self.plan, OPEN_MODEL):
            announcer = self.plan.computing_parties[-1] if self.party == self.plan.dealer else self.job.lead
            raise ConfideError(ErrorCode.BAD_FRAME, "fresh keys more often than the plan says", party=announcer)
        self.keys = renew_keys(job=self.job, plan=self.plan, old=self.keys, channels=self.channels, fresh=self.fresh)
        self.epochs += 1

    def _report(self, blocks: int, rounds: int = 0) -> None:
        phase = "dealing" if self.party == self.plan.dealer else "serving"
        self.progress(Progress(phase, blocks, self.plan.num_runs, rounds, sum(self._sent().values())))

    def _sent(self) -> dict[str, int]:
        return {peer: channel.sent_bytes for peer, channel in self.channels.items()}

    def _outcome(self, reason: EndReason) -> ServingOutcome:
        return ServingOutcome(reason, self.totals, self.epochs, self.rounds, self._sent(), self.stopwatch.timings())
