"""Targets that read what an owner prepares: contracts, recipes, hierarchies, and raw tables as their batches."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import pandas as pd

from privacy.preparation.anonymity.hierarchy_file import hierarchies_from_yaml
from privacy.preparation.contract_file import contract_from_yaml
from privacy.preparation.data_contract import DataContract
from privacy.preparation.raw import open_raw
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.recipe_file import recipe_from_yaml
from privacy.preparation.table import FileFormat
from protocols.canonical import canonical_bytes, parse_canonical
from tests.fuzz.target import Target
from tests.support.small_table import ROWS

_HEAD = b"api_version: confide/v1\nkind: %s\n"
_CONTRACT = (
    _HEAD % b"DataContract"
    + b"""name: ward
purpose: a trial
columns:
  - {name: patient, role: linkage-key}
  - {name: age, role: quasi-identifier, use: feature, type: integer, range: [0, 120]}
  - {name: town, role: quasi-identifier}
  - {name: ill, role: label, type: choice, negative: well, positive: ill}
"""
)
_RECIPE = (
    _HEAD % b"Recipe"
    + b"""name: shared
version: 1
contract: ward
steps:
  - {step: pseudonymise, column: patient, project: trial}
  - {step: parse-number, columns: [age]}
  - {step: top-code, column: age, at: 90}
  - {step: generalise, column: age, bands: 5, within: [0, 120]}
  - {step: generalise, column: town, groups: {a: north, b: south}, other: else}
  - {step: suppress-small-groups, columns: [age, town], k: 5, most: 0.05}
  - {step: one-hot, column: town, values: [north, south], others: none}
  - {step: drop, columns: [town]}
"""
)
_HIERARCHIES = _HEAD % b"Hierarchies" + b"columns:\n  town: [{keep: 3}, {keep: 1}]\n  born: [{date: month}, {date: year}]\n"


def _raw(file_format: FileFormat) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        table = open_raw(io.BytesIO(data), file_format=file_format, name="rows")
        return [len(rows) for rows in table.batches(dict.fromkeys(table.names), batch_bytes=64)]

    return read


def _parquet() -> Sequence[bytes]:
    file = io.BytesIO()
    pd.read_csv(io.StringIO(ROWS)).to_parquet(file)
    return [file.getvalue()]


TARGETS = (
    Target("contract-file", contract_from_yaml, lambda: [_CONTRACT]),
    Target(
        "contract",
        lambda data: DataContract.from_document(parse_canonical(data)),
        lambda: [canonical_bytes(contract_from_yaml(_CONTRACT).to_document())],
    ),
    Target("recipe-file", recipe_from_yaml, lambda: [_RECIPE]),
    Target(
        "recipe",
        lambda data: Recipe.from_document(parse_canonical(data)),
        lambda: [canonical_bytes(recipe_from_yaml(_RECIPE).to_document())],
    ),
    Target("hierarchy-file", hierarchies_from_yaml, lambda: [_HIERARCHIES]),
    Target("raw-csv", _raw(FileFormat.CSV), lambda: [ROWS.encode(), b'a,b\n"x ""y""",1\n\xc3\xa9,\n']),
    Target("raw-parquet", _raw(FileFormat.PARQUET), _parquet),
)
