"""What a released table tells about the rows that it was made from: singling out, linkability and inference, against a control.

The three questions are those of the Article 29 Working Party's opinion on anonymisation (2014). Each is put to the rows behind
the table and to a control, as many rows of the same kind that the table was not made from: what succeeds on both tells of
everybody, and only what succeeds more often on the rows behind the table tells of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.figures import Figure
from privacy.risk.intervals import difference
from protocols.errors import ConfideError, ErrorCode

CLOSE = 0.05  # of a column's range: numbers no further apart count as equal
MAX_ATTEMPTS = 500  # of each attack
ASKED_COLUMNS = 4  # of a guess that singles out
_BLOCK = 1 << 22  # distances at once


@dataclass(frozen=True, eq=False, repr=False)
class ReleasedTable:
    """A table, and rows behind it; all (rows, columns) float64 of the same columns, categories as whole numbers; secret.

    Attributes:
        released: what is released.
        behind: rows that it was made from.
        control: other rows of the same kind.
        is_category: (columns,), which columns are categories.
    """

    released: NDArray[np.float64]
    behind: NDArray[np.float64]
    control: NDArray[np.float64]
    is_category: NDArray[np.bool_]


def table_figures(table: ReleasedTable, *, secret: int, generator: np.random.Generator) -> dict[str, Figure]:
    """Returns `table.singling_out.gain`, `table.linkability.gain` and `table.inference.gain`, each with its interval.

    Args:
        table: what is judged; at least four columns.
        secret: the column that inference guesses.
        generator: the randomness.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): tables of other columns, too few of them, or without rows.
    """
    parts = (table.released, table.behind, table.control)
    width = len(table.is_category)
    if width < ASKED_COLUMNS or not all(part.ndim == 2 and part.shape[1] == width and len(part) for part in parts):
        raise ConfideError(ErrorCode.INVALID_DATA, f"a table is judged by rows of the same {ASKED_COLUMNS} or more columns")
    if not 0 <= secret < width or not all(np.isfinite(part).all() for part in parts):
        raise ConfideError(ErrorCode.INVALID_DATA, "a table is judged by finite cells, and by a column of it")
    scaled = _scaled(table)
    size = min(len(scaled.behind), len(scaled.control))
    behind, control = (part[generator.permutation(len(part))[:size]] for part in (scaled.behind, scaled.control))
    attempts = min(size, MAX_ATTEMPTS)
    asked = (behind[:attempts], control[:attempts])
    halves = np.array_split(generator.permutation(width), 2)
    known = np.delete(np.arange(width), secret)
    return {
        "table.singling_out.gain": _singling_out(scaled, behind, control, generator),
        "table.linkability.gain": _gain([_linked(scaled, rows, halves[0], halves[1]) for rows in asked]),
        "table.inference.gain": _gain([_inferred(scaled, rows, known, secret) for rows in asked]),
    }


def _singling_out(
    table: ReleasedTable, behind: NDArray[np.float64], control: NDArray[np.float64], generator: np.random.Generator
) -> Figure:
    """Cells of a released row, guessed to fit one row alone; the same guesses are put to as many rows of the control."""
    successes, guesses = np.zeros(2, np.int64), min(len(table.released), MAX_ATTEMPTS)
    for row in table.released[generator.permutation(len(table.released))[:guesses]]:
        columns = generator.permutation(len(row))[:ASKED_COLUMNS]
        tolerance = np.where(table.is_category[columns], 0.0, CLOSE)
        for side, rows in enumerate((behind, control)):
            fitting = (np.abs(rows[:, columns] - row[columns]) <= tolerance).all(axis=1)
            successes[side] += fitting.sum() == 1
    return difference((int(successes[0]), guesses), (int(successes[1]), guesses))


def _linked(
    table: ReleasedTable, rows: NDArray[np.float64], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Whether two parts of a person's columns, known apart, lead to one and the same released row, and to no other."""
    places = [_nearest(table, rows, columns) for columns in (first, second)]
    return np.asarray((places[0] == places[1]) & (places[0] >= 0))


def _inferred(table: ReleasedTable, rows: NDArray[np.float64], known: NDArray[np.intp], secret: int) -> NDArray[np.bool_]:
    """Whether the released row that is nearest in all other columns has the secret value."""
    places = _nearest(table, rows, known, ties=False)
    tolerance = 0.0 if table.is_category[secret] else CLOSE
    return np.asarray(np.abs(table.released[places, secret] - rows[:, secret]) <= tolerance)


def _nearest(
    table: ReleasedTable, rows: NDArray[np.float64], columns: NDArray[np.intp], *, ties: bool = True
) -> NDArray[np.intp]:
    """The nearest released row of each row; -1 where several are as near, if `ties` are told."""
    released, block = table.released[:, columns], max(1, _BLOCK // max(1, table.released[:, columns].size))
    category = table.is_category[columns]
    found = []
    for start in range(0, len(rows), block):
        apart = np.abs(rows[start : start + block, None, columns] - released[None])
        distances = np.where(category, apart > 0, apart).sum(axis=2)
        places = distances.argmin(axis=1)
        if ties:
            least = distances.min(axis=1, keepdims=True)
            places = np.where((distances <= least + 1e-12).sum(axis=1) == 1, places, -1)
        found.append(places)
    return np.concatenate(found)


def _gain(sides: list[NDArray[np.bool_]]) -> Figure:
    behind, control = ((int(side.sum()), len(side)) for side in sides)
    return difference(behind, control)


def _scaled(table: ReleasedTable) -> ReleasedTable:
    """Numbers as shares of their range in all rows; categories as they are."""
    everything = np.concatenate([table.released, table.behind, table.control])
    low = np.where(table.is_category, 0.0, everything.min(axis=0))
    span = np.where(table.is_category, 1.0, np.maximum(everything.max(axis=0) - everything.min(axis=0), 1e-12))
    return ReleasedTable(
        released=(table.released - low) / span,
        behind=(table.behind - low) / span,
        control=(table.control - low) / span,
        is_category=table.is_category,
    )
