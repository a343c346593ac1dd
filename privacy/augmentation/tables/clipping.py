"""Clipping to public ranges: what lies outside is moved to the end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from privacy.augmentation.table_rows import Made, Maker, Start, TableRows, TableTechnique, on_grid
from privacy.augmentation.technique import Medium, Parameter, Reads, Statement, Use


def _begin(start: Start) -> Maker:
    def make(rows: TableRows) -> Iterator[Made]:
        limit = start.settings["limit"]
        yield Made(on_grid(np.clip(rows.features, -limit, limit), start.grid), np.ones(len(rows.numbers), bool))

    return make


TECHNIQUE = TableTechnique(
    name="clipping",
    medium=Medium.TABLE,
    what="Cells beyond a share of their public range, counted from its middle, are moved to its end.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="Extreme values give people away; clipping hides how extreme they are. The range must be public, never taken "
        "from the rows.",
    ),
    parameters=(
        Parameter("limit", "0.1", "1", whole=False, meaning="the share of the public range that stays; 1 is the range itself"),
    ),
    measured_with={"limit": "0.75"},
    use=Use.REPLACES,
    begin=_begin,
)
