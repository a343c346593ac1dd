"""Noise of a training's steps that may come after its program has begun, and that no step is made without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.ring import RingArray


class StepNoise:
    """A party's share of the sum of all owners' noise: empty at first, filled once, read step by step.

    Args:
        steps: of the training.
        used: numbers of noise of a step.

    Attributes:
        shape: (steps, used).
        bring: called by a step that comes before the noise, which it fills in if it can; None for nothing.
    """

    def __init__(self, steps: int, used: int) -> None:
        self.shape = (steps, used)
        self.bring: Callable[[], None] | None = None
        self._share: RingArray | None = None

    @staticmethod
    def of(share: RingArray) -> StepNoise:
        """Returns what is filled with a share, (steps, used) int64."""
        steps, used = share.shape
        noise = StepNoise(steps, used)
        noise.fill(share)
        return noise

    @property
    def is_filled(self) -> bool:
        """Whether the noise is there."""
        return self._share is not None

    def fill(self, share: RingArray) -> None:
        """Takes the share of all steps, int64 of `shape`, secret.

        Raises:
            ConfideError: INTERNAL (ours) the second time, or for an array of another form.
        """
        if self._share is not None or share.shape != self.shape or share.dtype != np.int64:
            raise ConfideError(ErrorCode.INTERNAL, "the noise of a training is not that of its steps")
        self._share = share

    def of_step(self, step: int) -> RingArray:
        """Returns the share of a step's noise, (used,) int64.

        Raises:
            ConfideError: INTERNAL (ours) if it is not there and nothing brings it: nothing goes on without noise; what `bring`
                raises.
        """
        if self._share is None and self.bring is not None:
            self.bring()
        if self._share is None:
            raise ConfideError(ErrorCode.INTERNAL, "a step of a private training came before its noise")
        row: RingArray = self._share[step]
        return row
