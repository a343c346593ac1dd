"""Rows that stand on both sides of an attack: nothing can tell these apart, so an attack on them finds less than there is.

Of a table with few values some rows of other people are alike by chance; they are then as often alike among the members too.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from protocols.errors import Problem

_MOST_SHARED = 0.5  # of the others beyond what values in common explain; of 20 that lies over four deviations off
_UNLIKELY = 7  # rows in both though neither side has one twice: as likely on either side as across, so by chance 1 in 128


def problem_of_rows_in_both(
    members: NDArray[np.float64], others: NDArray[np.float64], *, where: str, what: str, remedy: str
) -> Problem | None:
    """Returns what is wrong with others of whom more are among the members than values in common explain; None if nothing is.

    Args:
        members: (rows, columns) float64, secret.
        others: likewise, of the same columns.
        where: what the others are called.
        what: of them, for people.
        remedy: for people.
    """
    first, second = ([row.tobytes() for row in np.ascontiguousarray(part)] for part in (members, others))
    known, asked = Counter(first), Counter(second)
    alike, twice = sum(row in known for row in second), sum(known[row] > 1 for row in first)
    is_every_row_once = len(known) == len(first) and len(asked) == len(second)
    beyond = alike / max(1, len(second)) - twice / max(1, len(first))
    if beyond <= _MOST_SHARED and not (is_every_row_once and alike >= _UNLIKELY):
        return None
    return Problem(where, f"{alike} of {len(second)} rows are {what}, so nothing could tell them apart", remedy)
