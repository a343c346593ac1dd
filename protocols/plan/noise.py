"""The noise of a private training as the plan names it: who draws, how much is shared and opened, and every byte that is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protocols.plan.operations import read_count, read_text

MAX_OWNERS = 64
DIGEST_BYTES = 32
COIN_BYTES = 32
NUM_DRAWS = 2  # of every owner: one is opened, the other one used
FIGURES = 4  # of an owner, 8 bytes each, with one byte for what was found


@dataclass(frozen=True)
class PlannedNoise:
    """The noise of a private training.

    Each owner draws `steps` times `used` + `spares` integers from a discrete Gaussian of standard deviation `deviation`, before
    the first step. Which of the coordinates are the spares, nobody knows before the noise is shared.

    Attributes:
        owners: who draws, in order.
        steps: of the training.
        used: coordinates of a step that are added to a sum.
        spares: coordinates of a step that are opened, each owner's for itself, to test the noise.
        scale_bits: fractional bits of the grid: 32 where it is added to products of shares (16 + 16), 20 for sums of owners.
        sensitivity: of the sum of a step to one unit, Euclidean, in units of the grid, rounded up.
        deviation: of one owner's draw, in units of the grid, rounded up: noise multiplier times sensitivity, over the root of
            the number of owners that do not collude.
    """

    owners: tuple[str, ...]
    steps: int
    used: int
    spares: int
    scale_bits: int
    sensitivity: int
    deviation: int

    @property
    def width(self) -> int:
        """Coordinates that an owner draws for a step."""
        return self.used + self.spares

    @property
    def num_elements(self) -> int:
        """Integers that an owner shares."""
        return self.steps * self.width

    @property
    def spare_bytes(self) -> int:
        """Bytes of one computing party's shares of the spares of all owners."""
        return 8 * len(self.owners) * self.steps * self.spares

    @property
    def verdict_bytes(self) -> int:
        """Bytes in which a computing party says what it found."""
        return DIGEST_BYTES + (1 + 8 * FIGURES) * len(self.owners)

    def rounds(self, computing_parties: Sequence[str]) -> int:
        """Returns how many messages wait for one another: one more if an owner that does not compute is told the coin."""
        return 4 + any(owner not in computing_parties for owner in self.owners)

    def sent_bytes(self, sender: str, receiver: str, computing_parties: Sequence[str]) -> int:
        """Returns the payload bytes from one party to another (docs/protocols/noise.md).

        Args:
            sender: a participant.
            receiver: another one.
            computing_parties: of the job, in order.
        """
        opened = NUM_DRAWS * DIGEST_BYTES + 2 * DIGEST_BYTES if sender in self.owners else 0  # commitments; a seed and its salt
        if sender in computing_parties and receiver in computing_parties:
            coin = 2 * DIGEST_BYTES + COIN_BYTES  # a commitment, what was heard, a part
            return opened + coin + self.spare_bytes + self.verdict_bytes
        if sender in computing_parties and receiver in self.owners:
            return COIN_BYTES + self.verdict_bytes
        if sender in self.owners and receiver in computing_parties:
            return opened + (8 * NUM_DRAWS * self.num_elements if receiver == computing_parties[-1] else 0)
        return 0

    def to_document(self) -> dict[str, Any]:
        """Returns the noise as a part of the plan."""
        return {**vars(self), "owners": list(self.owners)}


def read_planned_noise(document: Any) -> PlannedNoise | None:
    """Reads what `to_document` gave, or None for none; unknown fields show in the plan's bytes.

    Raises:
        KeyError, TypeError, ValueError: this is no planned noise.
    """
    if document is None:
        return None
    owners = document["owners"]
    if not isinstance(owners, list) or not 1 <= len(owners) <= MAX_OWNERS:
        raise ValueError(f"1 to {MAX_OWNERS} owners draw noise")
    names = ("steps", "used", "spares", "scale_bits", "sensitivity", "deviation")
    return PlannedNoise(tuple(read_text(owner) for owner in owners), *(read_count(document[name]) for name in names))
