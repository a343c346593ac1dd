"""Jobs over different columns of the same rows, and tables whose columns lie at different owners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.job import DatasetRef, Job, Partition, check
from tests.support.jobs import SCHEMA
from tests.support.programs import Table

ALIGNMENT = "a9" * 32
COLUMNS: dict[str, list[dict[str, Any]]] = {
    "hospital-a": [SCHEMA["columns"][0], SCHEMA["columns"][3]],  # radius and the label
    "hospital-c": [{"name": "patient", "role": "identifier"}, SCHEMA["columns"][1], SCHEMA["columns"][2]],  # texture, area
}
# What the parts join to: the columns of `SCHEMA` under the joined name.
JOINED = SCHEMA | {"name": "hospital-a-hospital-c"}


def part_schema(party: str) -> dict[str, Any]:
    """The schema document under which a hospital registered its columns of the rows of `tests.support.jobs`."""
    return SCHEMA | {"name": party, "columns": COLUMNS[party]}


def a_part(party: str, *, num_rows: int = 100, alignment: str = ALIGNMENT, **changes: Any) -> DatasetRef:
    """One hospital's columns of the rows of `tests.support.jobs`."""
    roles = [column["role"] for column in COLUMNS[party]]
    digest = sha256_hex(canonical_bytes(part_schema(party)))
    part = DatasetRef(
        party, "patients", 1, num_rows, digest, "c" * 64, roles.count("feature"), bool(roles.count("label")), alignment
    )
    return replace(part, **changes)


def in_parts(job: Job, *parts: DatasetRef) -> Job:
    """The job over both hospitals' columns, or over these parts."""
    return replace(job, datasets=parts or tuple(a_part(party) for party in COLUMNS), partition=Partition.COLUMNS, schema=JOINED)


@dataclass(frozen=True)
class PartedTable(Table):
    """Rows of which every owner has some columns, in the order of `widths`, and one of them the label."""

    widths: Mapping[str, int]
    labelled: str

    def parted(self, job: Job) -> Job:
        """The job over these parts in place of its data sets."""
        parts = tuple(
            DatasetRef(
                party, f"columns-{party}", 1, len(self.labels), "ab" * 32, "0" * 64, width, party == self.labelled, ALIGNMENT
            )
            for party, width in self.widths.items()
        )
        changed = replace(job, datasets=parts, partition=Partition.COLUMNS)
        assert list(check(changed)) == []
        return changed

    def rows_of(self, job: Job, party: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        found, start = {}, 0
        for index, dataset in enumerate(job.datasets):
            stop = start + dataset.num_features
            if dataset.party == party:
                found[index] = (self.features[:, start:stop], self.labels if dataset.has_label else np.empty(0))
            start = stop
        return found


def in_columns(table: Table, widths: Sequence[int], owners: Sequence[str], *, labelled: str) -> PartedTable:
    """The rows of a table, cut into columns."""
    return PartedTable(table.features, table.labels, dict(zip(owners, widths, strict=True)), labelled)
