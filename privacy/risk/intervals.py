"""Intervals of shares, of differences of shares, and of areas under ROC curves.

Clopper and Pearson (1934) is exact and never too short; Wilson (1927) is shorter and right on average; Newcombe (1998, method
10) takes the difference of two shares from their Wilson intervals; DeLong et al. (1988) gives the variance of an area, here from
counts at thresholds, so that opened counts and single scores are treated alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm  # type: ignore[import-untyped]

from privacy.figures import Figure

LEVEL = 0.95


def clopper_pearson(successes: int, trials: int, *, level: float = LEVEL) -> Figure:
    """Returns a share with its exact interval; 0 to 1 of no trials."""
    if trials == 0:
        return Figure(0.0, 0.0, 1.0)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(1 - tail, successes + 1, trials - successes))
    return Figure(successes / trials, low, high)


def wilson(successes: float, trials: int, *, level: float = LEVEL) -> Figure:
    """Returns a share with its score interval; 0 to 1 of no trials.

    It is right for a mean of numbers from 0 to 1 too, whose variance is at most that of a share: `successes` is their sum.
    """
    if trials == 0:
        return Figure(0.0, 0.0, 1.0)
    z, share = _quantile(level), successes / trials
    centre, scale = share + z * z / (2 * trials), 1 + z * z / trials
    reach = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Figure(share, min(share, max(0.0, (centre - reach) / scale)), max(share, min(1.0, (centre + reach) / scale)))


def difference(first: tuple[int, int], second: tuple[int, int], *, level: float = LEVEL) -> Figure:
    """Returns the first share less the second, each as successes and trials, with Newcombe's interval."""
    one, other = wilson(*first, level=level), wilson(*second, level=level)
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Figure(value, value - below, value + above)


def area(members: NDArray[np.int64], others: NDArray[np.int64], *, level: float = LEVEL) -> Figure:
    """Returns the area under the ROC curve of scores that are known by bins; rows of one bin are ties.

    Args:
        members: (bins,) how many members have a score in each bin, from the lowest on; at least one in all.
        others: (bins,) likewise of the others.
        level: of the interval.
    """
    # Of a member in each bin: the share of the others below it, half of its own bin; likewise of an other, above.
    of_members = (np.cumsum(others) - others / 2) / others.sum()
    of_others = 1 - (np.cumsum(members) - members / 2) / members.sum()
    value = float((members * of_members).sum() / members.sum())
    variance = _variance_of_mean(of_members, members, value) + _variance_of_mean(of_others, others, value)
    reach = _quantile(level) * math.sqrt(variance)
    return Figure(value, max(0.0, value - reach), min(1.0, value + reach))


def mean(values: NDArray[np.float64], *, level: float = LEVEL) -> Figure:
    """Returns the mean of independent values with the interval of the normal distribution; of one value the value alone."""
    value = float(values.mean())
    reach = _quantile(level) * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Figure(value, value - reach, value + reach)


def difference_of_means(first: NDArray[np.float64], second: NDArray[np.float64], *, level: float = LEVEL) -> Figure:
    """Returns the mean of the first values less that of the second, all independent, with the interval of the normal."""
    one, other = mean(first, level=level), mean(second, level=level)
    value, reach = one.value - other.value, math.hypot(one.high - one.value, other.high - other.value)
    return Figure(value, value - reach, value + reach)


def difference_of_gains(first: NDArray[np.float64], second: NDArray[np.float64], *, level: float = LEVEL) -> Figure:
    """Returns the mean of the first gains less that of the second, all independent; each is -1, 0 or 1.

    Half a count is added to either sign and one to none (Agresti and Min, Statistics in Medicine 24, 2005): of gains that are all
    alike the normal interval would be a point, as if nothing were unknown.
    """
    (one, one_variance), (other, other_variance) = _gains(first), _gains(second)
    value, centre = float(first.mean() - second.mean()), one - other
    reach = _quantile(level) * math.sqrt(one_variance + other_variance)
    return Figure(value, min(value, max(-2.0, centre - reach)), max(value, min(2.0, centre + reach)))


def _gains(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of gains with the counts that are added, and its variance."""
    count = len(values) + 2
    up, down = float((values > 0).sum()) + 0.5, float((values < 0).sum()) + 0.5
    mean_of_all = (up - down) / count
    return mean_of_all, ((up + down) / count - mean_of_all**2) / count


def least_area(members: int, others: int, *, level: float = LEVEL) -> float:
    """Returns the lower end of the interval of an area under the ROC curve that was found to be 1.

    So many disjoint pairs of a member and an other as there are of the fewer are independent, and each is in order with a chance
    that is the area. All of them were.
    """
    return clopper_pearson(min(members, others), min(members, others), level=level).low


def _variance_of_mean(values: NDArray[np.float64], counts: NDArray[np.int64], centre: float) -> float:
    total = int(counts.sum())
    return 0.0 if total < 2 else float((counts * (values - centre) ** 2).sum()) / (total - 1) / total


def _quantile(level: float) -> float:
    return float(norm.ppf((1 + level) / 2))
