"""Mixup within an owner: a copy lies between a row and the row of the same class before it.

Which row is mixed in follows from the order of the rows, not from chance: so every row is mixed into the copies of one other
row at most, and a batch needs only the last row of each class of the batches before it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from privacy.augmentation.table_rows import Made, Maker, Start, TableRows, TableTechnique, on_grid, row_draws
from privacy.augmentation.technique import Medium, Parameter, Reads, Statement


def _begin(start: Start) -> Maker:
    last: dict[int, NDArray[np.float64]] = {}

    def make(rows: TableRows) -> Iterator[Made]:
        others = np.full_like(rows.features, np.nan)
        kept = np.ones(len(rows.numbers), bool)
        for label in np.unique(rows.labels).tolist():
            places = np.flatnonzero(rows.labels == label)
            others[places[1:]] = rows.features[places[:-1]]
            if label in last:
                others[places[0]] = last[label]
            else:
                kept[places[0]] = False  # the first row of its class has none before it
            last[label] = rows.features[places[-1]].copy()
        for copy in range(start.copies):
            weight = start.settings["share"] * row_draws(start.draws, rows, copy)[:, None]
            yield Made(on_grid((1 - weight) * rows.features + weight * others, start.grid), kept)

    return make


TECHNIQUE = TableTechnique(
    name="mixup",
    medium=Medium.TABLE,
    what="A copy lies between a row and the row of the same class before it; the label stays.",
    statement=Statement(
        reads=Reads.OTHER_ROW,
        groups=2,
        reversible=False,
        note="Each made row belongs to two people: both enter one more clipped group. Never across owners. Missing cells stay "
        "missing. Shuffle sorted rows first.",
    ),
    parameters=(Parameter("share", "0", "0.5", whole=False, meaning="the greatest weight of the other row"),),
    measured_with={"share": "0.4"},
    begin=_begin,
    by_class=True,
)
