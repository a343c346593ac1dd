"""From scores, or counts at thresholds, to the figures of a membership attack: area, and share found at few false alarms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta  # type: ignore[import-untyped]

from privacy.figures import Figure
from privacy.risk.intervals import LEVEL, area, clopper_pearson
from privacy.risk.report import FALSE_ALARMS
from protocols.errors import ConfideError, ErrorCode

WITHHELD = -1
_EACH = (1 + LEVEL) / 2  # of two intervals that must both hold


def figures_of_scores(scores: NDArray[np.float64], members: NDArray[np.bool_], *, prefix: str) -> dict[str, Figure]:
    """Returns the figures of an attack on one model.

    One more other is above the r-th highest of n others with a chance of r / (n + 1), whatever the scores' distribution. So the
    share found is read at the rank that makes this chance the share of false alarms, between two ranks in proportion: an attack
    that knows nothing finds the false alarms, on average. Of too few others for a rank of 1 it is read at the highest of them.

    Since others are a sample, the interval reaches from the lower end of the share found at a threshold that surely has no more
    false alarms to the upper end at one that surely has no fewer, each end Clopper and Pearson's at 97.5 %; of too few others it
    is wide.

    Args:
        scores: (rows,) float64, higher for rather a member.
        members: (rows,), of both kinds at least one.
        prefix: of the figures' names, for example `membership.lira`.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): members alone, or others alone.
    """
    inside, outside = np.sort(scores[members]), np.sort(scores[~members])
    if not len(inside) or not len(outside):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "an attack is measured on members and on others, of both at least one")
    levels = np.unique(scores)
    counts = [np.bincount(np.searchsorted(levels, side), minlength=len(levels)) for side in (inside, outside)]
    found = {f"{prefix}.auc": area(counts[0], counts[1])}
    for name, share in FALSE_ALARMS.items():
        # With k false alarms at most: above the next lower score of an other; with k at least: from the k-th highest on.
        down, alarms = outside[::-1], np.arange(len(outside) + 1)
        above = len(inside) - np.searchsorted(inside, np.append(down, -np.inf), side="right")
        rank = max(1.0, share * (len(outside) + 1))
        value = float(np.interp(rank - 1, alarms, above)) / len(inside)
        from_on = len(inside) - np.searchsorted(inside, np.insert(down, 0, np.inf), side="left")
        found[f"{prefix}.{name}"] = _between(value, share, above, from_on, alarms, alarms, len(inside), len(outside))
    return found


def figures_of_counts(counts: NDArray[np.int64], *, members: int, others: int, min_cell: int, prefix: str) -> dict[str, Figure]:
    """Returns the figures of an attack whose counts were opened in steps of at least a minimum cell.

    The area is that of rows in no order between two thresholds that are known, and its interval reaches to those of all
    orders: thresholds that tell little, or a minimum cell that withholds much, make it wide, and where nothing is told it is
    all from 0 to 1. A share of members at few false alarms lies between those at the nearest thresholds that are known to have
    no more, and no fewer, false alarms; its interval is that of `figures_of_scores`.

    Args:
        counts: (thresholds, 2) of members and others that reach each threshold, these ascending; -1 where withheld.
        members: how many there are.
        others: likewise.
        min_cell: of the job.
        prefix: of the figures' names.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): members alone, or others alone.
    """
    if members < 1 or others < 1:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "an attack is measured on members and on others, of both at least one")
    bounds = [_bounds(counts[:, side], rows=rows, min_cell=min_cell) for side, rows in enumerate((members, others))]
    (least, most), (fewest, largest) = bounds
    known = (counts != WITHHELD).all(axis=1)
    # From the highest threshold that is known on both sides down; with none and all as ends.
    points = np.vstack([[0, 0], counts[known][::-1], [members, others]])
    steps = np.diff(points, axis=0)[::-1]
    # Between two known thresholds all members may be before all others, or behind; half way is but the likeliest.
    untold = float(steps[:, 0] @ steps[:, 1]) / (2 * members * others)
    auc = area(steps[:, 0], steps[:, 1])
    found = {f"{prefix}.auc": Figure(auc.value, max(0.0, auc.low - untold), min(1.0, auc.high + untold))}
    for name, share in FALSE_ALARMS.items():
        value = float(np.interp(share, points[:, 1] / others, points[:, 0] / members))
        found[f"{prefix}.{name}"] = _between(value, share, least, most, fewest, largest, members, others)
    return found


def _between(
    value: float,
    share: float,
    least: NDArray[np.int64],
    most: NDArray[np.int64],
    fewest: NDArray[np.int64],
    largest: NDArray[np.int64],
    members: int,
    others: int,
) -> Figure:
    """The share found at a share of false alarms, of bounds on the members and on the others that reach each threshold."""
    tail = (1 - _EACH) / 2
    # The ends of Clopper and Pearson's intervals of all counts at once; none of them is NaN where it decides.
    upper = beta.ppf(1 - tail, largest + 1, np.maximum(others - largest, 1e-9))
    lower = np.where(fewest > 0, beta.ppf(tail, np.maximum(fewest, 1), others - fewest + 1), 0.0)
    below, above = least[upper <= share], most[lower >= share]
    low = clopper_pearson(int(below.max(initial=0)), members, level=_EACH).low
    high = clopper_pearson(int(above.min(initial=members)), members, level=_EACH).high
    return Figure(min(max(value, low), high), low, high)


def _bounds(counts: NDArray[np.int64], *, rows: int, min_cell: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns between which whole numbers each count lies: a withheld one is less than a cell above the last one kept."""
    least, most = counts.copy(), counts.copy()
    last, kept = 0, np.flatnonzero(counts != WITHHELD)
    lowest = int(kept[0]) if len(kept) else len(counts)
    for place in reversed(range(len(counts))):
        if counts[place] != WITHHELD:
            last = int(counts[place])
            continue
        least[place] = last
        # Below the lowest threshold that is kept, a count may be withheld because too few rows are left.
        most[place] = last + min_cell - 1 if place > lowest else rows
    return least, most
