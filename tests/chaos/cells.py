"""What can go wrong, with whom and when: a cell is one fault, at one role, in one phase of a job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Fault(Enum):
    """What is done to one member."""

    KILL = "kill -9"
    RESTART = "kill -9, back at once"
    STOP = "stop"
    PAUSE = "stop for 4 s"
    PARTITION = "partition"
    CUT = "connections broken"
    DELAY = "delay"
    DISK = "full disk"
    CLOCK_AHEAD = "clock 40 min ahead"
    CLOCK_BEHIND = "clock 40 min behind"
    EXPIRED = "certificate expired"
    WRONG_ROLE = "certificate of the wrong role"
    REVOKED = "revoked"
    CONSENT = "grant revoked"
    VERSION = "wrong version"
    REPLAYED = "replayed frame"
    REORDERED = "reordered frame"
    DUPLICATED = "duplicated frame"
    ALTERED = "altered frame"
    OVERSIZED = "oversized frame"
    SECOND_SERVE = "second serve"


class Role(Enum):
    """To whom; one member each in the network of the harness."""

    LEAD = "lead"
    COMPUTING = "computing"
    DEALER = "dealer"
    OWNER = "data owner"
    RESEARCHER = "researcher"


class Phase(Enum):
    """In which phase of a job; `IDLE` is between two jobs, and the fault is there when the next one is submitted."""

    IDLE = "idle"
    PROPOSED = "proposed"
    AGREED = "agreed"
    PREPARING = "preparing"
    PREPARED = "prepared"
    RUNNING = "running"
    RELEASING = "releasing"


MEMBERS = {
    Role.LEAD: "hospital-a",
    Role.COMPUTING: "hospital-b",
    Role.DEALER: "hospital-c",
    Role.OWNER: "hospital-d",
    Role.RESEARCHER: "researcher",
}


@dataclass(frozen=True)
class Cell:
    """One place in the matrix."""

    fault: Fault
    role: Role
    phase: Phase

    @property
    def member(self) -> str:
        """Whom it hits."""
        return MEMBERS[self.role]

    @property
    def name(self) -> str:
        """For commands and records: `kill -9/lead/running`."""
        return f"{self.fault.value}/{self.role.value}/{self.phase.value}"

    @staticmethod
    def of_name(name: str) -> Cell:
        """Reads a name."""
        fault, role, phase = name.split("/")
        return Cell(Fault(fault), Role(role), Phase(phase))


def all_cells() -> Iterator[Cell]:
    """Yields every combination, possible or not."""
    for fault in Fault:
        for role in Role:
            for phase in Phase:
                yield Cell(fault, role, phase)
