"""Class rebalancing: rows of rarer classes are repeated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from privacy.augmentation.table_rows import Made, Maker, Start, TableRows, TableTechnique, row_draws
from privacy.augmentation.technique import Medium, Reads, Statement


def _begin(start: Start) -> Maker:
    counts = start.learnt().classes
    most = max(counts.values(), default=0)

    def make(rows: TableRows) -> Iterator[Made]:
        wanted = np.array([most / counts[label] - 1 for label in rows.labels.tolist()])
        for copy in range(start.copies):
            # Whole copies for sure, one more with the chance of what is left: in the mean as many rows as the largest class.
            yield Made(rows.features, row_draws(start.draws, rows, copy) < wanted - copy)

    return make


TECHNIQUE = TableTechnique(
    name="rebalancing",
    medium=Medium.TABLE,
    what="Rows of rarer classes are repeated, until every class has as many as the largest or the number of copies is used up.",
    statement=Statement(
        reads=Reads.WHOLE_TABLE,
        groups=None,
        reversible=True,
        note="Made rows are the rows themselves. Copies that are averaged before clipping change nothing: under differential "
        "privacy weigh the classes by public weights instead.",
    ),
    parameters=(),
    measured_with={},
    begin=_begin,
    by_class=True,
    changes_cells=False,
)
