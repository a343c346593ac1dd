"""Rows of a table on their way through a technique, and what a technique may know of the whole table.

Cells are scaled by the public range of their column to [-1, 1]; NaN is a missing cell. A column may have a grid: the distance
of the values that it can take, for example 2 for a boolean. Made cells are put on the grid, so that no row has 1.7 children.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn, Protocol, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.augmentation.technique import Settings, Technique
from protocols.errors import ConfideError, ErrorCode

_BINS = 64
_COLUMNS_A_COPY = 1 << 20  # draws of one row: copy, column and purpose never share a number
_PURPOSES = 4


class Draws(Protocol):
    """Randomness of single rows; `RowRandomness` is one."""

    def uniform(self, rows: NDArray[np.int64], draw: int = 0) -> NDArray[np.float64]:
        """Returns (rows,) float64 in [0, 1) that follow from the rows' numbers and the number of the draw."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class TableRows:
    """Some rows of one owner; secret: no repr, no equality, no pickling.

    Attributes:
        numbers: (rows,) int64, by which randomness is drawn; no two rows of a table share one.
        features: (rows, features) float64 in [-1, 1], NaN where a cell is missing.
        labels: (rows,) int64, classes from 0.
    """

    numbers: NDArray[np.int64]
    features: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: rows do not travel by pickle."""
        raise TypeError("rows are not pickled")


@dataclass(frozen=True, eq=False, repr=False)
class Made:
    """One copy of a batch; secret.

    Attributes:
        features: (rows, features) float64 in [-1, 1], of the batch's rows in order; labels stay what they are.
        kept: (rows,) which of them are meant; the others are no rows.
    """

    features: NDArray[np.float64]
    kept: NDArray[np.bool_]


class Marginals:
    """How often each value stands in each column, with bounded memory: up to 64 values each, else a histogram of 64 bins."""

    def __init__(self, features: int) -> None:
        self._bins = np.zeros((features, _BINS))
        self._values: list[Counter[float] | None] = [Counter() for _ in range(features)]

    def see(self, features: NDArray[np.float64]) -> None:
        """Counts the cells of a batch that are not missing."""
        for column, cells in enumerate(features.T):
            present = cells[~np.isnan(cells)]
            places = np.minimum(((present + 1) / 2 * _BINS).astype(np.int64), _BINS - 1)
            self._bins[column] += np.bincount(places, minlength=_BINS)
            values = self._values[column]
            if values is not None:
                found, counts = np.unique(present, return_counts=True)
                values.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
                if len(values) > _BINS:
                    self._values[column] = None

    def draw(self, column: int, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns values of a column, as often as they were seen.

        Args:
            column: from 0.
            uniform: (rows,) float64 in [0, 1).

        Raises:
            ConfideError: INVALID_DATA (the owner's fault): all cells of the column are missing.
        """
        values = self._values[column]
        ordered = sorted(values) if values is not None else []
        weights = np.array([values[value] for value in ordered], float) if values is not None else self._bins[column]
        if not weights.sum():
            raise ConfideError(
                ErrorCode.INVALID_DATA,
                f"column {column + 1} of those to be augmented has no cell that is not missing",
                remedy="Leave the column out of the step, or drop it.",
            )
        ends = np.cumsum(weights) / weights.sum()
        chosen = np.minimum(np.searchsorted(ends, uniform, side="right"), len(weights) - 1)
        if values is not None:
            drawn: NDArray[np.float64] = np.array(ordered, float)[chosen]
            return drawn
        # What is left of the uniform number within its bin is uniform again.
        starts = np.concatenate([[0.0], ends[:-1]])
        inside = np.clip((uniform - starts[chosen]) * weights.sum() / np.maximum(weights[chosen], 1), 0.0, 1.0)
        spread: NDArray[np.float64] = (chosen + inside) / _BINS * 2 - 1
        return spread


class TableSurvey:
    """What a technique that reads the whole table learns of it; secret."""

    def __init__(self, features: int) -> None:
        self.marginals = Marginals(features)
        self.classes: Counter[int] = Counter()

    def see(self, rows: TableRows) -> None:
        """Looks at a batch; every batch comes once."""
        self.marginals.see(rows.features)
        self.classes.update(rows.labels.tolist())


@dataclass(frozen=True, eq=False, repr=False)
class Start:
    """What a technique begins with on one table.

    Attributes:
        settings: its parameters.
        copies: how many copies are made of each row at most.
        draws: the randomness of rows.
        grid: (features,) float64, the distance of the values that a column can take; 0 where it can take any.
        survey: of the whole table; None for a technique that does not read it.
    """

    settings: Settings
    copies: int
    draws: Draws
    grid: NDArray[np.float64]
    survey: TableSurvey | None

    def learnt(self) -> TableSurvey:
        """The survey of a technique that has one."""
        if self.survey is None:
            raise ConfideError(ErrorCode.INTERNAL, "a technique that reads the whole table began without a survey")
        return self.survey


Maker: TypeAlias = Callable[[TableRows], Iterator[Made]]  # once a batch, in the order of the rows; yields every copy


@dataclass(frozen=True, kw_only=True)
class TableTechnique(Technique):
    """A technique for tables.

    Attributes:
        begin: begins the work on one table.
        by_class: whether it needs the rows' classes.
        changes_cells: whether made rows differ from the row they are made of.
    """

    begin: Callable[[Start], Maker]
    by_class: bool = False
    changes_cells: bool = True


def cell_draws(draws: Draws, rows: TableRows, copy: int, purpose: int = 0) -> NDArray[np.float64]:
    """Returns (rows, features) uniform numbers in [0, 1).

    Args:
        draws: the randomness.
        rows: whose they are.
        copy: the number of the copy, from 0.
        purpose: 0 to 3; another purpose gives independent numbers.
    """
    first = (copy * _COLUMNS_A_COPY) * _PURPOSES + purpose
    columns = range(rows.features.shape[1])
    return np.stack([draws.uniform(rows.numbers, first + column * _PURPOSES) for column in columns], axis=1)


def row_draws(draws: Draws, rows: TableRows, copy: int) -> NDArray[np.float64]:
    """Returns (rows,) uniform numbers in [0, 1), independent of those of cells; `copy` counts from 0."""
    return draws.uniform(rows.numbers, (copy * _COLUMNS_A_COPY + _COLUMNS_A_COPY - 1) * _PURPOSES)


def on_grid(features: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns cells within [-1, 1], those of columns with a grid on the nearest of its values."""
    limited = np.clip(features, -1.0, 1.0)
    stepped = grid > 0
    distance = np.where(stepped, grid, 1.0)
    near = np.clip(np.rint((limited + 1) / distance) * distance - 1, -1.0, 1.0)
    return np.where(stepped, near, limited)
