"""Losses and what is measured of predictions, in float64; part of the plaintext oracle.

Labels are as their owners register them, (rows,): 0 or 1, the index of a class, or a number in [-1, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.job_parts import Task
from protocols.model.plain_layers import Float64, log_softmax, sigmoid, softmax
from protocols.training import Loss


def targets(labels: NDArray[np.generic], width: int, task: Task) -> Float64:
    """Returns labels as a model's output is compared with them: (rows, width), one column per class if there are several."""
    values = np.asarray(labels, np.float64)
    if task is not Task.CLASSES:
        return values[:, np.newaxis]
    one_hot: Float64 = (values[:, np.newaxis] == np.arange(width)).astype(np.float64)
    return one_hot


def loss_value(loss: Loss, values: Float64, wanted: Float64) -> float:
    """Returns a batch's mean loss.

    Args:
        loss: a cross-entropy takes logits, the squared error the model's output.
        values: (rows, outputs).
        wanted: (rows, outputs), see `targets`.
    """
    match loss:
        case Loss.BINARY_CROSS_ENTROPY:
            # log(1 + exp(-x)) for label 1, log(1 + exp(x)) for label 0
            return float(np.mean(np.logaddexp(0.0, values) - wanted * values))
        case Loss.CROSS_ENTROPY:
            return float(-np.mean((wanted * log_softmax(values)).sum(axis=1)))
        case Loss.MEAN_SQUARED_ERROR:
            return float(np.mean((values - wanted) ** 2))


def loss_slope(loss: Loss, values: Float64, wanted: Float64) -> Float64:
    """Returns the derivative of `loss_value` by `values`, (rows, outputs)."""
    match loss:
        case Loss.BINARY_CROSS_ENTROPY:
            return (sigmoid(values) - wanted) / len(values)
        case Loss.CROSS_ENTROPY:
            return (softmax(values) - wanted) / len(values)
        case Loss.MEAN_SQUARED_ERROR:
            return 2.0 * (values - wanted) / values.size


def confusion_counts(truth: NDArray[np.generic], predicted: NDArray[np.generic], num_classes: int) -> NDArray[np.int64]:
    """Returns how many rows of each true class (rows of the result) are predicted as each class (columns)."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (np.asarray(truth, np.int64), np.asarray(predicted, np.int64)), 1)
    return counts


def roc_auc(truth: NDArray[np.generic], scores: Float64) -> float:
    """Returns how often a row of label 1 has the higher score than one of label 0; ties count a half; NaN without pairs."""
    positive, negative = scores[np.asarray(truth) == 1], np.sort(scores[np.asarray(truth) == 0])
    if not len(positive) or not len(negative):
        return float("nan")
    below, up_to = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    return float((below + up_to).sum() / 2 / (len(positive) * len(negative)))
