"""The model under attack, as an owner has it in the clear, and the rows that it is attacked with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.risk.shadow_numbers import log_probabilities, margins
from privacy.risk.shadows import ShadowRows

# (rows, features) float64 to (rows, classes) float64 logits; of a binary model two columns, 0 and the logit.
Answers = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False, repr=False)
class AttackedRows:
    """Rows of whom it is known whether the model was trained on them; secret.

    Attributes:
        members: that the model was trained on.
        others: of the same kind, that it was not trained on.
    """

    members: ShadowRows
    others: ShadowRows

    @property
    def all_rows(self) -> ShadowRows:
        """Members first, then others."""
        return ShadowRows(
            np.concatenate([self.members.features, self.others.features]),
            np.concatenate([self.members.labels, self.others.labels]),
        )

    @property
    def is_member(self) -> NDArray[np.bool_]:
        """(rows,), of `all_rows`."""
        return np.arange(len(self.members.labels) + len(self.others.labels)) < len(self.members.labels)


def margins_of(answers: Answers, rows: ShadowRows) -> NDArray[np.float64]:
    """Returns the attacked model's logit of each row's label less the largest other, (rows,)."""
    return np.asarray(margins(answers(rows.features)[None], rows.labels)[0])


def log_probabilities_of(answers: Answers, rows: ShadowRows) -> NDArray[np.float64]:
    """Returns the logarithm of the probability that the attacked model gives to each row's label, (rows,)."""
    return np.asarray(log_probabilities(answers(rows.features)[None], rows.labels)[0])


def accuracy_of(answers: Answers, rows: ShadowRows) -> NDArray[np.float64]:
    """Returns whether the attacked model predicts each row's label, (rows,) of 0 and 1."""
    return np.asarray(answers(rows.features).argmax(axis=1) == rows.labels, np.float64)
