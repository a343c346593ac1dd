"""What a simulated world of sessions is made of: hosts with disks and workers, how unreliable they are, and a spec."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.session import actions as act
from protocols.session import events as on
from protocols.session import messages as said
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
    full: bool = False  # its disk takes nothing
    asleep: set[str] = field(default_factory=set)  # sessions whose last step could not be stored
    setbacks: dict[str, int] = field(default_factory=dict)  # how often that happened, per session
    withdrawn: set[tuple[str, int]] = field(default_factory=set)
    inbox: list[Callable[[], None]] = field(default_factory=list)  # what arrives while paused

    def life_of(self, session: str) -> tuple[int, int]:
        """Changes when the process restarts and when the session goes back to its stored step."""
        return self.life, self.setbacks.get(session, 0)


@dataclass
class Chances:
    """How unreliable the world is; probabilities per message or event."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.05
    crash: float = 0.0
    worker_fails: float = 0.0
    work_s: float = 8.0
    store_fails: float = 0.0


def check_after_end(machine: SessionMachine, event: on.Event, actions: tuple[act.Action, ...]) -> None:
    """Checks that a session that has ended says and does nothing but what its ending demands."""
    ending = machine.ending
    assert ending is not None
    for action in actions:
        match action:
            case act.Send(message=message):
                alone = isinstance(message.body, said.AskEnding) and not (ending.by_majority and isinstance(event, on.Tick))
                assert message.body == ending or alone
            case act.Announce():
                assert isinstance(event, on.Recovered | on.Received)
            case act.PublishOutputs() | act.DiscardOutputs():
                assert isinstance(event, on.Recovered)
            case _:
                raise AssertionError(f"{action} after the end")


def committers_of(parties: tuple[str, ...]) -> tuple[str, ...]:
    """Two compute, or only the first of two; the others deal or own."""
    return parties[: min(2, len(parties) - 1)]


def commitments_of(spec: SessionSpec, party: str, worker: int) -> dict[str, str]:
    """The commitments that a party's worker makes; a later worker makes others."""
    return {
        name: hashlib.sha256(f"{spec.session} {party} {worker} {name}".encode()).hexdigest() for name in spec.committed_by(party)
    }


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
        committers=committers_of(parties),
        outputs=("labels",),
        querier="rita",
        attempt=1,
        agree_by=now + agree_within_s,
        start_by=now + start_within_s,
    )
