"""Everything that a session can ask of its runner; performed after the snapshot is stored, in the order given.

Tokens and tickets are unique within one session and one life of the party process, worker numbers within the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from protocols.session.messages import Ending, SessionMessage


@dataclass(frozen=True)
class Send:
    """Sign the message and deliver it; answer with `Delivered` or `Undelivered` with the same token.

    Never wait for it: other actions and events go on meanwhile. With `attach_job` the job, its signature and its public
    artefacts go with it, because the receiver does not know the session.
    """

    to: str
    token: int
    message: SessionMessage
    attach_job: bool


@dataclass(frozen=True)
class CheckJob:
    """Check the job again and answer with `JobAccepted` or `JobRefused`: the process ended before it had answered."""


@dataclass(frozen=True)
class RequestSlot:
    """Reserve the local slot as soon as it is free, not before `backoff_s` times a random factor from 1 to 2; `SlotGranted`."""

    ticket: int
    backoff_s: float


@dataclass(frozen=True)
class TrySlot:
    """Reserve the local slot now if it is free: `SlotGranted` or `SlotBusy`."""

    ticket: int


@dataclass(frozen=True)
class ReleaseSlot:
    """Give back the slot of this ticket, or withdraw the request for it; a grant that crosses this is void."""

    ticket: int


@dataclass(frozen=True)
class StartWorker:
    """Start the worker of this number and accept links of this session for it."""

    number: int


@dataclass(frozen=True)
class OpenLinks:
    """Everybody has reserved: open the links of the worker of this number and let it shake hands."""

    number: int


@dataclass(frozen=True)
class StopWorker:
    """Stop the worker of this number, if it still runs, and close its links; nothing of it is reported any more.

    After `WorkerFinished` this comes with the ending only: until then frames that peers have not read must still arrive.
    """

    number: int


@dataclass(frozen=True)
class PublishOutputs:
    """Make the sealed outputs usable; idempotent. Answer with `OutputsSettled`."""


@dataclass(frozen=True)
class DiscardOutputs:
    """Destroy the sealed outputs and everything else the session left; idempotent. Answer with `OutputsSettled`."""


@dataclass(frozen=True)
class Announce:
    """Show this ending to everybody who watches the session here; a later one replaces it."""

    ending: Ending


Action: TypeAlias = (
    Send | CheckJob | RequestSlot | TrySlot | ReleaseSlot | StartWorker | OpenLinks | StopWorker | PublishOutputs
    | DiscardOutputs | Announce
)  # fmt: skip
