"""Classes: rows with the same cells in some columns. Who knows these cells of a person finds the person in one of them.

k-anonymity (Samarati and Sweeney, 1998): every class has at least k rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.reidentification.coding import CodedColumn

# Classes are counted by their sizes in these steps: from each to below the next.
SIZE_STEPS = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class ClassSizes:
    """How large the classes are; counts of rows, for the owner's eyes until small ones are masked.

    Attributes:
        num_rows: rows in all.
        num_classes: classes in all.
        k: rows of the smallest class; 0 of an empty table.
        unique: rows that are alone in their class.
        rows_by_size: rows whose class has a size within each step of `SIZE_STEPS`.
    """

    num_rows: int
    num_classes: int
    k: int
    unique: int
    rows_by_size: tuple[int, ...]

    @property
    def mean_risk(self) -> float:
        """The chance to pick a row's person out of its class, averaged over the rows: classes divided by rows."""
        return self.num_classes / self.num_rows if self.num_rows else 0.0


def combined(columns: Sequence[CodedColumn]) -> NDArray[np.uint64]:
    """Returns (rows,) uint64: a digest of each row's cells in all of these columns, at least one.

    The digests of single cells are added modulo 2^64. Each is a function of its own key, so two rows that differ in some column
    get equal sums with probability 2^-64, as for single cells.
    """
    total: NDArray[np.uint64] = columns[0].digests[columns[0].codes]
    for column in columns[1:]:
        total += column.digests[column.codes]
    return total


def class_sizes(classes: NDArray[np.int64]) -> ClassSizes:
    """Measures classes; (rows,) says which one each row is in, from 0 without gaps."""
    counts = np.bincount(classes)
    steps = np.searchsorted(np.array(SIZE_STEPS), counts, side="right") - 1
    by_size = np.bincount(steps, weights=counts, minlength=len(SIZE_STEPS))
    return ClassSizes(
        num_rows=int(counts.sum()),
        num_classes=len(counts),
        k=int(counts.min()) if len(counts) else 0,
        unique=int(np.count_nonzero(counts == 1)),
        rows_by_size=tuple(int(rows) for rows in by_size),
    )


def class_numbers(columns: Sequence[CodedColumn]) -> NDArray[np.int64]:
    """Returns (rows,) int64: which class each row is in, from 0; of at least one column."""
    _, numbers = np.unique(combined(columns), return_inverse=True)
    return numbers.astype(np.int64, copy=False)
