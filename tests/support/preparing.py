"""A ward's raw rows, their contract and a recipe, as an owner writes them; and short ways to read and prepare them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping

import pyarrow as pa

from privacy.preparation.contract import OnViolation
from privacy.preparation.contract_file import contract_from_yaml
from privacy.preparation.data_contract import DataContract
from privacy.preparation.outcome import Outcome, prepare_table
from privacy.preparation.preparation import settle
from privacy.preparation.raw import RawTable, open_raw
from privacy.preparation.raw_table import BATCH_BYTES
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.recipe_file import recipe_from_yaml
from privacy.preparation.recipes.step import Rows
from privacy.preparation.table import FileFormat
from protocols.secrets import SecretBytes

SEED = SecretBytes(bytes(range(32)))
CANARY = "Quokka-7731"  # stands in columns that no contract lets through

CONTRACT = """\
api_version: confide/v1
kind: DataContract
name: ward
purpose: predict an illness
columns:
  - {name: name, role: direct-identifier}
  - {name: patient, role: linkage-key}
  - {name: birth, role: quasi-identifier, use: feature, type: float, range: [0, 120]}
  - {name: sex, role: quasi-identifier}
  - {name: 'sex=f', role: feature, type: boolean}
  - {name: 'sex=m', role: feature, type: boolean}
  - {name: dose, role: feature, type: float, range: [0, 10]}
  - {name: outcome, role: label, type: choice, negative: well, positive: ill}
"""
HEAD = """\
api_version: confide/v1
kind: Recipe
name: ward
version: 1
contract: ward
steps:
"""
STEPS = """\
  - {step: parse-date, columns: [birth], format: '%Y-%m-%d'}
  - {step: date-to-number, column: birth, measure: age, reference: '2024-01-01'}
  - {step: parse-number, columns: [dose]}
  - {step: impute-draw, columns: [dose]}
  - {step: clip, columns: [dose], range: [0, 10]}
  - {step: one-hot, column: sex, values: [f, m], others: none}
"""
RECIPE = HEAD + STEPS
HEADER = "name,patient,birth,sex,dose,outcome,remark"


def ward_rows(num_rows: int) -> str:
    """Returns a CSV file of people; every third dose is missing, and every dose but those is another."""
    lines = [
        f"{CANARY} {n},P{n},{1930 + n % 60}-0{1 + n % 9}-1{n % 10},{'fm'[n % 2]},{'' if n % 3 == 0 else n / 1000},"
        f"{'ill' if n % 5 else 'well'},{CANARY} {n}"
        for n in range(1, num_rows + 1)
    ]
    return "\n".join([HEADER, *lines, ""])


def contract(text: str = CONTRACT) -> DataContract:
    """Reads a contract."""
    return contract_from_yaml(text.encode())


def recipe(text: str = RECIPE) -> Recipe:
    """Reads a recipe."""
    return recipe_from_yaml(text.encode())


def recipe_of(*steps: str) -> Recipe:
    """Reads a recipe of these steps."""
    return recipe(HEAD + "".join(f"  - {step}\n" for step in steps))


def raw(text: str | bytes, file_format: FileFormat = FileFormat.CSV) -> RawTable:
    """Opens a raw table."""
    data = text.encode() if isinstance(text, str) else text
    return open_raw(io.BytesIO(data), file_format=file_format, name="ward.csv")


def cells_of(table: RawTable, names: Iterable[str], batch_bytes: int = BATCH_BYTES) -> list[tuple[object, ...]]:
    """Reads rows with their numbers in front."""
    found: list[tuple[object, ...]] = []
    for rows in table.batches(names, batch_bytes=batch_bytes):
        found += zip(rows.numbers.tolist(), *(column.to_pylist() for column in rows.cells.columns), strict=True)
    return found


def prepared(
    text: str | bytes,
    made_by: Recipe,
    *,
    under: DataContract | None = None,
    seed: SecretBytes = SEED,
    pseudonyms: Mapping[str, Mapping[str, str]] | None = None,
    on_violation: OnViolation = OnViolation.REFUSE,
    batch_bytes: int = BATCH_BYTES,
) -> tuple[list[dict[str, object]], Outcome]:
    """Prepares a table in this process; returns the rows that come out, and the outcome."""
    table = raw(text)
    taken: list[Rows] = []
    outcome = prepare_table(
        table,
        settle(table, under or contract(), made_by),
        seed=seed,
        pseudonyms=pseudonyms or {},
        on_violation=on_violation,
        take=taken.append,
        batch_bytes=batch_bytes,
    )
    return pa.Table.from_batches([rows.cells for rows in taken]).to_pylist(), outcome
