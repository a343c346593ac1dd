"""What an evaluation opened, and the figures that follow: accuracy, F1, area under the ROC curve, calibration.

Every figure has an interval of 95 %: shares are those of Wilson. What is withheld is not guessed: a figure that needs it is
left out, or its interval holds whatever the withheld rows may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm  # type: ignore[import-untyped]

from privacy.figures import Figure
from privacy.risk.intervals import LEVEL, least_area, wilson
from privacy.utility.noisy import count_range, noisy_area, noisy_calibration_error, noisy_f1, noisy_part

BINS = 10
WITHHELD = -1
_STEP = 1e-4  # of a finite difference, in rows
_REACH = float(norm.ppf((1 + LEVEL) / 2))

Counts = NDArray[np.int64]
FloatTable = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The opened values of one evaluation, as `protocols.mpc.query.combine_output` gives them; for the querier.

    Attributes:
        num_rows: of all data sets; public.
        min_cell: the strictest of the job's outputs; public.
        correct: the count of correct rows: 0 and num_rows may stand for fewer than min_cell, and more than all but so many.
        confusion: (classes, classes), true class by predicted class; -1 is withheld.
        roc_auc: NaN is withheld.
        reliability: (10, 3): rows, sum of probabilities, right rows; NaN is withheld.
        histogram: (bins, 2): rows of class 0 and of class 1 by ranges of the probability, with noise; NaN is withheld.
        groups: (groups, 4): true and false negatives, false and true positives; -1 is withheld.
        deviation: of the noise in each number, of all owners together; with noise every count may be any number, and NaN is
            withheld.
    """

    num_rows: int
    min_cell: int
    correct: float | None = None
    confusion: Counts | FloatTable | None = None
    roc_auc: float | None = None
    reliability: FloatTable | None = None
    histogram: FloatTable | None = None
    groups: Counts | FloatTable | None = None
    deviation: float = 0.0

    @property
    def correct_range(self) -> tuple[int, int] | None:
        """The least and the largest number of correct rows that it may be; None if nothing tells."""
        if self.deviation:
            told = self.noisy_correct
            return None if told is None else count_range(told[0], deviation=told[1], rows=self.num_rows)
        if self.confusion is not None and self.confusion.min() >= 0:
            exact = int(np.trace(self.confusion))
            return exact, exact
        if self.correct is None:
            return None
        hidden = self.min_cell - 1
        if self.correct == 0:
            return 0, min(hidden, self.num_rows)
        correct = int(self.correct)
        return (self.num_rows - hidden if correct == self.num_rows else correct), correct

    @property
    def noisy_correct(self) -> tuple[float, float] | None:
        """The number of correct rows with noise and the deviation of that; None if nothing tells."""
        if self.correct is not None and not math.isnan(self.correct):
            return self.correct, self.deviation
        if self.confusion is None or np.isnan(self.confusion).any():
            return None
        return float(np.trace(self.confusion)), self.deviation * math.sqrt(len(self.confusion))


def figures_of(evaluation: Evaluation) -> dict[str, Figure]:
    """Returns the figures of a whole evaluation, without those of groups; what cannot be told is absent."""
    if evaluation.deviation:
        return _noisy_figures(evaluation)
    found = {}
    told = evaluation.correct_range
    if told is not None:
        found["accuracy"] = accuracy(told, evaluation.num_rows)
    table = None if evaluation.confusion is None else evaluation.confusion.astype(np.int64)
    if table is not None and table.min() >= 0 and table.sum():
        found["f1"] = f1_score(table)
    if evaluation.roc_auc is not None and not math.isnan(evaluation.roc_auc):
        found["roc_auc"] = ranking(evaluation.roc_auc, _class_sizes(evaluation, table))
    if evaluation.reliability is not None:
        found["ece"] = calibration_error(evaluation.reliability, evaluation.num_rows)
    return found


def _noisy_figures(evaluation: Evaluation) -> dict[str, Figure]:
    found = {}
    deviation, rows = evaluation.deviation, evaluation.num_rows
    told, table = evaluation.noisy_correct, evaluation.confusion
    if told is not None:
        found["accuracy"] = noisy_part(told[0], deviation=told[1], rows=rows)
    if table is not None and not np.isnan(table).any():
        found["f1"] = noisy_f1(table.astype(np.float64), deviation=deviation, rows=rows)
    if evaluation.reliability is not None:
        found["ece"] = noisy_calibration_error(evaluation.reliability, deviation=deviation, rows=rows)
    if evaluation.histogram is not None:
        histogram = evaluation.histogram.astype(np.float64)
        found["roc_auc"] = noisy_area(histogram, deviation=deviation, min_cell=evaluation.min_cell)
    return found


