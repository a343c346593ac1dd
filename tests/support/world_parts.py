"""What a simulated world of sessions is made of: hosts with disks and workers, how unreliable they are, and a spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.session.machine import SessionMachine
from protocols.session.spec import SessionSpec

EPOCH = 1_800_000_000.0
CALL_TIMEOUT_S = 5.0  # deadline of a runner's call
LINK_SILENCE_S = 10.0  # after which a worker gives a silent peer up
PLAN = "a" * 64


@dataclass
class Worker:
    number: int
    opened: bool = False
    prepared: bool = False
    finished: bool = False
    stopped: bool = False
    finish_at: float = 0.0
    lost_since: dict[str, float] = field(default_factory=dict)


@dataclass
class Disk:
    """What survives a crash, per session."""

    snapshot: str
    outputs: str = ""  # "", "sealed", "published" or "discarded"
    published: int = 0


@dataclass
class Host:
    """One party's process."""

    name: str
    up: bool = True
    paused: bool = False
    life: int = 0
    machines: dict[str, SessionMachine] = field(default_factory=dict)
    disk: dict[str, Disk] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    slot: tuple[str, int] | None = None
    withdrawn: set[tuple[str, int]] = field(default_factory=set)
    inbox: list[Callable[[], None]] = field(default_factory=list)  # what arrives while paused


@dataclass
class Chances:
    """How unreliable the world is; probabilities per message or event."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.05
    crash: float = 0.0
    worker_fails: float = 0.0
    work_s: float = 8.0


def a_spec(
    session: str = "job-1",
    parties: tuple[str, ...] = ("alpha", "beta", "gamma"),
    *,
    agree_within_s: float = 60.0,
    start_within_s: float = 600.0,
    now: float = EPOCH,
) -> SessionSpec:
    """A spec for tests: the first party leads, the last two deal and own."""
    return SessionSpec(
        session=session,
        job_digest="d" * 64,
        participants=parties,
        querier="rita",
        attempt=1,
        agree_by=now + agree_within_s,
        start_by=now + start_within_s,
    )
