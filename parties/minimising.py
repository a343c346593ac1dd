"""An owner asks which columns a task needs: her own rows are read and judged in this process, and nothing is kept of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from parties.raw_file import raw_file
from privacy.preparation.contract import OnViolation, PreparedRows, prepare
from privacy.preparation.data_contract import DataContract
from privacy.preparation.minimise import Minimisation, minimise
from privacy.preparation.recipes.step import Rows
from privacy.preparation.table import Table
from protocols.errors import ConfideError, ErrorCode
from protocols.job import MAX_ROWS


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
        table = _whole(raw.batches([*schema.feature_names, schema.label.name]))
    rows = prepare(table, schema, OnViolation.LEAVE_OUT)
    return minimise(rows, schema.feature_names, schema.task, seed=seed, margin=margin), rows


def _whole(batches: Iterable[Rows]) -> Table:
    found = [rows.cells for rows in batches]
    num_rows = sum(len(cells) for cells in found)
    if not num_rows:
        raise ConfideError(ErrorCode.INVALID_DATA, "the file holds no rows")
    if num_rows > MAX_ROWS:
        raise ConfideError(ErrorCode.INVALID_DATA, f"more than {MAX_ROWS} rows", remedy="Take a part of the file.")
    table = pa.Table.from_batches(found)
    return Table({name: table.column(name) for name in table.column_names}, num_rows, None)
