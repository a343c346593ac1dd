"""How a binary model does in groups of rows, in shares: a confusion table for each group.

Groups are ranges of one feature. They show no more than the job says, and nobody sees which group a row is in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job import OutputKind, Task
from protocols.mpc.combination import Term
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.products import product
from protocols.mpc.primitives.staircase import threshold_bits
from protocols.mpc.programs.disclosure import keep_all_of_table, keep_large_groups, opened_where
from protocols.mpc.programs.measures import Block, CountedMeasure, Finished, GuardedMeasure
from protocols.mpc.programs.predict import predicted_classes
from protocols.mpc.values import SharedValue, ValueView
from protocols.ring import RingArray

CELLS = 4  # true negatives, false negatives, false positives, true positives
# From the order of the cells to that of the table, true class by predicted class, and how both follow from the sums of
# 1, label, prediction and their product.
_TO_TABLE = [0, 2, 1, 3]
_CELLS_OF_SUMS = np.array([[1, -1, -1, 1], [0, 1, 0, -1], [0, 0, 1, -1], [0, 0, 0, 1]], np.int64)
_SLACK = Fraction(1, 1024)  # of a unit of the last place: nine decimals of an edge are far finer


def edge_thresholds(edges: Sequence[str]) -> list[int]:
    """Returns the least shared number that is on the upper side of each edge; public.

    A feature is shared as the nearest multiple of 2^-16, an edge has nine decimals: a value that equals the edge is on its
    upper side however both were rounded, and one that is less by 2^-16 or more is on the lower.

    Args:
        edges: decimals from -1 to 1, ascending.
    """
    return [math.ceil(Fraction(Decimal(edge)) * (1 << VALUE_BITS) - Fraction(1, 2) - _SLACK) for edge in edges]


class GroupCounts(GuardedMeasure, CountedMeasure):
    """The confusion table of each group: (groups, 4) at 16 bits.

    Args:
        values: (rows,) int64 share at 16 bits: the feature by which all rows are grouped.
        edges: decimals from -1 to 1, ascending; public.
        min_cell: public.
    """

    def __init__(self, *, values: RingArray, edges: Sequence[str], min_cell: int) -> None:
        self._values = values
        self._thresholds = edge_thresholds(edges)
        self._min_cell = min_cell
        self._sums = np.zeros((len(edges) + 1, CELLS), np.int64)

    def add(self, engine: Engine, block: Block) -> Steps[None]:
        """See `Measure.add`."""
        values = np.ascontiguousarray(self._values[block.rows])
        bits, guesses = yield from together(threshold_bits(engine, values, self._thresholds), _predicted(engine, block.scores))
        labels = np.ascontiguousarray(block.labels.reshape(-1))
        both = yield from multiply(engine, guesses, labels)
        unit = np.int64(1 << VALUE_BITS)
        columns = np.stack([engine.public(np.full(len(labels), unit)), labels, guesses * unit, both], axis=1)
        all_rows = engine.public(np.ones((1, len(labels)), np.int64))
        reached = np.vstack([all_rows, bits, np.zeros_like(all_rows)])
        groups = SharedValue(np.ascontiguousarray(reached[:-1] - reached[1:]), scale_bits=0, magnitude_bits=1)
        right = SharedValue(columns, scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS)
        self._sums = self._sums + (yield from product(engine, ValueView(groups), ValueView(right)))

    def counted(self, engine: Engine) -> Steps[Finished]:
        """See `CountedMeasure.counted`."""
        del engine
        yield from ()
        return {OutputKind.GROUP_CONFUSION: self._cells()}

    def _cells(self) -> RingArray:
        return np.ascontiguousarray(self._sums @ _CELLS_OF_SUMS.T)

    def finish(self, engine: Engine) -> Steps[Finished]:
        """See `GuardedMeasure.finish`."""
        table = self._cells()
        if self._min_cell == 1:
            return {OutputKind.GROUP_CONFUSION: table}
        guarded = yield from guard_groups(engine, table, num_rows=len(self._values), min_cell=self._min_cell)
        return {OutputKind.GROUP_CONFUSION: guarded}


def guard_groups(engine: Engine, table: RingArray, *, num_rows: int, min_cell: int) -> Steps[RingArray]:
    """Replaces a table of groups by -1 throughout unless all of it may be opened; twelve rounds.

    The confusion table of all rows must be one that may be opened in full, and no cell of a group may be of 1 to `min_cell` - 1
    rows, so that no group is either. A table with gaps would tell too much: where all but one cell of a small group are shown to
    be empty, the label and the prediction of whoever is known to be in it are told.

    Args:
        engine: this party's engine.
        table: (groups, 4) int64 share at 16 fractional bits; secret.
        num_rows: of all data sets; public.
        min_cell: public, from 2.

    Learns: nobody anything; everything opened is uniform.
    """
    whole = table.sum(axis=0)[_TO_TABLE].reshape(2, 2)
    is_whole, are_large = yield from together(
        keep_all_of_table(engine, whole, num_rows=num_rows, min_cell=min_cell),
        keep_large_groups(engine, table.reshape(-1), min_cell=min_cell),
    )
    kept = yield from multiply(engine, is_whole, are_large)
    return (yield from opened_where(engine, kept, table))


def _predicted(engine: Engine, scores: Term) -> Steps[RingArray]:
    classes = yield from predicted_classes(engine, Task.BINARY, scores)
    return classes.labels.reshape(-1)
