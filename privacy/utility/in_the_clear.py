"""How useful a model is on rows that its owner has in the clear: the figures that an evaluation in shares opens counts for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp  # type: ignore[import-untyped]

from privacy.figures import Figure
from privacy.risk.lira import attack_result
from privacy.utility.groups import group_figures
from privacy.utility.opened import BINS, Evaluation, figures_of


def clear_figures(
    logits: NDArray[np.float64], labels: NDArray[np.int64], *, groups: NDArray[np.int64] | None = None
) -> dict[str, Figure]:
    """Returns accuracy, F1, calibration error and, of two classes, the area under the ROC curve, and gaps between groups.

    Args:
        logits: (rows, classes) float64; of a binary model 0 and the logit; secret.
        labels: (rows,) int64, classes from 0; secret.
        groups: (rows,) from 0, the group of each row; None for none. Rates of groups are those of two classes: of more, none.

    Returns:
        Figures by the names of docs/utility.md, with intervals of 95 %; they tell of the rows no more than counts would.
    """
    classes = logits.shape[1]
    predicted = _predicted(logits)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    area = None
    if classes == 2 and confusion.sum(axis=1).min():
        area = attack_result(logits[:, 1] - logits[:, 0], labels == 1).auc
    found = figures_of(
        Evaluation(
            num_rows=len(labels),
            min_cell=1,
            confusion=confusion,
            roc_auc=area,
            reliability=_reliability(logits, labels, predicted),
        )
    )
    if groups is not None and classes == 2:
        cells = np.zeros((int(groups.max()) + 1, 4), np.int64)
        # True negatives, false negatives, false positives, true positives.
        np.add.at(cells, (groups, np.array([[0, 2], [1, 3]])[labels, predicted]), 1)
        found |= group_figures(cells)
    return found


def _predicted(logits: NDArray[np.float64]) -> NDArray[np.int64]:
    if logits.shape[1] == 2:  # the edge belongs to class 1, as everywhere
        return np.asarray(logits[:, 1] >= logits[:, 0], np.int64)
    return np.asarray(logits.argmax(axis=1), np.int64)


def _reliability(logits: NDArray[np.float64], labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.float64]:
    """(10, 3): rows, sum of probabilities and right rows by tenths; of two classes the probability is that of class 1."""
    asked = np.ones_like(labels) if logits.shape[1] == 2 else predicted
    chances = np.exp(np.take_along_axis(logits, asked[:, None], axis=1)[:, 0] - logsumexp(logits, axis=1))
    table = np.zeros((BINS, 3))
    tenth = np.minimum((chances * BINS).astype(np.int64), BINS - 1)
    np.add.at(table, tenth, np.column_stack([np.ones(len(labels)), chances, labels == asked]))
    return table
