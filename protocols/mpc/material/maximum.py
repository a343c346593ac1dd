"""Material of a maximum: masks for values and for their numbers of wins, and one-hot tables of the latter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.mpc.material.context import Material, Shape
from protocols.ring import RingArray, unsigned


@dataclass(frozen=True)
class WinnerMaterial:
    """Shares (or plaintexts) for values that have won a number of comparisons each.

    Attributes:
        values: mask of the values.
        wins: mask of the numbers of wins; its top `bits` bits hide them.
        table: (2^bits, *shape), 1 in the row that the mask's top bits name, 0 in the others.
        value_table: the table times the mask of the values.
    """

    values: RingArray
    wins: RingArray
    table: RingArray
    value_table: RingArray


def winner(material: Material, shape: Shape, bits: int) -> WinnerMaterial:
    """Everything to find the value that won a given number of comparisons, less than 2^bits."""
    values, wins = material.uniform(shape), material.uniform(shape)
    table = material.derived(lambda: _table(wins, bits), (1 << bits, *shape))
    value_table = material.derived(lambda: _table(wins, bits) * values[None], (1 << bits, *shape))
    return WinnerMaterial(values, wins, table, value_table)


def _table(mask: RingArray, bits: int) -> RingArray:
    top = (unsigned(mask) >> np.uint64(64 - bits)).astype(np.intp)
    rows = np.arange(1 << bits).reshape(-1, *([1] * mask.ndim))
    return np.asarray(rows == top[None], np.int64)
