"""Checkpoints of a training: refreshed shares of parameters and optimiser state, and when they are made.

See docs/protocols/checkpoint.md. Every computing party makes them at the same steps and keeps its own share; a later job goes
on from one that all of them hold under the same head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.links import TensorSpec
from protocols.mpc.channels import Channel
from protocols.mpc.primitives.refresh import Refresher
from protocols.mpc.values import SharedValue
from protocols.ring import RingArray
from protocols.training import CheckpointRule

FORMAT = "confide.checkpoint/1"
GRID_STEPS = 32  # how often the lead looks at its clock, and at the end of every epoch


@dataclass(frozen=True, repr=False, eq=False)
class Checkpoint:
    """What one computing party keeps so that a training can go on.

    Attributes:
        run: steps done, counted over all attempts; public.
        head: 64 hexadecimal digits, the same at every computing party; public.
        state: int64 share of every parameter and of the optimiser's state, by name; refreshed, so uniform given the values.
    """

    run: int
    head: str
    state: Mapping[str, RingArray]


class Due(Enum):
    """Whether a checkpoint is made after a step."""

    NO = "no"
    YES = "yes"
    ASK = "ask"  # the lead looks at its clock and tells the others


@dataclass(frozen=True)
class CheckpointTimes:
    """When the checkpoints of a training are made; public, and the same at every party.

    Attributes:
        rule: of the job.
        per_epoch: steps of an epoch.
        total: steps of the training over all attempts.
    """

    rule: CheckpointRule
    per_epoch: int
    total: int

    def due(self, step: int) -> Due:
        """Returns whether one is made after so many steps, counted from 1 over all attempts; none after the last."""
        epoch, within = divmod(step, self.per_epoch)
        if step >= self.total:
            return Due.NO
        if within == 0 and self.rule.every_epochs and epoch % self.rule.every_epochs == 0:
            return Due.YES
        if self.rule.every_minutes and within % GRID_STEPS == 0:
            return Due.ASK
        return Due.NO

    def questions(self, before: int) -> int:
        """Returns how often the lead is asked in a training that has `before` steps behind it."""
        return self._asked(self.total - 1) - self._asked(before)

    def _asked(self, step: int) -> int:
        """How often from the first step to this one."""
        if not self.rule.every_minutes:
            return 0
        epochs, within = divmod(step, self.per_epoch)
        # The grid within an epoch, and the epochs' ends, of which some need no question.
        inside = epochs * ((self.per_epoch - 1) // GRID_STEPS) + within // GRID_STEPS
        settled = epochs // self.rule.every_epochs if self.rule.every_epochs else 0
        return inside + epochs - settled


class Checkpointer:
    """One computing party's side.

    Args:
        job: the training.
        times: when.
        handshake: digest of the attempt's nonces; public to the participants.
        refresher: over the streams of the label for checkpoints.
        channels: to the other computing parties, in order; empty entries none.
        leads: whether this party is the lead, which then tells the others.
        now: the lead's clock in seconds; other parties never read theirs.
        take: gets every checkpoint.
    """

    def __init__(
        self,
        *,
        job: Job,
        times: CheckpointTimes,
        handshake: str,
        refresher: Refresher,
        channels: Sequence[Channel],
        leads: bool,
        now: Callable[[], float],
        take: Callable[[Checkpoint], None],
    ) -> None:
        self._job = job
        self._times = times
        self._handshake = handshake
        self._refresher = refresher
        self._channels = tuple(channels)
        self._leads = leads
        self._now = now
        self._take = take
        self._head = "" if job.resumes is None else job.resumes.head
        self._made_at = now() if leads else 0.0

    def after_step(self, step: int, state: Mapping[str, SharedValue]) -> None:
        """Makes a checkpoint if one is due.

        Args:
            step: steps done, over all attempts.
            state: parameters and optimiser state.

        Raises:
            ConfideError: BAD_FRAME (the lead's fault) if it says neither yes nor no; what the links raise.
        """
        due = self._times.due(step)
        if due is Due.YES or (due is Due.ASK and self._lead_says_yes()):
            self._make(step, state)

    def _lead_says_yes(self) -> bool:
        if not self._leads:
            (answer,) = self._channels[0].receive([TensorSpec("uint8", (1,))])
            if answer[0] > 1:
                raise ConfideError(ErrorCode.BAD_FRAME, "the lead says neither yes nor no to a checkpoint", party=self._job.lead)
            return bool(answer[0])
        is_time = self._now() - self._made_at >= 60 * self._times.rule.every_minutes
        for channel in self._channels:
            channel.send([np.array([is_time], np.uint8)])
        return is_time

    def _make(self, step: int, state: Mapping[str, SharedValue]) -> None:
        shares = {name: self._refresher.refresh(value.share) for name, value in state.items()}
        self._head = next_head(self._job, handshake=self._handshake, run=step, previous=self._head)
        if self._leads:
            self._made_at = self._now()
        self._take(Checkpoint(step, self._head, shares))


def next_head(job: Job, *, handshake: str, run: int, previous: str) -> str:
    """Returns the head of a checkpoint: SHA-256 over job, attempt, handshake, run and the head before.

    It holds nothing that depends on values, or the dealer could test guesses of them against it. The handshake's nonces make the
    heads of two attempts differ, so equal heads mean shares of one sharing.

    Args:
        job: of the attempt.
        handshake: digest of the attempt's nonces, hexadecimal.
        run: steps done.
        previous: the head before, of this attempt or of the one that it resumes; empty at the first.
    """
    entry = {
        "format": FORMAT,
        "job": job.digest,
        "attempt": job.attempt,
        "handshake": handshake,
        "run": run,
        "previous": previous,
    }
    return sha256_hex(canonical_bytes(entry))
