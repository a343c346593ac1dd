"""How the rotations of a linear step are shared: baby steps of the input, giant steps of the sums.

Diagonal n = g * split + b is the input rotated by b, times the diagonal rotated back by g * split, the sum rotated by g * split
(baby-step giant-step, Halevi and Shoup, CRYPTO 2014). Each baby is made from the one before, and sums are rotated while they are
gathered (as in Horner's rule), so that as many keys suffice as there are different gaps: two where all diagonals are there.

Where the rescale stands is a choice (`Rescale`). Before the giants, they and the folds cost less, one level lower, but the
rounding of every group, giant and fold stays in the sum. After the folds one rounding is left of all of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from protocols.ckks.costs import Counts, Primitive, PrimitiveCosts


class Rescale(Enum):
    """What is rescaled in a linear step."""

    NOTHING = ""  # the model's last: its product stays at the level of answers
    GROUPS = "groups"  # the products that share a giant, each
    SUM = "sum"  # all of it, after the folds


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
def count_grid(used: tuple[int, ...], split: int, level: int, folds: int, rescale: Rescale) -> Counts:
    """Returns the primitives of a linear step.

    Args:
        used: its diagonals, ascending.
        split: see `grid`.
        level: of the input.
        folds: how many rotations end it.
        rescale: what is rescaled.
    """
    babies = {number % split for number in used}
    giants = sorted({number // split for number in used})
    after = level - 1 if rescale is Rescale.GROUPS else level
    counts: Counts = Counter()
    counts[Primitive.ROTATE, level] += len(babies - {0})
    counts[Primitive.MULTIPLY_PLAIN, level] += len(used)
    counts[Primitive.ADD, level] += len(used) - len(giants)
    counts[Primitive.ROTATE, after] += len(gaps(giants)) + folds
    counts[Primitive.ADD, after] += len(giants) - 1 + folds
    counts[Primitive.ADD_PLAIN, level if rescale is Rescale.NOTHING else level - 1] += 1
    if rescale is not Rescale.NOTHING:
        counts[Primitive.RESCALE, level] += len(giants) if rescale is Rescale.GROUPS else 1
    return counts


def count_roundings(used: tuple[int, ...], split: int, folds: int, rescale: Rescale) -> tuple[float, float]:
    """Returns how many roundings a number of the input and one of the result hold, at the scales that they have.

    A rotation rounds as a rescale does. At the scale of products both are negligible; arguments as for `count_grid`.
    """
    babies = (len({number % split for number in used}) - 1) / 2  # each from the one before: half of them on the mean
    if rescale is not Rescale.GROUPS:
        return babies, float(rescale is Rescale.SUM)
    groups = len({number // split for number in used})
    return babies, 2 * groups * 2.0**folds - 1  # groups and the giants between, doubled by every fold, which rounds as well


def best_split(used: tuple[int, ...], costs: PrimitiveCosts, *, level: int, folds: int, rescale: Rescale) -> tuple[int, float]:
    """Returns the split that costs least, and its cost in seconds."""
    last = used[-1] + 1
    powers = [1 << power for power in range(last.bit_length() + 1)]
    candidates = sorted({*range(1, min(last, 64) + 1), *powers})
    found = [(costs.of(count_grid(used, split, level, folds, rescale)), split) for split in candidates]
    seconds, split = min(found)
    return split, seconds
