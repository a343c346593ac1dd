"""The least loss that makes people alike: one rule for each quasi-identifier, and the rows that are left out.

Full-domain generalisation (Samarati 2001; LeFevre, DeWitt and Ramakrishnan, "Incognito", 2005; Kohlmayer et al., "Flash", 2012):
every column has levels from its values as they are to nothing of them, and a node of the lattice takes one level of each. Rows of
groups smaller than k, or with fewer than l values of a sensitive column, are left out, up to a share of all rows. A node's loss
is the mean over rows and columns of how much of a value is lost (Xu et al. 2006: the normalised certainty penalty), 1 for all
cells of a row that is left out.

The search is exact. Loss before rows are left out adds up over columns, and bounds the loss from below; nodes are looked at in
its order, until the bound of the next is not below the best that was found. What is less general in every column than a node
that leaves out too many rows leaves out as many, and is not looked at: levels of a column are nested. From each such node a chain
leads to the top; where on it rows first suffice is found by halving, which rules out the most below, and gives a loss to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.preparation.anonymity.generalisations import Bands, Generalisation
from privacy.preparation.anonymity.groups import MAX_GROUP
from privacy.preparation.recipes.cells import words
from protocols.errors import ConfideError, ErrorCode

MAX_NODES = 1_000_000
_MAX_KEY = 1 << 62


@dataclass(frozen=True)
class Hierarchy:
    """What can be made of one quasi-identifier; public.

    Attributes:
        column: its name.
        levels: rules from the finest to the coarsest; the values as they are come before them, dropping the column after them.
        span: width of the public range of a column of numbers, by which bands are weighed; None otherwise.
    """

    column: str
    levels: tuple[Generalisation, ...]
    span: float | None = None


@dataclass(frozen=True)
class Demand:
    """What is asked of the result.

    Attributes:
        k: the least number of rows that are alike, from 2 to `MAX_GROUP`.
        l: the least number of values of each sensitive column among them, from 1 to `MAX_GROUP`.
        left_out: the largest share of rows that may be left out, from 0 to below 1.
    """

    k: int
    l: int = 1  # noqa: E741  # the name of the measure
    left_out: float = 0.05


@dataclass(frozen=True)
class Anonymised:
    """The best node.

    Attributes:
        levels: for each hierarchy the number of its level: 0 as it is, its last plus one dropped.
        loss: of the node, from 0 to 1.
        left_out: how many rows are left out.
        smallest: rows of the smallest group that stays.
        looked_at: nodes that were tried.
        nodes: in the whole lattice.
    """

    levels: tuple[int, ...]
    loss: float
    left_out: int
    smallest: int
    looked_at: int
    nodes: int


def search(
    values: Sequence[pa.Array],
    tuples: NDArray[np.int64],
    counts: NDArray[np.int64],
    hierarchies: Sequence[Hierarchy],
    demand: Demand,
    sensitive: NDArray[np.int64] | None = None,
) -> Anonymised:
    """Finds the node of the least loss that fulfils a demand.

    Args:
        values: for each hierarchy the distinct values of its column, null for missing.
        tuples: (distinct, hierarchies) int64, numbers of values in `values`; the distinct rows, secret.
        counts: (distinct,) int64: how many rows each stands for.
        hierarchies: one for each quasi-identifier.
        demand: what is asked.
        sensitive: (distinct, columns) int64, numbers of the values of sensitive columns, if `demand.l` is above 1; the tuples are
            then distinct together with them.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a demand out of bounds, a rule for columns of another type, levels
            that are not nested, or a lattice of more than `MAX_NODES`; INVALID_DATA (the owner's): not even dropping all columns
            fulfils it, or a rule cannot read a value.
    """
    check_demand(demand, hierarchies)
    maps = [_levels(hierarchy, known) for hierarchy, known in zip(hierarchies, values, strict=True)]
    coded = [[level.codes[tuples[:, position]] for level in column] for position, column in enumerate(maps)]
    weights = counts / counts.sum()
    losses = [[float(weights @ level.losses[tuples[:, p]]) for level in column] for p, column in enumerate(maps)]
    nodes = int(np.prod([len(column) for column in maps], dtype=np.float64))
    if nodes > MAX_NODES:
        what = f"{nodes} combinations of levels; at most {MAX_NODES} are searched"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give fewer levels, or drop a column.")
    most = int(demand.left_out * counts.sum())
    best: Anonymised | None = None
    looked_at = 0

    @cache
    def fails(node: tuple[int, ...]) -> bool:
        """Whether a node leaves out too much; what does not may be the best."""
        nonlocal best, looked_at
        looked_at += 1
        alike, sizes = _groups([coded[position][level] for position, level in enumerate(node)], counts)
        kept = (sizes >= demand.k) & _diverse(alike, len(sizes), sensitive, demand.l)
        left_out = int(sizes[~kept].sum())
        if left_out > most or not kept.any():
            return True
        stays = kept[alike] * weights
        lost = sum(float(stays @ maps[p][level].losses[tuples[:, p]]) for p, level in enumerate(node)) / len(node)
        loss = lost + left_out / int(counts.sum())
        if best is None or loss < best.loss:
            best = Anonymised(node, loss, left_out, int(sizes[kept].min()), 0, nodes)
        return False

    bounds: NDArray[np.float64] = reduce(np.add.outer, [np.array(column) for column in losses]) / len(losses)
    failed = np.zeros(bounds.shape, bool)
    for place in np.argsort(bounds, axis=None, kind="stable"):
        if best is not None and bounds.flat[place] >= best.loss:
            break
        node = tuple(map(int, np.unravel_index(place, bounds.shape)))
        if not failed[node] and fails(node):
            failed[tuple(slice(level + 1) for level in _last_failing(node, losses, fails))] = True
    if best is None:
        what = f"no combination of levels makes {demand.k} rows alike without leaving out more than {most} rows"
        remedy = "Ask for a smaller k or l, allow more rows to be left out, or use more rows."
        raise ConfideError(ErrorCode.INVALID_DATA, what, remedy=remedy)
    return Anonymised(best.levels, best.loss, best.left_out, best.smallest, looked_at, nodes)


@dataclass(frozen=True)
class _Level:
    codes: NDArray[np.int64]  # of every value of the column: which coarser value it becomes
    losses: NDArray[np.float64]  # likewise: how much of it is lost


def _levels(hierarchy: Hierarchy, cells: pa.Array) -> list[_Level]:
    count = len(cells)
    levels = [_Level(np.arange(count), np.zeros(count))]
    for rule in hierarchy.levels:
        if not rule.takes(cells.type):
            what = f"column {hierarchy.column} holds {words(cells.type)}, and a rule for it needs {rule.NEEDS}"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Take another rule for the column.")
        if rule.unreadable(cells).any():
            what = f"column {hierarchy.column} has values that are not among {rule.NEEDS}"
            raise ConfideError(ErrorCode.INVALID_DATA, what, remedy="Correct them, or take another rule for the column.")
        codes = rule.apply(cells).dictionary_encode(null_encoding="encode").indices.to_numpy().astype(np.int64)
        if not _nested(codes, levels[-1].codes):
            what = f"column {hierarchy.column}: level {len(levels)} splits values that the level before it joins"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Give levels of which each joins whole ones: 5, 10, 20.")
        if isinstance(rule, Bands) and hierarchy.span is not None:
            losses = np.full(count, min(1.0, float(rule.width) / hierarchy.span))
        else:
            losses = (np.bincount(codes)[codes] - 1) / max(1, count - 1)
        # What a coarser level gives back of a finer one cannot be kept: a level never loses less than the one before it.
        levels.append(_Level(codes, np.maximum(losses, levels[-1].losses)))
    levels.append(_Level(np.zeros(count, np.int64), np.ones(count)))
    return levels


def _nested(coarser: NDArray[np.int64], finer: NDArray[np.int64]) -> bool:
    """Returns whether values that are alike on the finer level are alike on the coarser one."""
    return len(np.unique(finer)) == len(np.unique(np.stack([finer, coarser], axis=1), axis=0))


def _last_failing(
    node: tuple[int, ...], losses: Sequence[Sequence[float]], fails: Callable[[tuple[int, ...]], bool]
) -> tuple[int, ...]:
    """Returns the most general failing node of a chain from a failing node to the top, by halving the chain."""
    chain = [node]
    while steps := [
        (column[level + 1] - column[level], p)
        for p, (level, column) in enumerate(zip(chain[-1], losses, strict=True))
        if level + 1 < len(column)
    ]:
        position = min(steps)[1]
        chain.append(tuple(level + (p == position) for p, level in enumerate(chain[-1])))
    low, high = 0, len(chain)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fails(chain[middle]) else (low, middle)
    return chain[low]


def _groups(columns: Sequence[NDArray[np.int64]], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the group of each tuple, and how many rows each group has; some may have none."""
    alike, possible = np.zeros(len(counts), np.int64), 1
    for column in columns:
        width = int(column.max()) + 1
        if possible * width > _MAX_KEY:
            alike, possible = _numbered(alike)
        alike, possible = alike * width + column, possible * width
    if possible > 4 * len(counts):  # sorting is dear: where keys are few, most of them may as well be groups
        alike, possible = _numbered(alike)
    return alike, np.bincount(alike, weights=counts, minlength=possible).astype(np.int64)


def _numbered(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    distinct, numbers = np.unique(keys, return_inverse=True)
    return numbers.reshape(-1), len(distinct)


def _diverse(alike: NDArray[np.int64], groups: int, sensitive: NDArray[np.int64] | None, least: int) -> NDArray[np.bool_]:
    diverse = np.ones(groups, bool)
    if least > 1 and sensitive is not None:
        for column in sensitive.T:
            pairs = np.unique(np.stack([alike, column], axis=1), axis=0)
            diverse &= np.bincount(pairs[:, 0], minlength=groups) >= least
    return diverse


def check_demand(demand: Demand, hierarchies: Sequence[Hierarchy]) -> None:
    """Checks what is asked.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): bounds, or no hierarchy at all.
    """
    if not 2 <= demand.k <= MAX_GROUP or not 1 <= demand.l <= MAX_GROUP or not 0 <= demand.left_out < 1:
        what = f"k is from 2, l from 1, both to {MAX_GROUP}, and the share that may be left out from 0 to below 1"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    if not hierarchies:
        remedy = "Give the role quasi-identifier to the columns that give people away together."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "there is no quasi-identifier to generalise", remedy=remedy)
