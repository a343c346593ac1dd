"""Membership attacks on one model by an owner that has its rows and the model's answers in the clear: LiRA and RMIA.

Each row is in half of the shadows. LiRA's score is that of `privacy.risk.shadow_numbers`, so that an attack in the clear and one
in shares are the same attack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.figures import Figure
from privacy.risk.lira import half_memberships
from privacy.risk.rates import figures_of_scores
from privacy.risk.rmia import log_ratios
from privacy.risk.shadow_numbers import linear_likelihood, log_probabilities, margins
from privacy.risk.shadows import Schedule, Shadows, train_shadows_on
from privacy.risk.target import Answers, AttackedRows, log_probabilities_of, margins_of


def membership_figures(
    answers: Answers, rows: AttackedRows, *, classes: int, schedule: Schedule, shadows: int, seed: int
) -> dict[str, Figure]:
    """Returns area and shares found of both attacks, `membership.lira...` and `membership.rmia...`.

    Args:
        answers: the model under attack.
        rows: members and others, secret.
        classes: how many there are.
        schedule: how shadows are trained.
        shadows: how many, from 4.
        seed: of all random choices.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): rows with cells that are not finite, or too few of them.
    """
    attack = train_attack(rows, classes=classes, schedule=schedule, shadows=shadows, seed=seed)
    return attack.figures(answers)


@dataclass(frozen=True, eq=False, repr=False)
class TrainedAttack:
    """Shadows that were trained for an attack, and what they say of the rows; secret. It serves for any number of models.

    Attributes:
        rows: that are attacked.
        shadows: each trained on half of them.
        numbers: (rows, 2) float64, factor and offset of LiRA's score.
        logs: (shadows, rows) float64 logarithms of the probability of the right class.
    """

    rows: AttackedRows
    shadows: Shadows
    numbers: NDArray[np.float64]
    logs: NDArray[np.float64]

    def scores(self, answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the scores of all rows by LiRA and by RMIA against a model, each (rows,) float64."""
        everybody = self.rows.all_rows
        lira = self.numbers[:, 0] * margins_of(answers, everybody) + self.numbers[:, 1]
        return lira, log_ratios(log_probabilities_of(answers, everybody), self.logs)

    def figures(self, answers: Answers) -> dict[str, Figure]:
        """Returns area and shares found of both attacks on a model."""
        lira, rmia = self.scores(answers)
        return {
            **figures_of_scores(lira, self.rows.is_member, prefix="membership.lira"),
            **figures_of_scores(rmia, self.rows.is_member, prefix="membership.rmia"),
        }


def train_attack(rows: AttackedRows, *, classes: int, schedule: Schedule, shadows: int, seed: int) -> TrainedAttack:
    """Trains the shadows of an attack; arguments as for `membership_figures`."""
    everybody = rows.all_rows
    generator = np.random.default_rng(seed)
    inside = half_memberships(shadows, len(everybody.labels), generator)
    trained = train_shadows_on(everybody, inside, classes=classes, schedule=schedule, seed=int(generator.integers(2**62)))
    logits = trained.logits(everybody.features)
    numbers = linear_likelihood(margins(logits, everybody.labels), inside)
    return TrainedAttack(rows, trained, numbers, log_probabilities(logits, everybody.labels))
