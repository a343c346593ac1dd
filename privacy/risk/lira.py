"""The likelihood-ratio attack on membership, online with fixed variances (Carlini et al. 2022, section V and VI).

Every row is in about half of the shadow models. One of them plays the model under attack; the others say how confident a model
is in this row when it was trained with it and when it was not. The score of the row is the logarithm of the ratio of the two
normal densities at the confidence that the attacked model shows. All models take that part in turn.

Who runs this learns the rows' membership by definition: it is measured where the rows are, and only its figures leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp  # type: ignore[import-untyped]
from scipy.stats import rankdata  # type: ignore[import-untyped]

from protocols.errors import ConfideError, ErrorCode

_LEAST_SHADOWS = 4  # each row needs another shadow with it and one without it, whichever is attacked
_LEAST_DEVIATION = 1e-6  # of confidences; an untrained model's are all alike


@dataclass(frozen=True)
class AttackResult:
    """How well members and others are told apart; 0.5, 0.01 and 0.001 is what guessing gives.

    Attributes:
        auc: the chance that a member has a higher score than somebody who is none.
        tpr_at_1_percent: share of members found while one in a hundred others is taken for a member.
        tpr_at_0_1_percent: likewise, one in a thousand.
    """

    auc: float
    tpr_at_1_percent: float
    tpr_at_0_1_percent: float


def confidences(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns log(p / (1 - p)) of the probability p that each model gives to the right class.

    Args:
        logits: (shadows, rows, classes) float64.
        labels: (rows,) int64.

    Returns:
        (shadows, rows) float64; of the logits themselves, so that a sure model does not lose digits.
    """
    right = np.arange(logits.shape[2])[None, None, :] == labels[None, :, None]
    own = np.where(right, logits, -np.inf).max(axis=2)
    others: NDArray[np.float64] = logsumexp(np.where(right, -np.inf, logits), axis=2)
    difference: NDArray[np.float64] = own - others
    return difference


def membership_scores(shown: NDArray[np.float64], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the score of every row against every model, each attacked with the help of all others.

    Args:
        shown: (shadows, rows) float64 confidences.
        members: (shadows, rows), which rows each was trained on; every row in at least two and absent from at least two.

    Returns:
        (shadows, rows) float64; higher means rather a member.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): too few models, or a row that nearly all or none was trained on.
    """
    count = members.sum(axis=0)
    if len(shown) < _LEAST_SHADOWS or count.min(initial=2) < 2 or (len(shown) - count).min(initial=2) < 2:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "every row must be in at least two shadow models and absent from two")
    with_row = _Normal(shown, members)
    without_row = _Normal(shown, ~members)
    return with_row.log_density(shown) - without_row.log_density(shown)


class _Normal:
    """Means by row and one deviation, each without the attacked model; all models at once."""

    def __init__(self, shown: NDArray[np.float64], side: NDArray[np.bool_]) -> None:
        # Centred first: sums of squares of large confidences would lose the digits that the deviation needs.
        centre = np.median(shown, axis=0)
        moved = shown - centre
        kept = np.where(side, moved, 0.0)
        count, total, squares = side.sum(axis=0), kept.sum(axis=0), (kept**2).sum(axis=0)
        counts = count[None, :] - side
        sums = total[None, :] - kept
        self._means = centre + sums / counts
        # The deviation is one for all rows: the mean over them of the squared distances from their own mean.
        scatter = (squares[None, :] - kept**2) - sums**2 / counts
        variance = scatter.sum(axis=1, keepdims=True) / counts.sum(axis=1, keepdims=True)
        self._deviations = np.maximum(np.sqrt(np.maximum(variance, 0.0)), _LEAST_DEVIATION)

    def log_density(self, shown: NDArray[np.float64]) -> NDArray[np.float64]:
        density: NDArray[np.float64] = -((shown - self._means) ** 2) / (2 * self._deviations**2) - np.log(self._deviations)
        return density


def attack_result(scores: NDArray[np.float64], members: NDArray[np.bool_]) -> AttackResult:
    """Returns how well one threshold for all rows and models tells members from others.

    Args:
        scores: of any shape, float64.
        members: of the same shape.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): members alone, or others alone.
    """
    inside, outside = scores[members], scores[~members]
    if not len(inside) or not len(outside):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "an attack is measured on members and on others, of both at least one")
    ranks = rankdata(np.concatenate([inside, outside]))  # equal scores share a rank: half a success each
    auc = (ranks[: len(inside)].sum() - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside))
    return AttackResult(float(auc), _true_positives(inside, outside, 0.01), _true_positives(inside, outside, 0.001))


def _true_positives(inside: NDArray[np.float64], outside: NDArray[np.float64], false_positives: float) -> float:
    """The share of members above the lowest threshold that at most this share of the others is above."""
    allowed = int(np.floor(false_positives * len(outside)))
    threshold = np.sort(outside)[len(outside) - 1 - allowed]
    return float((inside > threshold).mean())


def bootstrap_interval(
    scores: NDArray[np.float64],
    members: NDArray[np.bool_],
    *,
    generator: np.random.Generator,
    resamples: int = 200,
    level: float = 0.95,
) -> tuple[AttackResult, AttackResult]:
    """Returns the ends of percentile intervals, by drawing rows anew; rows are the people whom the attack is about.

    Args:
        scores: (shadows, rows) float64.
        members: (shadows, rows).
        generator: the randomness.
        resamples: how often rows are drawn.
        level: of each interval.

    Returns:
        The lower and the upper ends.
    """
    drawn = [generator.integers(0, scores.shape[1], scores.shape[1]) for _ in range(resamples)]
    found = [attack_result(scores[:, rows], members[:, rows]) for rows in drawn]
    figures = np.array([(one.auc, one.tpr_at_1_percent, one.tpr_at_0_1_percent) for one in found])
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return AttackResult(*map(float, low)), AttackResult(*map(float, high))


def half_memberships(shadows: int, rows: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Returns (shadows, rows): every row is in exactly half of the shadows (rounded down), drawn independently of other rows."""
    order = generator.random((shadows, rows)).argsort(axis=0)
    return order < shadows // 2
