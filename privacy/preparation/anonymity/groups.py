"""Which rows are alike in some columns: the same number for the same cells, batch after batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.preparation.recipes.cells import is_text, trimmed

MAX_GROUP = 1_000_000  # more than that many rows alike, or different values among them, are not asked for


def as_read(column: pa.Array) -> pa.Array:
    """Returns the cells of a sensitive column as people read them: two ways to write a value do not make a group diverse."""
    return trimmed(column) if is_text(column.type) else column


class GroupIndex:
    """Numbers groups in the order of their first rows; memory grows with the number of groups, not of rows.

    A missing cell is a value of its own: whoever knows that a value is missing knows something. What is no number among numbers
    is missing.
    """

    def __init__(self) -> None:
        self._words: list[dict[object, int]] = []
        self._types: list[pa.DataType] = []
        self._groups: dict[bytes, int] = {}

    def __len__(self) -> int:
        """How many groups there are so far."""
        return len(self._groups)

    def codes(self, columns: Sequence[pa.Array]) -> NDArray[np.int64]:
        """Returns (rows, columns) int64: for each cell the number of its value in its column."""
        if not self._words:
            self._words = [{} for _ in columns]
            self._types = [column.type for column in columns]
        found = np.empty((len(columns[0]), len(columns)), np.int64)
        for position, (column, words) in enumerate(zip(columns, self._words, strict=True)):
            # NaN differs from itself: each batch would begin a group of its own.
            cells = pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column
            encoded = cells.dictionary_encode(null_encoding="encode")
            numbers = [words.setdefault(value, len(words)) for value in encoded.dictionary.to_pylist()]
            found[:, position] = np.array(numbers, np.int64)[encoded.indices.to_numpy()] if numbers else 0
        return found

    def ids(self, columns: Sequence[pa.Array]) -> NDArray[np.int64]:
        """Returns (rows,) int64: the group of each row by its cells in these columns, the same columns in every call."""
        if not len(columns[0]):
            return np.empty(0, np.int64)
        distinct, members = np.unique(self.codes(columns), axis=0, return_inverse=True)
        numbers = [self._groups.setdefault(one.tobytes(), len(self._groups)) for one in distinct]
        return np.array(numbers, np.int64)[members.reshape(-1)]

    def members(self) -> NDArray[np.int64]:
        """Returns (groups, columns) int64: for each group the numbers of its values."""
        return np.frombuffer(b"".join(self._groups), np.int64).reshape(len(self._groups), -1)

    def values(self, position: int) -> pa.Array:
        """Returns the values of a column by their numbers, of the column's type."""
        return pa.array(self._words[position], self._types[position])
