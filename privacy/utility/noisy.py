"""Figures of an evaluation whose counts have noise of the rows' owners, each with an interval that the noise widens.

The deviation of the noise is public, so it is no guess. Of the 5 % that an interval may miss, half is left to the noise and half
to the choice of the rows: counts are first known within a range, and then shares have Wilson's interval at its ends. Counts below
0 are taken as 0, in figures alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm  # type: ignore[import-untyped]

from privacy.figures import Figure
from privacy.risk.intervals import LEVEL, wilson

FloatTable = NDArray[np.float64]
_HALF = (1 + LEVEL) / 2  # the level of either part of an interval
_LINEAR = 0.1  # noise over counts, up to which F1 is nearly linear in it


def count_range(count: float, *, deviation: float, rows: int, level: float = LEVEL) -> tuple[int, int]:
    """Returns the least and the largest number of rows that a noisy count stands for, between 0 and all of them.

    Args:
        count: as opened.
        deviation: of its noise.
        rows: in all; public.
        level: with which it lies there.
    """
    reach = float(norm.ppf((1 + level) / 2)) * deviation
    return max(0, min(rows, math.floor(count - reach))), min(rows, max(0, math.ceil(count + reach)))


def noisy_part(count: float, *, deviation: float, rows: int) -> Figure:
    """Returns the share that a noisy count is of a known number of rows."""
    low, high = count_range(count, deviation=deviation, rows=rows, level=_HALF)
    value = min(max(count / rows, 0.0), 1.0)
    return _around(value, wilson(low, rows, level=_HALF).low, wilson(high, rows, level=_HALF).high)


def noisy_share(above: Sequence[float], rest: Sequence[float], *, deviation: float, rows: int, level: float = LEVEL) -> Figure:
    """Returns the share of some noisy counts in these and others; of no rows, 0 to 1.

    Args:
        above: the counts whose share it is.
        rest: the others.
        deviation: of the noise of each.
        rows: in all; public.
        level: of the interval.
    """
    half = (1 + level) / 2
    each = (1 + half) / 2  # two ranges of counts hold together
    one, other = sum(above), sum(rest)
    least, most = count_range(one, deviation=deviation * math.sqrt(len(above)), rows=rows, level=each)
    few, many = count_range(other, deviation=deviation * math.sqrt(len(rest)), rows=rows, level=each)
    one, other = max(one, 0.0), max(other, 0.0)
    value = one / (one + other) if one + other else 0.0
    return _around(value, wilson(least, least + many, level=half).low, wilson(most, most + few, level=half).high)


def noisy_f1(table: FloatTable, *, deviation: float, rows: int) -> Figure:
    """Returns F1 as `privacy.utility.opened.f1_score`, of a noisy table."""
    if len(table) == 2:
        wrong = (float(table[1, 0]), float(table[0, 1]))
        share = noisy_share([float(table[1, 1])], wrong, deviation=deviation, rows=rows)
        return _f1_of_share(share)
    told = np.maximum(table, 0.0)
    concerned = told.sum(axis=0) + told.sum(axis=1)
    # A class's row and column are 2 k cells, with the diagonal one twice.
    off = deviation * math.sqrt(2 * len(table) + 2)
    if off <= _LINEAR * float(concerned.min()):
        return _macro_f1(told, deviation)
    value, each = _macro_f1(told, deviation).value, _f1_of_classes(table, deviation=deviation, rows=rows)
    return _around(value, *(sum(ends) / len(each) for ends in zip(*((f1.low, f1.high) for f1 in each), strict=True)))


def noisy_calibration_error(table: FloatTable, *, deviation: float, rows: int) -> Figure:
    """Returns the expected calibration error of a noisy diagram; noise makes it larger, and the interval reaches as far back.

    The sum over tenths of |right - probabilities| is off by the sum of the absolute values of their noise at most, which is known
    in distribution: at m tenths a mean of m s sqrt(2 / pi) and a deviation of sqrt(m (1 - 2 / pi)) s, s being that of one.
    """
    told = table[~np.isnan(table[:, 0])]
    counts, _, right = np.maximum(told, 0.0).T
    one = deviation * math.sqrt(2)
    value = min(1.0, float(np.abs(told[:, 2] - told[:, 1]).sum()) / rows)
    z = float(norm.ppf((1 + _HALF) / 2))
    off = len(told) * one * math.sqrt(2 / math.pi) + z * math.sqrt(len(told) * (1 - 2 / math.pi)) * one
    shares = np.clip(np.divide(right, counts, out=np.full(len(told), 0.5), where=counts > 0), 0.0, 1.0)
    chance = z * math.sqrt(float((counts * shares * (1 - shares)).sum()))
    hidden = max(0.0, 1 - float(counts.sum() - z * deviation * math.sqrt(len(told))) / rows) if len(told) < len(table) else 0.0
    return _around(value, max(0.0, value - (off + chance) / rows), min(1.0, value + (off + chance) / rows + hidden))


def noisy_area(table: FloatTable, *, deviation: float, min_cell: int) -> Figure:
    """Returns the area under the ROC curve of a noisy score histogram: ties within a range count a half.

    The interval is of the order within ranges, which is not known, of the choice of the rows (DeLong, DeLong and Clarke-Pearson
    1988, of counts) and of the noise: the area is a ratio of a form that is linear in each class's counts, so its noise is that
    of the linear part and of products of two. Where noise may be all that a class has, the interval is from 0 to 1.

    Args:
        table: (bins, 2): rows of class 0 and of class 1 in ascending ranges of the probability; NaN where withheld.
        deviation: of the noise of each.
        min_cell: below which noisy counts are withheld; public.
    """
    held = np.isnan(table)
    # What is withheld is from none to the minimum and what noise may have taken.
    most = min_cell + float(norm.ppf((1 + _HALF) / 2)) * deviation
    counts = np.where(held, most / 2, table)
    negatives, positives = counts.sum(axis=0)
    z = float(norm.ppf((1 + _HALF) / 2))
    if min(negatives, positives) <= z * deviation * math.sqrt(len(table)) + most * float(held.sum(axis=0).max()) / 2:
        return Figure(0.5, 0.0, 1.0)
    # For each range the share of the other class that lies on the right side of it; with noise neither need ascend.
    below = (np.cumsum(counts[:, 0]) - counts[:, 0] / 2) / negatives
    above = (positives - np.cumsum(counts[:, 1]) + counts[:, 1] / 2) / positives
    value = float(counts[:, 1] @ below) / positives
    shares = np.maximum(counts, 0.0) / np.maximum(counts, 0.0).sum(axis=0)
    chosen = float(shares[:, 1] @ (below - value) ** 2) / positives + float(shares[:, 0] @ (above - value) ** 2) / negatives
    linear = float(((below - value) ** 2).sum()) / positives**2 + float(((above - value) ** 2).sum()) / negatives**2
    # Of two noises: the pairs of ranges in order, and half of a pair within a range; the noise of the classes' sizes likewise.
    pairs = len(table) * (len(table) - 1) / 2 + len(table) / 4 + len(table) ** 2 * value**2
    noise = deviation**2 * linear + deviation**4 * pairs / (negatives * positives) ** 2
    untold = float(np.maximum(counts[:, 0], 0.0) @ np.maximum(counts[:, 1], 0.0)) / (2 * negatives * positives)
    hidden = most / 2 * float(held[:, 0].sum() / negatives + held[:, 1].sum() / positives)
    reach = z * (math.sqrt(noise) + math.sqrt(max(chosen, 0.0))) + untold + hidden
    value = min(max(value, 0.0), 1.0)
    return _around(value, max(0.0, value - reach), min(1.0, value + reach))


def noisy_mean(mean: float, *, deviation: float, rows: int, most: float) -> Figure:
    """Returns a noisy mean of numbers from 0 to `most`: their sum is known within a range, with Wilson's interval at its ends.

    The variance of such numbers is at most mean (most - mean), as that of a share is.

    Args:
        mean: as it follows from what was opened; may be outside.
        deviation: of its noise.
        rows: it is over; public.
        most: that one row can count; public.
    """
    z = float(norm.ppf((1 + _HALF) / 2))
    low, high = (min(max(mean + side * z * deviation, 0.0), most) * rows / most for side in (-1, 1))
    value = min(max(mean, 0.0), most)
    return _around(value, most * wilson(low, rows, level=_HALF).low, most * wilson(high, rows, level=_HALF).high)


def noisy_gap(rates: Sequence[Figure]) -> Figure:
    """Returns the largest of several rates less the smallest, whose intervals hold together."""
    value = max(rate.value for rate in rates) - min(rate.value for rate in rates)
    low = max(rate.low for rate in rates) - min(rate.high for rate in rates)
    high = max(rate.high for rate in rates) - min(rate.low for rate in rates)
    return _around(value, max(0.0, low), high)


def _macro_f1(table: FloatTable, deviation: float) -> Figure:
    """The mean of the F1 of each class, by the delta method: of the choice of rows, which is multinomial, and of the noise."""
    right, concerned = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    inverse = np.divide(1.0, concerned, out=np.zeros(len(table)), where=concerned > 0)
    value = float((2 * right * inverse).mean())
    # F1 of c has the slope 2 / concerned at its diagonal cell, less 2 right / concerned^2 for each of c's row and column.
    lost = 2 * right * inverse**2
    slopes = (np.diag(2 * inverse) - lost[:, None] - lost[None, :]) / len(table)
    total = float(table.sum())
    multinomial = float((table * slopes**2).sum()) - (float((table * slopes).sum()) ** 2 / total if total else 0.0)
    reach = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt(max(multinomial, 0.0) + deviation**2 * float((slopes**2).sum()))
    return _around(value, max(0.0, value - reach), min(1.0, value + reach))


def _f1_of_classes(table: FloatTable, *, deviation: float, rows: int) -> list[Figure]:
    """The F1 of each class, with intervals that hold together however large the noise is."""
    together = 1 - (1 - LEVEL) / len(table)
    found = []
    for place, right in enumerate(np.diag(table).tolist()):
        wrong = [*np.delete(table[place], place).tolist(), *np.delete(table[:, place], place).tolist()]
        found.append(_f1_of_share(noisy_share([right], wrong, deviation=deviation, rows=rows, level=together)))
    return found


def _f1_of_share(share: Figure) -> Figure:
    """F1 grows with the share of the true positives among all rows of a class or predicted to be."""
    return Figure(*(2 * each / (1 + each) for each in (share.value, share.low, share.high)))


def _around(value: float, low: float, high: float) -> Figure:
    return Figure(value, min(low, value), max(high, value))
