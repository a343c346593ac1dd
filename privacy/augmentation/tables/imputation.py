"""Probabilistic imputation: missing cells, and some others, are drawn from their column."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from privacy.augmentation.table_rows import Made, Maker, Start, TableRows, TableTechnique, cell_draws, on_grid
from privacy.augmentation.technique import Medium, Parameter, Reads, Statement


def _begin(start: Start) -> Maker:
    marginals = start.learnt().marginals

    def make(rows: TableRows) -> Iterator[Made]:
        everything = np.ones(len(rows.numbers), bool)
        for copy in range(start.copies):
            chosen = cell_draws(start.draws, rows, copy) < start.settings["share"]
            which = cell_draws(start.draws, rows, copy, purpose=1)
            filled = rows.features.copy()
            for column in range(filled.shape[1]):
                open_cells = chosen[:, column] | np.isnan(filled[:, column])
                if open_cells.any():
                    filled[open_cells, column] = marginals.draw(column, which[open_cells, column])
            yield Made(on_grid(filled, start.grid), everything)

    return make


TECHNIQUE = TableTechnique(
    name="imputation",
    medium=Medium.TABLE,
    what="Missing cells, and others with a given chance, are drawn from the values of their column.",
    statement=Statement(
        reads=Reads.WHOLE_TABLE,
        groups=None,
        reversible=False,
        note="A drawn cell is another person's value. Under differential privacy the distributions of columns must be public, or "
        "released with noise first.",
    ),
    parameters=(Parameter("share", "0", "0.9", whole=False, meaning="the chance of a cell that is not missing"),),
    measured_with={"share": "0.15"},
    begin=_begin,
)