def accuracy(correct: tuple[int, int], num_rows: int) -> Figure:
    """Returns the share of correct rows, of which a least and a largest number are known; the value is the least."""
    low, high = wilson(correct[0], num_rows), wilson(correct[1], num_rows)
    return Figure(low.value, low.low, high.high)


def f1_score(table: Counts) -> Figure:
    """Returns F1 of class 1 of two, or the mean of the F1 of each of several classes; as scikit-learn, 0 where nothing is right.

    Of two classes F1 grows with the share of true positives among all rows that are positive or predicted to be, so its interval
    is that of the share. Of several it is by the delta method, of counts that are multinomial.
    """
    if len(table) == 2:
        right, concerned = int(table[1, 1]), int(table[1].sum() + table[0, 1])
        share = wilson(right, concerned)
        return Figure(_f1_of_share(share.value), _f1_of_share(share.low), _f1_of_share(share.high))
    return _delta(_macro_f1, table)


def ranking(area: float, sizes: Sequence[tuple[int, int]]) -> Figure:
    """Returns the area under the ROC curve, with the interval of Hanley and McNeil (1982).

    Args:
        area: as it was opened.
        sizes: how many negatives and positives there may be; the interval reaches to those of all of them.
    """
    ends = [_ends(area, negatives, positives) for negatives, positives in sizes]
    return Figure(area, min(low for low, _ in ends), max(high for _, high in ends))


def _ends(area: float, negatives: int, positives: int) -> tuple[float, float]:
    if area in (0.0, 1.0):  # of a perfect order the formula knows no doubt
        least = least_area(positives, negatives)
        return (least, 1.0) if area else (0.0, 1 - least)
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (first - area**2) + (negatives - 1) * (second - area**2)
    reach = _REACH * math.sqrt(max(spread, 0.0) / (positives * negatives))
    return max(0.0, area - reach), min(1.0, area + reach)


def _class_sizes(evaluation: Evaluation, table: Counts | None) -> list[tuple[int, int]]:
    """The negatives and positives that the confusion table tells; without one all that the minimum cell of a rate permits."""
    if table is not None and len(table) == 2 and table.min() >= 0 and table.sum(axis=1).min():
        negatives, positives = table.sum(axis=1).tolist()
        return [(negatives, positives)]
    least, rows = max(1, evaluation.min_cell), evaluation.num_rows
    return [(rows - positives, positives) for positives in range(least, rows - least + 1)] or [(1, 1)]


def calibration_error(table: FloatTable, num_rows: int) -> Figure:
    """Returns the expected calibration error: the sum over tenths of |right rows - sum of probabilities|, over all rows.

    Tenths that are withheld count with nothing in the value and with all that they may be in the interval. Otherwise the interval
    is that of right rows which are binomial in each tenth, with a right and a wrong one added: none is surely right throughout.

    Args:
        table: (10, 3), see `Evaluation`.
        num_rows: in all; public.
    """
    told = table[~np.isnan(table[:, 0])]
    told = told[told[:, 0] > 0]
    rows, total, right = told.T
    value = float(np.abs(right - total).sum()) / num_rows
    shares = (right + 1) / (rows + 2)
    reach = _REACH * math.sqrt(float((rows * shares * (1 - shares)).sum())) / num_rows
    hidden = 1 - float(rows.sum()) / num_rows
    return Figure(value, max(0.0, value - reach), max(value, min(1.0, value + reach + hidden)))


def _f1_of_share(share: float) -> float:
    return 2 * share / (1 + share)


def _macro_f1(table: FloatTable) -> float:
    right = np.diag(table)
    concerned = table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean(np.divide(2 * right, concerned, out=np.zeros(len(table)), where=concerned > 0)))


def _delta(function: Callable[[FloatTable], float], counts: Counts) -> Figure:
    """A function of shares of a table with its interval: the variance of its linear part."""
    table, total = counts.astype(np.float64), int(counts.sum())
    value = function(table)
    slopes = np.zeros(table.size)
    for place in range(table.size):
        moved = table.copy().reshape(-1)
        moved[place] += _STEP
        slopes[place] = (function(moved.reshape(table.shape)) - value) / _STEP
    flat = table.reshape(-1)
    variance = max(float((flat * slopes**2).sum()) - float((flat * slopes).sum()) ** 2 / total, 0.0)
    reach = _REACH * math.sqrt(variance)
    return Figure(value, max(0.0, value - reach), min(1.0, value + reach))
