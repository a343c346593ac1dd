"""Everything that can happen to a session at one participant; the runner feeds these to the machine.

Workers are numbered by `StartWorker`; their events repeat the number, so that a late word of a stopped worker has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from protocols.errors import ErrorCode
from protocols.session.messages import BODIES, Body, FailureReport, SessionMessage


@dataclass(frozen=True)
class JobAccepted:
    """This party checked the job, found nothing against it and derived a plan with this digest (64 hexadecimal digits).

    `manifest` shows that its consent stands in its audit log; the machine does not read it.
    """

    plan_digest: str
    manifest: str


@dataclass(frozen=True)
class JobRefused:
    """This party does not take part; the report's phase is PROPOSED."""

    report: FailureReport


@dataclass(frozen=True)
class Tick:
    """`next_deadline` has come."""


@dataclass(frozen=True)
class Received:
    """A participant's message arrived; signature, sender and TLS identity agree."""

    message: SessionMessage


@dataclass(frozen=True)
class Delivered:
    """The party stored the effect of the message with this token before it answered (or refused it for good)."""

    to: str
    token: int


@dataclass(frozen=True)
class Undelivered:
    """The message with this token did not arrive. `needs_job`: the party is up and does not know the session."""

    to: str
    token: int
    needs_job: bool


@dataclass(frozen=True)
class SlotGranted:
    """The local slot is now reserved for this session: answer to `RequestSlot` or `TrySlot` with this ticket."""

    ticket: int


@dataclass(frozen=True)
class SlotBusy:
    """Another session holds the local slot: answer to `TrySlot` with this ticket."""

    ticket: int


@dataclass(frozen=True)
class WorkerPrepared:
    """The worker has authenticated links to all peers, and their plan digests equal its own."""

    number: int


@dataclass(frozen=True)
class WorkerRunning:
    """The worker has begun to compute."""

    number: int


@dataclass(frozen=True)
class WorkerProgress:
    """The worker lives and has finished this many operations of the plan; due at least every five seconds."""

    number: int
    step: int


@dataclass(frozen=True)
class WorkerFinished:
    """The worker is through; its outputs are sealed on disk and not usable; the local release step has nothing against them.

    A computing party's `commitments` are to its shares, by output, 64 hexadecimal digits each; the others have none.
    """

    number: int
    commitments: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True)
class OutputWithheld:
    """The worker is through, and the local release step withholds the outputs."""

    number: int
    report: FailureReport


@dataclass(frozen=True)
class WorkerFailed:
    """The worker failed or is gone."""

    number: int
    report: FailureReport


@dataclass(frozen=True)
class CancelRequested:
    """The querier asked this party to cancel; its signature was checked."""


@dataclass(frozen=True)
class ConsentEnded:
    """Something that this party's consent rests on has ended: a grant, an agreement, a model. The machine sets the phase."""

    report: FailureReport


@dataclass(frozen=True)
class Recovered:
    """First event after `SessionMachine.restore`: workers and slots are gone.

    `cause` is PARTY_RESTARTED, or DISK_FULL if a step could not be stored and the session went back to the one before.
    """

    cause: ErrorCode = ErrorCode.PARTY_RESTARTED


@dataclass(frozen=True)
class OutputsSettled:
    """`PublishOutputs` or `DiscardOutputs` has been performed."""


Event: TypeAlias = (
    JobAccepted | JobRefused | Tick | Received | Delivered | Undelivered | SlotGranted | SlotBusy | WorkerPrepared
    | WorkerRunning | WorkerProgress | WorkerFinished | OutputWithheld | WorkerFailed | CancelRequested | ConsentEnded
    | Recovered | OutputsSettled
)  # fmt: skip
Kind: TypeAlias = type[Event] | type[Body]

# What the transition table distinguishes: local events, and received messages by their body.
KINDS: tuple[Kind, ...] = (
    JobAccepted, JobRefused, Tick, Delivered, Undelivered, SlotGranted, SlotBusy, WorkerPrepared, WorkerRunning, WorkerProgress,
    WorkerFinished, OutputWithheld, WorkerFailed, CancelRequested, ConsentEnded, Recovered, OutputsSettled, *BODIES,
)  # fmt: skip
