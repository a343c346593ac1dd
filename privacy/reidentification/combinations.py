"""Proposes quasi-identifiers: the smallest sets of columns that make many rows unique, and what each column adds.

The rule: sets of one column, then two, up to `MAX_SET` are tried; the first size at which some set makes at least `MANY` of the
rows unique is the size of the sets that are reported, most unique rows first, at most `MAX_REPORTED`. All pairs are tried;
larger sets grow from the `BEAM` best of the size before by one column, so a larger set may be missed whose parts all do little.
What is proposed are the columns of the reported sets together.

Up to `EXACT_ROWS` rows are counted exactly. Of a longer table the search looks at those classes alone whose digest falls below a
bound, all rows of them, so that its estimate has no bias: with u unique rows and one class in s its standard error is the square
root of u * s. What is reported in the end is counted exactly again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.reidentification.classes import combined
from privacy.reidentification.coding import CodedColumn

MANY = 0.05
MAX_SET = 5
MAX_REPORTED = 5
BEAM = 8
EXACT_ROWS = 200_000


@dataclass(frozen=True)
class UniqueSet:
    """Some columns; for the owner's eyes.

    Attributes:
        columns: their names.
        unique: the share of rows that they make unique, from 0 to 1.
    """

    columns: tuple[str, ...]
    unique: float


@dataclass(frozen=True)
class Contribution:
    """What one column adds to a set; for the owner's eyes.

    Attributes:
        column: its name.
        alone: the share of rows that it makes unique by itself.
        added: the share of rows that the set makes unique, less that of the set without it.
    """

    column: str
    alone: float
    added: float


def smallest_sets(columns: Mapping[str, CodedColumn]) -> tuple[UniqueSet, ...]:
    """Finds the sets by the rule above; none if no set of at most `MAX_SET` columns makes many rows unique."""
    names = sorted(columns)
    best: list[UniqueSet] = []
    for size in range(1, min(MAX_SET, len(names)) + 1):
        tried = [UniqueSet(some, estimated_share([columns[name] for name in some])) for some in _next_sets(names, best, size)]
        tried.sort(key=_most_first)
        found = [one.columns for one in tried if one.unique >= MANY][:MAX_REPORTED]
        if found:
            return tuple(
                sorted((UniqueSet(some, unique_share([columns[name] for name in some])) for some in found), key=_most_first)
            )
        best = tried[:BEAM]
    return ()


def contributions(columns: Mapping[str, CodedColumn]) -> tuple[Contribution, ...]:
    """Measures what each column of a set, at least one, adds to it; the largest first."""
    everything = unique_share(list(columns.values()))
    measured = []
    for name, column in columns.items():
        others = [other for position, other in columns.items() if position != name]
        measured.append(Contribution(name, unique_share([column]), everything - (unique_share(others) if others else 0.0)))
    return tuple(sorted(measured, key=lambda one: (-one.added, -one.alone, one.column)))


def unique_share(columns: Sequence[CodedColumn]) -> float:
    """Returns the share of rows, at least one, that some columns, at least one, make unique."""
    digests = combined(columns)
    return _alone(digests) / len(digests)


def estimated_share(columns: Sequence[CodedColumn]) -> float:
    """Returns what `unique_share` does, estimated above `EXACT_ROWS` rows."""
    digests = combined(columns)
    num_rows = len(digests)
    one_in = math.ceil(num_rows / EXACT_ROWS)
    if one_in > 1:
        digests = digests[digests < np.uint64(2**64 // one_in)]
    return min(1.0, _alone(digests) * one_in / num_rows)


def _alone(digests: NDArray[np.uint64]) -> int:
    digests.sort()  # in place: of ten million rows every copy is 80 MB
    is_new = np.concatenate(([True], digests[1:] != digests[:-1], [True]))
    return int(np.count_nonzero(is_new[1:] & is_new[:-1])) if len(digests) else 0


def _most_first(one: UniqueSet) -> tuple[float, tuple[str, ...]]:
    return -one.unique, one.columns


def _next_sets(names: Sequence[str], best: Sequence[UniqueSet], size: int) -> Iterable[tuple[str, ...]]:
    if size <= 2:
        return list(itertools.combinations(names, size))
    return sorted({tuple(sorted((*one.columns, name))) for one in best for name in names if name not in one.columns})
