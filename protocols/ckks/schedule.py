"""How the rotations of a linear step are shared: baby steps of the input, giant steps of the sums.

Diagonal n = g * split + b is the input rotated by b, times the diagonal rotated back by g * split, the sum rotated by g * split
(baby-step giant-step, Halevi and Shoup, CRYPTO 2014). Each baby is made from the one before, and sums are rotated while they are
gathered (as in Horner's rule), so that as many keys suffice as there are different gaps: two where all diagonals are there.
Giants rotate after the rescale, one level lower than babies, where they cost less.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from protocols.ckks.costs import Counts, Primitive, PrimitiveCosts


@dataclass(frozen=True)
class Grid:
    """The diagonals of a linear step by giants and babies.

    Attributes:
        split: how many diagonals share a giant.
        babies: the rotations of the input that are used, ascending, counted in units.
        groups: from the largest giant to the smallest: the giant, counted in units, and its (baby, diagonal) pairs.
    """

    split: int
    babies: tuple[int, ...]
    groups: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


def grid(used: Sequence[int], split: int) -> Grid:
    """Returns the grid of some diagonals where `split` of them share a giant."""
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number in used:
        groups[number // split * split].append((number % split, number))
    babies = tuple(sorted({number % split for number in used}))
    return Grid(split, babies, tuple((giant, tuple(groups[giant])) for giant in sorted(groups, reverse=True)))


def gaps(ascending: Sequence[int]) -> list[int]:
    """Returns the differences of what follows one another, from 0 on, without zeros."""
    return [after - before for before, after in zip((0, *ascending), ascending, strict=False) if after != before]


@lru_cache(maxsize=1 << 14)
def count_grid(used: tuple[int, ...], split: int, level: int, folds: int, *, rescales: bool) -> Counts:
    """Returns the primitives of a linear step.

    Args:
        used: its diagonals, ascending.
        split: see `grid`.
        level: of the input.
        folds: how many rotations end it.
        rescales: whether sums are rescaled.
    """
    babies = {number % split for number in used}
    giants = sorted({number // split for number in used})
    after = level - 1 if rescales else level
    counts: Counts = Counter()
    counts[Primitive.ROTATE, level] += len(babies - {0})
    counts[Primitive.MULTIPLY_PLAIN, level] += len(used)
    counts[Primitive.ADD, level] += len(used) - len(giants)
    counts[Primitive.ROTATE, after] += len(gaps(giants)) + folds
    counts[Primitive.ADD, after] += len(giants) - 1 + folds
    counts[Primitive.ADD_PLAIN, after] += 1
    if rescales:
        counts[Primitive.RESCALE, level] += len(giants)
    return counts


def best_split(used: tuple[int, ...], costs: PrimitiveCosts, *, level: int, folds: int, rescales: bool) -> tuple[int, float]:
    """Returns the split that costs least, and its cost in seconds."""
    last = used[-1] + 1
    powers = [1 << power for power in range(last.bit_length() + 1)]
    candidates = sorted({*range(1, min(last, 64) + 1), *powers})
    found = [(costs.of(count_grid(used, split, level, folds, rescales=rescales)), split) for split in candidates]
    seconds, split = min(found)
    return split, seconds
