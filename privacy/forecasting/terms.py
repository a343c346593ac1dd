"""The agreed terms of a joint private training, as far as a forecast needs them, and how much noise they mean.

The mechanism is that of shared gradients: T full-batch gradients, each with Gaussian noise, and before them once the sums and the
sums of squares of all features (docs/protocols/summaries.md), for their means and deviations, which a tenth of the budget pays
for. All are Gaussian mechanisms, so together they are one of them, whose delta has a closed form (Balle and Wang 2018, theorem
8). The accountant (`privacy.accounting`) decides what a job may claim; this is within its discretisation of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import log_ndtr  # type: ignore[import-untyped]

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.private_training import Unit

STEPS = 60
STATISTICS_SHARE = 0.1  # of the budget: squared signal to noise of means and deviations, of that of everything
_LEAST, _MOST = 1e-6, 100.0  # of the signal to noise


@dataclass(frozen=True)
class JointTerms:
    """What institutions would agree on; public.

    Attributes:
        institutions: how many bring rows.
        colluders: how many of them may pool what they know, from 1 to one less than all.
        rows: agreed number of rows of all of them together.
        epsilon: of the whole training.
        delta: likewise.
        rows_per_person: how many rows one unit of privacy has at most.
    """

    institutions: int
    colluders: int
    rows: int
    epsilon: float
    delta: float
    rows_per_person: int = 1

    def __post_init__(self) -> None:
        """Refuses terms that protect nobody.

        Raises:
            ConfideError: INVALID_ARGUMENT (the asker's fault) with all problems.
        """
        problems = []
        if self.institutions < 2:
            problems.append(Problem("institutions", "one alone has nobody to join", "write 2 or more"))
        elif not 1 <= self.colluders < self.institutions:
            problems.append(Problem("colluders", "nobody is left whose noise they do not know", "write 1 to one less than all"))
        if self.rows < 2:
            problems.append(Problem("rows", "too few", "write the agreed number of rows of all institutions"))
        if self.rows_per_person < 1:
            problems.append(Problem("rows_per_person", "nobody has so few", "write 1 or more"))
        if not 0 < self.epsilon <= 100:
            problems.append(Problem("epsilon", "must be above 0 and at most 100", "for example 1"))
        if not 0 < self.delta <= 0.1 / max(self.rows, 1):
            problems.append(
                Problem("delta", "must be above 0 and at most a tenth of 1 / rows", f"write {0.1 / max(self.rows, 1):.2g}")
            )
        if problems:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "no private training has these terms", problems=problems)

    @property
    def unit(self) -> Unit:
        """What they protect as one: of whoever has one row at most, the row."""
        return Unit.ROW if self.rows_per_person == 1 else Unit.PERSON

    @property
    def noise_factor(self) -> float:
        """By how much the noise of all owners is more than that of those who do not collude."""
        return math.sqrt(self.institutions / (self.institutions - self.colluders))

    @property
    def statistics_multiplier(self) -> float:
        """Deviation of the noise on sums of features, all owners together, in units of the sensitivity of one row."""
        return self._multiplier(STATISTICS_SHARE, 1)

    @property
    def step_multiplier(self) -> float:
        """Deviation of the noise on the gradient of a step, likewise."""
        return self._multiplier(1 - STATISTICS_SHARE, STEPS)

    def _multiplier(self, share: float, releases: int) -> float:
        ratio = signal_to_noise(self.epsilon, self.delta) * math.sqrt(share / releases)
        return self.noise_factor * self.rows_per_person / ratio


def gaussian_delta(ratio: float, epsilon: float) -> float:
    """Returns the delta of a Gaussian mechanism whose sensitivity is `ratio` deviations of its noise, for an epsilon."""
    first = log_ndtr(ratio / 2 - epsilon / ratio)
    second = epsilon + log_ndtr(-ratio / 2 - epsilon / ratio)
    return float(math.exp(first) - math.exp(second))


def signal_to_noise(epsilon: float, delta: float) -> float:
    """Returns the largest sensitivity, in deviations of the noise, that a Gaussian mechanism may have for a budget."""
    return float(brentq(lambda ratio: gaussian_delta(ratio, epsilon) - delta, _LEAST, _MOST, xtol=1e-12))
