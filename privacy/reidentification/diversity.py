"""What a class gives away about a sensitive column even where nobody can be told apart in it.

l-diversity (Machanavajjhala et al., ICDE 2006): every class holds at least l distinct values; of entropy: the exponential of the
smallest entropy of a class. t-closeness (Li et al., ICDE 2007): the distribution in every class is at most t away from that of
the whole table, by the earth mover's distance: all values equally far apart, or numbers as far as the values between them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.reidentification.coding import CodedColumn

_BLOCK = 1 << 20  # entries of classes and values that are worked on at once


@dataclass(frozen=True)
class Diversity:
    """Of one sensitive column within the classes.

    Attributes:
        column: its name.
        distinct_l: the fewest distinct values of a class; a missing cell is a value.
        entropy_l: the exponential of the smallest entropy of a class.
        t: the largest distance of a class from the table, from 0 to 1.
        ordered: whether values are numbers, three or more, so that t is of the ordered distance; a missing cell stands below
            all numbers.
        single_valued_rows: rows in classes with a single value: whoever finds the class knows it.
    """

    column: str
    distinct_l: int
    entropy_l: float
    t: float
    ordered: bool
    single_valued_rows: int


def diversity(name: str, classes: NDArray[np.int64], column: CodedColumn) -> Diversity:
    """Measures a sensitive column within classes.

    Args:
        name: of the column.
        classes: (rows,) int64, from 0 without gaps; at least one row.
        column: of the same rows.
    """
    values, num_values = _values(column)
    overall = np.bincount(values, minlength=num_values) / len(values)
    # One entry for every value of every class, by class and value. Sorted in place: of ten million rows every copy is 80 MB.
    joint = classes * np.int64(num_values)
    joint += values
    del values
    joint.sort()
    starts = np.flatnonzero(np.concatenate(([True], joint[1:] != joint[:-1])))
    pairs, counts = joint[starts], np.diff(starts, append=len(joint))
    del joint, starts
    # Two values have one distance, whether they are written as 0 and 1 or as false and true.
    ordered = column.numbers is not None and num_values > 2
    distance = _Ordered(overall) if ordered else _Equal(overall)
    blocks = [_measure(*np.divmod(pairs[block], num_values), counts[block], distance) for block in _blocks(pairs, num_values)]
    return Diversity(
        column=name,
        distinct_l=min(block.distinct_l for block in blocks),
        entropy_l=min(block.entropy_l for block in blocks),
        t=max(block.t for block in blocks),
        ordered=ordered,
        single_valued_rows=sum(block.single_valued_rows for block in blocks),
    )


@dataclass(frozen=True)
class _Block:
    """Some classes: as `Diversity`."""

    distinct_l: int
    entropy_l: float
    t: float
    single_valued_rows: int


def _blocks(pairs: NDArray[np.int64], num_values: int) -> Iterator[slice]:
    """Cuts the sorted entries into blocks of whole classes, so that what is worked out for each entry needs little memory."""
    start = 0
    while start < len(pairs):
        end = len(pairs)
        if start + _BLOCK < end:
            last = pairs[start + _BLOCK] // num_values
            end = int(np.searchsorted(pairs, last * num_values))
            if end <= start:  # a class with more values than a block has room for
                end = int(np.searchsorted(pairs, (last + 1) * num_values))
        yield slice(start, end)
        start = end


def _measure(owner: NDArray[np.int64], value: NDArray[np.int64], counts: NDArray[np.int64], distance: _Distance) -> _Block:
    owner = owner - owner[0]
    rows_of_class = np.bincount(owner, weights=counts)
    shares = counts / rows_of_class[owner]
    entropies = -np.bincount(owner, weights=shares * np.log(shares))
    distinct = np.bincount(owner)
    return _Block(
        distinct_l=int(distinct.min()),
        entropy_l=float(np.exp(max(0.0, entropies.min()))),
        t=float(np.clip(distance.of_classes(owner, value, shares).max(), 0.0, 1.0)),
        single_valued_rows=int(rows_of_class[distinct == 1].sum()),
    )


def _values(column: CodedColumn) -> tuple[NDArray[np.int64], int]:
    """Which value stands in each row: numbers in their order, where 5 and 5.0 are one."""
    if column.numbers is None:
        return column.codes.astype(np.int64), len(column.digests)
    distinct, ranks = np.unique(column.numbers, return_inverse=True)
    return ranks.astype(np.int64)[column.codes], len(distinct)


class _Distance(ABC):
    """How far the distribution in a class is from that of the table; `overall`, (values,) float64, is the latter."""

    @abstractmethod
    def of_classes(self, owner: NDArray[np.int64], value: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the distance of each class, from the shares of the values that it holds, sorted by class and value."""


class _Equal(_Distance):
    """Half the sum of |p - q|; values that a class does not hold add their share in the table."""

    def __init__(self, overall: NDArray[np.float64]) -> None:
        self._overall = overall

    def of_classes(self, owner: NDArray[np.int64], value: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the base class says."""
        held = self._overall[value]
        gaps = np.bincount(owner, weights=np.abs(shares - held))
        absent = 1.0 - np.bincount(owner, weights=held)
        return np.asarray((gaps + absent) / 2)


class _Ordered(_Distance):
    """The sum of |P - Q| over the cumulated shares, divided by the number of values less one.

    P changes at the values that the class holds alone, so the sum goes over stretches from one of them to the next. Within a
    stretch P is constant and Q grows: Q is below P up to some value and not below it from there on, and prefix sums of Q give
    both parts at once. The work is that of the class's own values, however many values the table has.
    """

    def __init__(self, overall: NDArray[np.float64]) -> None:
        self._num_values = len(overall)
        self._cumulated = np.cumsum(overall)
        self._sums = np.concatenate(([0.0], np.cumsum(self._cumulated)))

    def of_classes(self, owner: NDArray[np.int64], value: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the base class says."""
        num_classes = int(owner[-1]) + 1
        if self._num_values == 1:
            return np.zeros(num_classes)
        starts_class = np.concatenate(([True], owner[1:] != owner[:-1]))
        # P from each held value on, restarted at every class.
        running = np.cumsum(shares)
        before = np.where(starts_class, np.concatenate(([0.0], running[:-1])), 0.0)
        level = running - np.maximum.accumulate(before)
        ends = np.concatenate((value[1:], [self._num_values]))
        ends[np.concatenate((starts_class[1:], [True]))] = self._num_values
        distances = np.bincount(owner, weights=self._stretch(level, value, ends), minlength=num_classes)
        # Below a class's first value P is 0 and the distance is Q itself.
        distances += self._sums[value[starts_class]]
        return np.asarray(distances / (self._num_values - 1))

    def _stretch(self, level: NDArray[np.float64], start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.float64]:
        """The sum of |level - Q| over the values from start to below end."""
        middle = np.clip(np.searchsorted(self._cumulated, level), start, end)
        below = level * (middle - start) - (self._sums[middle] - self._sums[start])
        above = (self._sums[end] - self._sums[middle]) - level * (end - middle)
        return np.asarray(below + above)
