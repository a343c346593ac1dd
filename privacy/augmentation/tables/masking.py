"""Masking: some cells of a copy say nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from privacy.augmentation.table_rows import Made, Maker, Start, TableRows, TableTechnique, cell_draws, on_grid
from privacy.augmentation.technique import Medium, Parameter, Reads, Statement


def _begin(start: Start) -> Maker:
    def make(rows: TableRows) -> Iterator[Made]:
        everything = np.ones(len(rows.numbers), bool)
        for copy in range(start.copies):
            masked = cell_draws(start.draws, rows, copy) < start.settings["share"]
            yield Made(on_grid(np.where(masked, 0.0, rows.features), start.grid), everything)

    return make


TECHNIQUE = TableTechnique(
    name="masking",
    medium=Medium.TABLE,
    what="Cells are replaced by the middle of their public range, each with the same chance.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="The other cells stay as they are, and several copies together show nearly the whole row: no copy is anonymous.",
    ),
    parameters=(Parameter("share", "0", "0.9", whole=False, meaning="the chance of a cell"),),
    measured_with={"share": "0.15"},
    begin=_begin,
)
