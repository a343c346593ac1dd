"""A private training whose noise is zero and takes no message: what the noise costs is the difference. A test-only variant."""

from __future__ import annotations

import numpy as np

from protocols.mpc.noise_sharing import NoiseSharing
from protocols.mpc.noise_test import NoiseTest
from protocols.ring import RingArray


class WithoutNoise(NoiseSharing):
    """Draws, shares and tests nothing."""

    def begin(self) -> None:
        """Does nothing."""

    def expect_outside(self) -> None:
        """Does nothing."""

    def toss(self) -> None:
        """Does nothing."""

    def open(self) -> None:
        """Does nothing."""

    def take(self) -> RingArray:
        """Returns zeros."""
        self.is_taken = True
        return np.zeros((self.design.steps, self.design.used), np.int64)

    def expect_openings(self) -> None:
        """Does nothing."""

    def check(self) -> None:
        """Does nothing."""

    def test(self) -> None:
        """Does nothing."""

    def conclude(self) -> None:
        """Finds nothing."""
        self.tested = NoiseTest(self.design.steps, 0, self.design.deviation, ())
