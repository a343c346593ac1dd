"""From the rows of a table to the steps of a recipe: which rules reach a demand with the least loss, and what they make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from privacy.preparation.anonymity.generalisations import Bands, Generalisation
from privacy.preparation.anonymity.groups import GroupIndex, as_read
from privacy.preparation.anonymity.search import Anonymised, Demand, Hierarchy, check_demand, search
from privacy.preparation.columns import ColumnType, shortest
from privacy.preparation.data_contract import ContractColumn, DataContract, DataRole
from privacy.preparation.recipes.step import Rows, Step
from privacy.preparation.recipes.steps.columns import Drop
from privacy.preparation.recipes.steps.generalise import Generalise
from privacy.preparation.recipes.steps.suppress_small_groups import SuppressSmallGroups
from protocols.errors import ConfideError, ErrorCode

MAX_DISTINCT = 2_000_000  # combinations of cells that are kept while the table goes by
_BANDS = 5  # each twice as wide as the one before
_WHOLE_BANDS = 8  # likewise: six such columns are still searched


@dataclass(frozen=True)
class Proposal:
    """Steps that reach a demand; for the owner's eyes until she publishes them in a recipe.

    Attributes:
        steps: in their order.
        columns: the quasi-identifiers.
        before: rows alike in the smallest group before, and how many rows are in groups below k.
        below: see `before`.
        found: the node of the lattice.
        num_rows: of the table.
    """

    steps: tuple[Step, ...]
    columns: tuple[str, ...]
    before: int
    below: int
    found: Anonymised
    num_rows: int


def default_hierarchies(contract: DataContract, given: Mapping[str, Sequence[Generalisation]]) -> tuple[Hierarchy, ...]:
    """Returns a hierarchy for each quasi-identifier of a contract; public.

    Columns of numbers have bands that divide their public range, each twice as wide as the one before, unless rules are given;
    other columns have the rules given, or can only be dropped.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): rules for a column that is no quasi-identifier.
    """
    known = {column.name: column for column in contract.columns if column.role is DataRole.QUASI_IDENTIFIER}
    for name in given:
        if name not in known:
            what = f"column {name} is no quasi-identifier of the contract {contract.name}"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Correct the name, or the role of the column.")
    return tuple(Hierarchy(name, tuple(given.get(name, _bands(column))), _span(column)) for name, column in known.items())


def propose(batches: Iterable[Rows], hierarchies: Sequence[Hierarchy], demand: Demand, sensitive: Sequence[str] = ()) -> Proposal:
    """Finds the steps of the least loss.

    Args:
        batches: the table, secret; memory grows with the number of distinct rows, not of rows.
        hierarchies: of the quasi-identifiers, one at least.
        demand: what is asked.
        sensitive: columns of which groups must be diverse, if `demand.l` is above 1; one at least then.

    Raises:
        ConfideError: as for `search`; INVALID_ARGUMENT (the caller's fault): no column to be diverse in; INVALID_DATA (the
            owner's): no row, a column that is missing, or more than `MAX_DISTINCT` different rows.
    """
    # What the recipe will say, digit for digit: it must not refuse a row more than is allowed here.
    most = shortest(f"{demand.left_out:.15f}")
    demand = replace(demand, left_out=float(most))
    check_demand(demand, hierarchies)
    if demand.l > 1 and not sensitive:
        remedy = "Give the role sensitive to the columns in which people who are alike must differ, or ask for l 1."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "there is no sensitive column that could be diverse", remedy=remedy)
    columns = tuple(hierarchy.column for hierarchy in hierarchies)
    diverse = tuple(sensitive) if demand.l > 1 else ()
    index, sizes = GroupIndex(), np.zeros(0, np.int64)
    for rows in batches:
        missing = [name for name in (*columns, *diverse) if name not in rows.cells.schema.names]
        if missing:
            raise ConfideError(ErrorCode.INVALID_DATA, f"the table has no column {', '.join(missing)}")
        if len(rows):
            cells = [rows.column(name) for name in columns] + [as_read(rows.column(name)) for name in diverse]
            added = np.bincount(index.ids(cells), minlength=len(sizes))
            added[: len(sizes)] += sizes
            sizes = added
        if len(index) > MAX_DISTINCT:
            what = f"more than {MAX_DISTINCT} different rows of {', '.join(columns)}"
            raise ConfideError(ErrorCode.INVALID_DATA, what, remedy="Make the finest column coarser by hand first.")
    if not len(sizes):
        raise ConfideError(ErrorCode.INVALID_DATA, "the table has no rows")
    tuples = index.members()
    values = [index.values(position) for position in range(len(columns))]
    found = search(values, tuples[:, : len(columns)], sizes, hierarchies, demand, tuples[:, len(columns) :] if diverse else None)
    _, alike = np.unique(tuples[:, : len(columns)], axis=0, return_inverse=True)
    before: NDArray[np.int64] = np.bincount(alike.reshape(-1), weights=sizes).astype(np.int64)
    return Proposal(
        steps=tuple(_steps(hierarchies, found, demand, most, diverse)),
        columns=columns,
        before=int(before.min()),
        below=int(before[before < demand.k].sum()),
        found=found,
        num_rows=int(sizes.sum()),
    )


def _steps(
    hierarchies: Sequence[Hierarchy], found: Anonymised, demand: Demand, most: str, diverse: tuple[str, ...]
) -> Iterable[Step]:
    kept, dropped = [], []
    for hierarchy, level in zip(hierarchies, found.levels, strict=True):
        if level > len(hierarchy.levels):
            dropped.append(hierarchy.column)
            continue
        kept.append(hierarchy.column)
        if level:
            yield Generalise(hierarchy.column, hierarchy.levels[level - 1])
    if dropped:
        yield Drop(tuple(dropped))
    if kept:
        yield SuppressSmallGroups(tuple(kept), demand.k, diverse, demand.l, most)


def _bands(column: ContractColumn) -> tuple[Generalisation, ...]:
    span = _span(column)
    if span is None or column.shared is None or column.shared.low is None or column.shared.high is None:
        return ()
    exact = Decimal(column.shared.high) - Decimal(column.shared.low)
    if column.shared.column_type is ColumnType.INTEGER:
        widest = (int(exact) - 1).bit_length() - 1  # the last power of two below the whole range
        widths = [str(2**power) for power in range(max(1, widest - _WHOLE_BANDS + 1), widest + 1)]
    else:
        widths = [shortest(f"{exact / 2**power:.15f}") for power in range(_BANDS, 0, -1)]
    within = (column.shared.low, column.shared.high)
    return tuple(Bands(width, within) for width in widths if Decimal(width) > 0)


def _span(column: ContractColumn) -> float | None:
    if column.shared is None or column.shared.low is None:
        return None
    low, high = column.shared.bounds
    return high - low
