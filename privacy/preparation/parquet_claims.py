"""What a Parquet file claims about its sizes, checked before Arrow allocates what it claims."""

from __future__ import annotations

import pyarrow.parquet as pq


def are_consistent(metadata: pq.FileMetaData) -> bool:
    """Whether the row groups of a file hold as many rows as the file.

    Arrow allocates for the rows that a group claims, whatever its pages hold: a file of 3 kB that claims 10^11 rows in its only
    group would take all memory. The columns of a group are not looked at: what Arrow throws there (26.0) ends the process.
    """
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return min(rows, default=0) >= 0 and sum(rows) == metadata.num_rows
