"""Bounded jitter: every cell of a copy is moved a little."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from privacy.augmentation.table_rows import Made, Maker, Start, TableRows, TableTechnique, cell_draws, on_grid
from privacy.augmentation.technique import Medium, Parameter, Reads, Statement


def _begin(start: Start) -> Maker:
    def make(rows: TableRows) -> Iterator[Made]:
        everything = np.ones(len(rows.numbers), bool)
        for copy in range(start.copies):
            moved = rows.features + start.settings["width"] * (2 * cell_draws(start.draws, rows, copy) - 1)
            yield Made(on_grid(moved, start.grid), everything)

    return make


TECHNIQUE = TableTechnique(
    name="jitter",
    medium=Medium.TABLE,
    what="Every cell is moved by a uniform amount of at most the width, and stays inside its public range.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="The mean of many copies comes back to the row. This noise is no differential privacy: it is bounded and not "
        "calibrated.",
    ),
    parameters=(Parameter("width", "0", "0.5", whole=False, meaning="the greatest move, where the whole range is 2 wide"),),
    measured_with={"width": "0.1"},
    begin=_begin,
)
