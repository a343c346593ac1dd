"""Prepares a table from its raw file: runs a settled preparation to its end and says what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from privacy.preparation.conform import Conforming, conforming_schema
from privacy.preparation.contract import OnViolation
from privacy.preparation.data_contract import DataRole
from privacy.preparation.digests import KEY_BYTES
from privacy.preparation.findings import Findings
from privacy.preparation.preparation import Preparation
from privacy.preparation.raw_table import BATCH_BYTES, RawIdentity, RawTable
from privacy.preparation.recipes.row_randomness import RowRandomness
from privacy.preparation.recipes.running import RecipeRun, StepCount
from privacy.preparation.recipes.step import Rows
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.secrets import SecretBytes

_ROW_GROUP_ROWS = 1 << 20
_ONE_ROW = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Outcome:
    """What a preparation did; for the owner's eyes.

    Attributes:
        raw: which state of the file it read; a bare digest, which never leaves.
        rows_read: of the file.
        rows_out: of the table.
        steps: what became of the rows at each step.
        left_out: rows that broke the contract after the last step, by the first violation.
        dropped: columns of the file that were not read, and why.
        not_shared: columns that were read and did not come out.
        warnings: what is no error and worth a look.
    """

    raw: RawIdentity
    rows_read: int
    rows_out: int
    steps: tuple[StepCount, ...]
    left_out: Mapping[str, int]
    dropped: Mapping[str, str]
    not_shared: tuple[str, ...]
    warnings: tuple[Problem, ...]

    def to_document(self) -> dict[str, Any]:
        """Returns everything as texts, numbers, lists and mappings."""
        return {
            "raw": vars(self.raw),
            "rows_read": self.rows_read,
            "rows_out": self.rows_out,
            "steps": [{**vars(step), "notes": dict(step.notes)} for step in self.steps],
            "left_out": dict(self.left_out),
            "dropped": dict(self.dropped),
            "not_shared": list(self.not_shared),
            "warnings": [vars(warning) for warning in self.warnings],
        }

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> Outcome:
        """Reads what `to_document` wrote.

        Raises:
            KeyError, TypeError: it did not write this.
        """
        return Outcome(
            RawIdentity(**document["raw"]),
            int(document["rows_read"]),
            int(document["rows_out"]),
            tuple(StepCount(**step) for step in document["steps"]),
            {str(reason): int(count) for reason, count in document["left_out"].items()},
            {str(name): str(why) for name, why in document["dropped"].items()},
            tuple(map(str, document["not_shared"])),
            tuple(Problem(**warning) for warning in document["warnings"]),
        )


def prepare_table(
    table: RawTable,
    preparation: Preparation,
    *,
    seed: SecretBytes,
    pseudonyms: Mapping[str, Mapping[str, str]],
    on_violation: OnViolation,
    take: Callable[[Rows], None],
    batch_bytes: int = BATCH_BYTES,
) -> Outcome:
    """Runs a preparation to its end.

    Args:
        table: secret.
        preparation: settled for this table.
        seed: 32 random bytes, secret.
        pseudonyms: for the steps that need them, by column and identifier; secret.
        on_violation: whether rows that break the contract after the last step stop everything or are left out.
        take: gets the rows that come out, batch by batch, secret. If this raises, what it has got is to be thrown away.
        batch_bytes: about how many bytes of the file are worked on at a time; the rows that come out do not depend on it.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): file or rows, with up to 20 problems, or no row is left; FILE_CHANGED.
    """
    contract = preparation.contract
    label = contract.schema.label.name if contract.schema.has_label else ""
    # One draw of a step that no recipe has; the warnings need any key that is drawn for this run.
    key = RowRandomness(seed, "findings").words(_ONE_ROW).tobytes()[:KEY_BYTES]
    quasi_identifiers = contract.names(DataRole.QUASI_IDENTIFIER)
    findings = Findings(preparation.read, quasi_identifiers=quasi_identifiers, label=label, key=key)
    conforming = Conforming(contract.schema, list(preparation.columns), on_violation)
    run = RecipeRun(
        preparation.recipe,
        table,
        preparation.read,
        seed=seed,
        pseudonyms=pseudonyms,
        look=findings.see,
        finish=conforming.transform,
        batch_bytes=batch_bytes,
    )
    rows_out = 0
    for rows in run.rows():
        rows_out += len(rows)
        take(rows)
    if not rows_out:
        raise ConfideError(ErrorCode.INVALID_DATA, f"none of the {run.rows_read} rows is left after the last step")
    return Outcome(
        table.identity,
        run.rows_read,
        rows_out,
        tuple(run.counts),
        {violation.name.lower(): count for violation, count in sorted(conforming.left_out.items())},
        preparation.dropped,
        preparation.not_shared,
        tuple(findings.problems()),
    )


class PreparedWriter:
    """Writes the rows that come out as Parquet, in groups of bounded size."""

    def __init__(self, sink: BinaryIO, preparation: Preparation) -> None:
        """Takes the open file, which is not closed, and what is written to it."""
        schema = conforming_schema(preparation.contract.schema, list(preparation.columns))
        self._writer = pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd")

    def take(self, rows: Rows) -> None:
        """Writes some rows."""
        self._writer.write_batch(rows.cells, row_group_size=_ROW_GROUP_ROWS)

    def finish(self) -> None:
        """Writes the end of the file."""
        self._writer.close()
