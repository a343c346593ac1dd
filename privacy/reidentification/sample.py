"""A sample of whole rows, drawn while a table goes by, for what need not look at every row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, SupportsIndex

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from privacy.preparation.recipes.row_randomness import RowRandomness
from privacy.preparation.recipes.step import Columns, Rows
from privacy.reidentification.coding import written
from protocols.secrets import SecretBytes

MAX_SAMPLE = 20_000
_STEP = "reidentification-sample"


class RowSample:
    """Keeps every row with the same chance, and about `MAX_SAMPLE` of them in the end; secret.

    A row stays while a number that its place in the file and the seed determine is below a bound; the bound is halved whenever
    too many have come together, so batches of any size give the same sample.

    Args:
        seed: 32 random bytes of this run; secret.
        columns: the columns that come.
    """

    def __init__(self, seed: SecretBytes, columns: Columns) -> None:
        self._randomness = RowRandomness(seed, _STEP)
        self._bound = 1.0
        self._draws = np.empty(0, np.float64)
        self._batches: list[pa.RecordBatch] = []
        self._empty = {name: pa.array([], pa.string()) for name in columns}
        self.num_rows = 0

    def see(self, rows: Rows) -> None:
        """Looks at a batch, in the order of the rows."""
        self.num_rows += len(rows)
        draws = self._randomness.uniform(rows.numbers)
        self._keep(draws, rows.cells)
        while len(self._draws) > 2 * MAX_SAMPLE:
            self._bound /= 2
            draws, self._draws = self._draws, np.empty(0, np.float64)
            batches, self._batches = self._batches, []
            position = 0
            for batch in batches:
                self._keep(draws[position : position + batch.num_rows], batch)
                position += batch.num_rows

    def texts(self) -> Mapping[str, pa.Array]:
        """Returns the sampled cells of each column as they are written, missing ones as null; in the order of the rows."""
        if not self._batches:
            return self._empty
        return {
            name: written(pa.chunked_array([batch.column(name) for batch in self._batches]).combine_chunks())
            for name in self._empty
        }

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses: rows do not travel by pickle."""
        raise TypeError("a sample of rows is not pickled")

    def _keep(self, draws: NDArray[np.float64], cells: pa.RecordBatch) -> None:
        kept = draws < self._bound
        if kept.any():
            self._draws = np.concatenate((self._draws, draws[kept]))
            # Arrow's filter copies, so nothing holds the whole batch.
            self._batches.append(cells.filter(pa.array(kept)))
