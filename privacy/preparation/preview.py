"""A preparation on the first rows of a file: what its owner sees before and after, to judge a recipe by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privacy.preparation.contract import OnViolation
from privacy.preparation.data_contract import DataRole
from privacy.preparation.outcome import Outcome, prepare_table
from privacy.preparation.preparation import Preparation
from privacy.preparation.raw_table import BATCH_BYTES, RawTable
from privacy.preparation.recipes.step import Columns, Rows
from privacy.preparation.recipes.steps.pseudonymise import identifiers_of
from protocols.errors import ConfideError
from protocols.secrets import SecretBytes

MAX_ROWS = 1_000
_SHOWN = "(pseudonym)"


@dataclass(frozen=True, repr=False)
class Preview:
    """Rows for their owner's eyes: cells of the raw file among them.

    Attributes:
        before: names of the columns that are read, and the cells of each row; linkage keys are not shown.
        after: the same of what comes out, and the numbers of the rows that are left.
        outcome: of these rows alone; None if the recipe refused them.
        refused: why, then.
    """

    before: tuple[Sequence[str], Sequence[Sequence[str]]]
    after: tuple[Sequence[str], Sequence[Sequence[str]]]
    outcome: Outcome | None
    refused: ConfideError | None

    def to_document(self) -> dict[str, Any]:
        """Returns the preview, without what was refused."""
        sides = {"before": self.before, "after": self.after}
        tables = {side: {"columns": list(names), "rows": [list(row) for row in rows]} for side, (names, rows) in sides.items()}
        return {**tables, "outcome": None if self.outcome is None else self.outcome.to_document()}


class FirstRows(RawTable):
    """The first rows of another table."""

    def __init__(self, table: RawTable, num_rows: int) -> None:
        """Takes the table and how many rows there are to be at most."""
        super().__init__(table.file, table.names, table.identity)
        self._table, self._num_rows = table, num_rows

    def columns(self, wanted: Iterable[str]) -> Columns:
        """As `RawTable.columns`."""
        return self._table.columns(wanted)

    def batches(self, wanted: Iterable[str], *, batch_bytes: int = BATCH_BYTES) -> Iterator[Rows]:
        """As `RawTable.batches`, but ends after the first rows and does not look at the file again."""
        for rows in self._table.batches(wanted, batch_bytes=batch_bytes):
            yield rows.where(rows.numbers <= self._num_rows)
            if rows.numbers[-1] >= self._num_rows:
                return

    def lines_of(self, rows: Sequence[int]) -> Mapping[int, int]:
        """As `RawTable.lines_of`."""
        return self._table.lines_of(rows)


def preview(table: RawTable, preparation: Preparation, *, num_rows: int, seed: SecretBytes) -> Preview:
    """Runs a preparation on the first rows; pseudonyms are not made for it, a word stands for each.

    Args:
        table: secret.
        preparation: settled for this table.
        num_rows: of so many rows, at most `MAX_ROWS`.
        seed: 32 random bytes; those of the registration give other draws.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): the file itself; what the recipe refuses is in the preview.
    """
    first = FirstRows(table, min(num_rows, MAX_ROWS))
    keys = preparation.contract.names(DataRole.LINKAGE_KEY)
    shown = [name for name in preparation.read if name not in keys]
    raw = list(first.batches(preparation.read))
    before = [cells for rows in raw for cells in _texts(rows, shown)]
    pseudonyms = {
        step.column: {text: _SHOWN for rows in raw for text in identifiers_of(rows.column(step.column))}
        for step in preparation.pseudonymised
    }
    names = ["row", *preparation.columns]
    taken: list[Rows] = []
    try:
        outcome = prepare_table(
            first, preparation, seed=seed, pseudonyms=pseudonyms, on_violation=OnViolation.LEAVE_OUT, take=taken.append
        )
    except ConfideError as error:
        return Preview((shown, before), (names, []), None, error)
    after = [cells for rows in taken for cells in _texts(_numbered(rows), names)]
    return Preview((shown, before), (names, after), outcome, None)


def _numbered(rows: Rows) -> Rows:
    cells = rows.cells.add_column(0, "row", pa.array(rows.numbers.astype(np.int64)))
    return Rows(rows.numbers, cells)


def _texts(rows: Rows, names: Sequence[str]) -> list[tuple[str, ...]]:
    columns = [pc.fill_null(rows.column(name).cast(pa.string()), "").to_pylist() for name in names]
    return list(zip(*columns, strict=True)) if columns else []
