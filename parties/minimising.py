"""An owner asks which columns a task needs: her own rows are read and judged in this process, and nothing is kept of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from parties.raw_file import raw_file
from privacy.preparation.contract import OnViolation, PreparedRows, prepare
from privacy.preparation.data_contract import DataContract
from privacy.preparation.minimise import MAX_ROWS, Minimisation, minimise
from privacy.preparation.recipes.step import Rows
from privacy.preparation.table import Table
from protocols.errors import ConfideError, ErrorCode

_KEPT_ROWS = 2 * MAX_ROWS  # some of them may lie outside the contract


def minimise_file(file: Path, contract: DataContract, *, seed: int, margin: float) -> tuple[Minimisation, PreparedRows]:
    """Proposes the smallest set of columns for the label of a contract.

    Args:
        file: raw rows, secret; rows outside the contract's ranges are left out.
        contract: whose features are judged.
        seed: of everything drawn.
        margin: how much less utility is still enough.

    Returns:
        The proposal, and the rows that it was made of.

    Raises:
        ConfideError: INVALID_CONTRACT (the author's fault): no label, or no feature; INVALID_DATA (the owner's); and as for
            `minimise`.
    """
    schema = contract.schema
    if not schema.has_label or not schema.num_features:
        what = f"the contract {contract.name} has no label" if schema.num_features else "the contract has no feature"
        remedy = "Use one column as label, and the others as features."
        raise ConfideError(ErrorCode.INVALID_CONTRACT, what, remedy=remedy)
    with raw_file(file) as raw:
        table = _drawn(raw.batches([*schema.feature_names, schema.label.name]), seed)
    rows = prepare(table, schema, OnViolation.LEAVE_OUT)
    return minimise(rows, schema.feature_names, schema.task, seed=seed, margin=margin), rows


def _drawn(batches: Iterable[Rows], seed: int) -> Table:
    """Reads a file of any length and keeps rows drawn at random, in their order: every row is as likely as any other."""
    generator = np.random.default_rng(seed)
    kept: pa.Table | None = None
    drawn: NDArray[np.float64] = np.empty(0)
    for rows in batches:
        cells = pa.Table.from_batches([rows.cells])
        kept = cells if kept is None else pa.concat_tables([kept, cells])
        drawn = np.concatenate([drawn, generator.random(len(rows))])
        if len(drawn) > 2 * _KEPT_ROWS:
            kept, drawn = _fewest(kept, drawn)
    if kept is None or not len(drawn):
        raise ConfideError(ErrorCode.INVALID_DATA, "the file holds no rows")
    if len(drawn) > _KEPT_ROWS:
        kept, drawn = _fewest(kept, drawn)
    return Table({name: kept.column(name) for name in kept.column_names}, len(drawn), None)


def _fewest(table: pa.Table, drawn: NDArray[np.float64]) -> tuple[pa.Table, NDArray[np.float64]]:
    places = np.sort(np.argpartition(drawn, _KEPT_ROWS)[:_KEPT_ROWS])
    # Taken, not filtered: a view would hold on to all that was read.
    return table.take(pa.array(places)).combine_chunks(), drawn[places]
