"""What the session and the dry run need from a program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols.mpc.values import SharedValue


@dataclass(frozen=True, repr=False)
class Results:
    """What a program leaves, in shares: the model that is kept, the outputs for the querier; both by name."""

    model: Mapping[str, SharedValue] = field(default_factory=dict)
    outputs: Mapping[str, SharedValue] = field(default_factory=dict)


class Program(ABC):
    """One type of job. Its segments run in the order of its schedule, with the engine current."""

    @abstractmethod
    def run_segment(self, name: str) -> None:
        """Runs one segment; it must do the same operations in every run."""

    @abstractmethod
    def results(self) -> Results:
        """Returns what is left at the end."""

    @property
    def steps_done(self) -> int:
        """How many steps of training lie behind, over all attempts; 0 for other programs."""
        return 0

    def state(self) -> Mapping[str, SharedValue]:
        """Returns what a checkpoint keeps after a step: parameters and optimiser state; nothing for other programs."""
        return {}
