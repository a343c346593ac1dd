"""The minimum cell, applied in shares before anything is opened (docs/protocols/evaluation.md says why these rules).

With c the minimum cell and n the rows in all, n public, nothing that is opened shows a group of 1 to c - 1 rows, and nothing
that is opened, with n and the other outputs, has such a group as its only explanation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import VALUE_BITS
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.multiplication import multiply
from protocols.mpc.primitives.staircase import staircase, threshold_bits
from protocols.ring import RingArray

WITHHELD = -1  # what is opened for a cell or a rate that must not be


@dataclass(frozen=True, repr=False)
class GuardedCount:
    """A count that may be opened, and the bit that says that it is exact; shares.

    Attributes:
        count: (1,) at 16 bits: the count, or 0 if it is below c, or n if n less the count is.
        is_exact: (1,), 0 or 1.
    """

    count: RingArray
    is_exact: RingArray


def guard_count(engine: Engine, count: RingArray, *, num_rows: int, min_cell: int) -> Steps[GuardedCount]:
    """Coarsens a count of rows where it or its complement is a group of fewer than `min_cell` rows; five rounds.

    Args:
        engine: this party's engine.
        count: (1,) int64 share at 16 fractional bits, from 0 to num_rows; secret.
        num_rows: of all data sets; public.
        min_cell: public, from 1; with 1 nothing is changed.

    Learns: nobody anything; everything opened is uniform.
    """
    if min_cell == 1:
        return GuardedCount(count, engine.public(np.ones(1, np.int64)))
    upper = max(min_cell, num_rows - min_cell + 1)
    bits = yield from threshold_bits(engine, count, (min_cell << VALUE_BITS, upper << VALUE_BITS))
    is_exact = bits[0] - bits[1]
    kept = yield from multiply(engine, is_exact, count)
    return GuardedCount(kept + np.int64(num_rows << VALUE_BITS) * bits[1], is_exact)


def guard_table(engine: Engine, table: RingArray, *, is_exact: RingArray, min_cell: int) -> Steps[RingArray]:
    """Replaces the cells of a table of counts that must not be opened by -1; eleven rounds.

    Diagonal and other cells are two groups, whose sums the guarded count of correct rows shows. In each, with s the rows in
    cells below c: if s is 0, all cells are opened; if s is at least c and the cells could hold more, those from c on; else none.

    Args:
        engine: this party's engine.
        table: (classes, classes) int64 share at 16 fractional bits; secret.
        is_exact: (1,) share of 0 or 1: whether the count of correct rows is opened exactly; if not, no cell is opened.
        min_cell: public, from 1; with 1 nothing is changed.

    Learns: nobody anything; everything opened is uniform.
    """
    if min_cell == 1:
        return table
    cells, diagonal = table.reshape(-1), np.eye(len(table), dtype=np.int64).reshape(-1)
    kept = yield from keep_cells(engine, cells, groups=np.stack([diagonal, 1 - diagonal]), min_cell=min_cell)
    kept = yield from multiply(engine, kept, is_exact)
    opened = yield from multiply(engine, kept, cells)
    unit = np.int64(1 << VALUE_BITS)
    return (opened + unit * np.int64(WITHHELD) * (engine.public(np.ones_like(kept)) - kept)).reshape(table.shape)


def keep_cells(engine: Engine, cells: RingArray, *, groups: NDArray[np.int64], min_cell: int) -> Steps[RingArray]:
    """Returns for each cell of a list of counts whether it may be opened, 0 or 1; nine rounds.

    In each group, with s the rows in cells below c: if s is 0, all cells may be; if s is at least c and the cells could hold
    more, those from c on; else none.

    Args:
        engine: this party's engine.
        cells: (cells,) int64 share at 16 fractional bits; secret.
        groups: (groups, cells) of 0 and 1: the cells of each group, whose sum is known from elsewhere; a cell is in one; public.
        min_cell: public, from 2.

    Learns: nobody anything; everything opened is uniform.
    """
    unit = np.int64(1 << VALUE_BITS)
    steps = yield from staircase(engine, cells, [min_cell << VALUE_BITS])
    is_large, large = steps.bits[0], steps.products[0]
    small_rows = groups @ (cells - large)
    small_cells = groups @ (engine.public(np.ones_like(is_large)) - is_large)
    # Cells that all hold c - 1 rows have but one explanation.
    slack = (small_cells * np.int64(min_cell - 1) - engine.public(np.ones(len(groups), np.int64))) * unit - small_rows
    found, has_slack = yield from together(
        threshold_bits(engine, small_rows, (1 << VALUE_BITS, min_cell << VALUE_BITS)), nonnegative(engine, slack)
    )
    some, enough = found[0], found[1]
    opens_large = yield from multiply(engine, enough, has_slack)
    # Where no row is in a small cell, the bit for large cells is not needed: enough is 0 then.
    none = engine.public(np.ones(len(groups), np.int64)) - some
    kept: RingArray = (yield from multiply(engine, groups.T @ opens_large, is_large)) + groups.T @ none
    return kept


def guard_rate(engine: Engine, rate: RingArray, *, groups: RingArray, min_cell: int) -> Steps[RingArray]:
    """Replaces a rate by -1 if a group behind it has fewer than `min_cell` rows; six rounds.

    Args:
        engine: this party's engine.
        rate: (1,) int64 share at 16 fractional bits; secret.
        groups: (2,) int64 share at 16 fractional bits: rows of either group; secret.
        min_cell: public, from 1.

    Learns: nobody anything; everything opened is uniform.
    """
    bits = yield from nonnegative(engine, groups - engine.public(np.full(2, min_cell << VALUE_BITS, np.int64)))
    both = yield from multiply(engine, bits[:1], bits[1:])
    kept = yield from multiply(engine, both, rate)
    return kept + np.int64(WITHHELD << VALUE_BITS) * (engine.public(np.ones(1, np.int64)) - both)


def guard_mean(engine: Engine, mean: RingArray, *, groups: RingArray, min_cell: int) -> Steps[RingArray]:
    """Replaces a mean over rows of several groups by -1 if one of them has 1 to `min_cell` - 1 rows; nine rounds.

    A mean of losses under a model that its querier knows is a known combination of the groups' sizes. A group without rows takes
    no part in it.

    Args:
        engine: this party's engine.
        mean: (1,) int64 share at 16 fractional bits; secret.
        groups: (groups,) int64 share at 16 fractional bits: rows of each; secret.
        min_cell: public, from 1; with 1 nothing is changed.

    Learns: nobody anything; everything opened is uniform.
    """
    if min_cell == 1:
        return mean
    kept = yield from keep_large_groups(engine, groups, min_cell=min_cell)
    opened = yield from multiply(engine, kept, mean)
    return opened + np.int64(WITHHELD << VALUE_BITS) * (engine.public(np.ones(1, np.int64)) - kept)


def keep_large_groups(engine: Engine, groups: RingArray, *, min_cell: int) -> Steps[RingArray]:
    """Returns whether no group has 1 to `min_cell` - 1 rows, 0 or 1, (1,); eight rounds.

    Args:
        engine: this party's engine.
        groups: (groups,) int64 share at 16 fractional bits: rows of each; secret.
        min_cell: public, from 2.

    Learns: nobody anything; everything opened is uniform.
    """
    bits = yield from threshold_bits(engine, groups, (1 << VALUE_BITS, min_cell << VALUE_BITS))
    return (yield from nonnegative(engine, -(bits[0] - bits[1]).sum().reshape(1)))


def keep_exact_count(engine: Engine, count: RingArray, *, num_rows: int, min_cell: int) -> Steps[RingArray]:
    """Returns whether a count of correct rows is opened exactly, 0 or 1, (1,); arguments and leakage as `guard_count`."""
    guarded = yield from guard_count(engine, count, num_rows=num_rows, min_cell=min_cell)
    return guarded.is_exact


def keep_all_of_table(engine: Engine, table: RingArray, *, num_rows: int, min_cell: int) -> Steps[RingArray]:
    """Returns whether all four cells of a binary confusion table may be opened, 0 or 1, (1,); ten rounds.

    Either both cells of its diagonal may be or none, and likewise the others: a single small cell takes the other with it.

    Args:
        engine: this party's engine.
        table: (2, 2) int64 share at 16 fractional bits; secret.
        num_rows: of all data sets; public.
        min_cell: public, from 2.

    Learns: nobody anything; everything opened is uniform.
    """
    diagonal = np.eye(2, dtype=np.int64).reshape(-1)
    groups = np.stack([diagonal, 1 - diagonal])
    kept, is_exact = yield from together(
        keep_cells(engine, table.reshape(-1), groups=groups, min_cell=min_cell),
        keep_exact_count(engine, np.trace(table).reshape(1), num_rows=num_rows, min_cell=min_cell),
    )
    both = yield from multiply(engine, kept[:1], kept[1:2])
    return (yield from multiply(engine, both, is_exact))


def guard_bins(
    engine: Engine, table: RingArray, *, cells: RingArray, groups: NDArray[np.int64], gate: Steps[RingArray], min_cell: int
) -> Steps[RingArray]:
    """Replaces rows of a table by -1 throughout unless both counts that a row stands for may be opened beside their groups' sums.

    Args:
        engine: this party's engine.
        table: (bins, columns) int64 share at 16 fractional bits; secret.
        cells: (2 bins,): the one count of every bin, then the other; secret.
        groups: (groups, 2 bins), as for `keep_cells`.
        gate: gives whether the sums of all groups may be opened, 0 or 1, (1,); if not, no cell may be, since the cells of a group
            would give away its sum, and that the others'.
        min_cell: public, from 2.

    Learns: nobody anything; everything opened is uniform.
    """
    kept, whole = yield from together(keep_cells(engine, cells, groups=groups, min_cell=min_cell), gate)
    kept, bins = (yield from multiply(engine, kept, whole)), len(table)
    both = yield from multiply(engine, kept[:bins], kept[bins:])
    return (yield from opened_where(engine, both[:, None], table))


def opened_where(engine: Engine, kept: RingArray, values: RingArray) -> Steps[RingArray]:
    """Returns values where they are kept and -1 elsewhere; one round.

    Args:
        engine: this party's engine.
        kept: share of 0 or 1, of a shape that broadcasts to that of the values; secret.
        values: int64 share at 16 fractional bits; secret.

    Learns: nobody anything; everything opened is uniform.
    """
    opened = yield from multiply(engine, kept, values)
    return opened + np.int64(WITHHELD << VALUE_BITS) * (engine.public(np.ones_like(kept)) - kept)
