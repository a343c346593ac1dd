"""One setting of one protection and what was measured under it, and the parts that an ablation has."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from privacy.figures import Figure, Figures
from privacy.risk.intervals import mean
from privacy.risk.lira import attack_result, bootstrap_interval, half_memberships

SHADOWS = 64
MOST_LINES = 64  # that a report holds
_RESAMPLES = 60


class Part(Enum):
    """Where a protection works; the value is shown to people and stands in reports."""

    TRAINING = "training"
    ANSWERS = "answers"
    STATISTICS = "statistics"
    PREPARATION = "preparation"


@dataclass(frozen=True, eq=False)
class Line:
    """What was measured under one setting.

    Attributes:
        part: where the protection works.
        setting: in words.
        attack: figures of the attack; less is better.
        analysis: figures of the intended analysis; of an error less is better, of everything else more.
    """

    part: Part
    setting: str
    attack: Figures
    analysis: Figures


@dataclass(frozen=True, eq=False, repr=False)
class AblatedRows:
    """Rows as a model takes them; secret.

    Attributes:
        features: (rows, features) float64, of similar size; shadows are trained on halves of these rows.
        labels: (rows,) int64, classes from 0.
        other_features: (others, features), rows of the same kind that none is trained on.
        other_labels: (others,).
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    other_features: NDArray[np.float64]
    other_labels: NDArray[np.int64]

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return max(2, int(max(self.labels.max(), self.other_labels.max())) + 1)

    def members(self, seed: int) -> NDArray[np.bool_]:
        """Returns which rows each shadow is trained on, (shadows, rows)."""
        return half_memberships(SHADOWS, len(self.labels), np.random.default_rng(seed))


def attacked(scores: NDArray[np.float64], members: NDArray[np.bool_], *, seed: int) -> dict[str, Figure]:
    """Returns what a membership attack finds by these scores, (shadows, rows); intervals of 95 % by drawing rows anew."""
    found = attack_result(scores, members)
    low, high = bootstrap_interval(scores, members, generator=np.random.default_rng(seed), resamples=_RESAMPLES)
    return {
        f"membership.lira.{name}": Figure(value, min(value, getattr(low, name)), max(value, getattr(high, name)))
        for name, value in vars(found).items()
    }


def accuracy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Figure]:
    """Returns the mean accuracy of networks on rows, with the interval over networks; logits are (networks, rows, classes)."""
    return {"accuracy": mean(np.asarray((logits.argmax(axis=2) == labels).mean(axis=1), np.float64))}
