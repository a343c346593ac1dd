"""How a model does in each group, and how far groups are apart: the metrics of fairness that follow from confusion tables.

Rates and gaps are those that Fairlearn's MetricFrame gives: a gap is the largest of the groups' rates less the smallest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from privacy.figures import Figure
from privacy.risk.intervals import LEVEL, difference, wilson
from privacy.utility.noisy import FloatTable, noisy_gap, noisy_share
from privacy.utility.opened import Counts

# Of the four cells (true negatives, false negatives, false positives, true positives): those above the line, and those below.
_RATES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "accuracy": ((0, 3), (0, 1, 2, 3)),
    "fnr": ((1,), (1, 3)),
    "fpr": ((2,), (0, 2)),
    "selection_rate": ((2, 3), (0, 1, 2, 3)),
}
RATES = tuple(_RATES)


def group_figures(table: Counts) -> dict[str, Figure]:
    """Returns `group.K.RATE` of each group, counted from 1, and `group.RATE_gap`; all with intervals.

    A rate that needs a withheld cell is absent, and so is then its gap: a gap between some of the groups could be too small. A
    rate of no rows is absent and takes no part in the gap.

    Args:
        table: (groups, 4) counts; -1 is withheld.
    """
    found: dict[str, Figure] = {}
    for name, (above, below) in _RATES.items():
        pairs: list[tuple[int, int]] = []
        is_whole = True
        for number, cells in enumerate(table, start=1):
            if cells[list(below)].min() < 0:
                is_whole = False
                continue
            pair = int(cells[list(above)].sum()), int(cells[list(below)].sum())
            if pair[1]:
                found[f"group.{number}.{name}"] = wilson(*pair)
                pairs.append(pair)
        if is_whole and len(pairs) > 1:
            found[f"group.{name}_gap"] = _gap(pairs)
    return found


def noisy_group_figures(table: FloatTable, *, deviation: float, rows: int) -> dict[str, Figure]:
    """Returns the same of a table with noise; a gap holds whatever its groups' rates may be.

    Args:
        table: (groups, 4) noisy counts; NaN is withheld.
        deviation: of the noise of each.
        rows: in all; public.
    """
    found: dict[str, Figure] = {}
    together = 1 - (1 - LEVEL) / len(table)
    for name, (above, below) in _RATES.items():
        rest = [cell for cell in below if cell not in above]
        simultaneous: list[Figure] = []
        for number, cells in enumerate(table.tolist(), start=1):
            of_rate, others = [cells[cell] for cell in above], [cells[cell] for cell in rest]
            if any(map(math.isnan, (*of_rate, *others))):
                continue
            found[f"group.{number}.{name}"] = noisy_share(of_rate, others, deviation=deviation, rows=rows)
            simultaneous.append(noisy_share(of_rate, others, deviation=deviation, rows=rows, level=together))
        if len(simultaneous) == len(table) > 1:
            found[f"group.{name}_gap"] = noisy_gap(simultaneous)
    return found


def _gap(pairs: list[tuple[int, int]]) -> Figure:
    """The largest share less the smallest, with Newcombe's interval for as many comparisons as there are pairs of groups."""
    shares = [right / rows for right, rows in pairs]
    comparisons = len(pairs) * (len(pairs) - 1) // 2
    level = 1 - (1 - LEVEL) / comparisons
    gap = difference(pairs[int(np.argmax(shares))], pairs[int(np.argmin(shares))], level=level)
    return Figure(gap.value, min(gap.value, max(0.0, gap.low)), gap.high)
