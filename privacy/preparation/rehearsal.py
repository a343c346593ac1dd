"""A rehearsal: everything that a preparation may use is used once, on an invented table.

Libraries load parts of themselves when these are first needed. A process that may open no files later rehearses before.
"""

from __future__ import annotations

import io

import numpy as np

from privacy.preparation.contract import OnViolation
from privacy.preparation.contract_file import contract_from_yaml
from privacy.preparation.data_contract import DataContract
from privacy.preparation.outcome import PreparedWriter, prepare_table
from privacy.preparation.preparation import settle
from privacy.preparation.preview import preview
from privacy.preparation.raw import open_raw
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.recipe_file import recipe_from_yaml
from privacy.preparation.recipes.row_randomness import SEED_BYTES
from privacy.preparation.table import FileFormat
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError
from protocols.secrets import SecretBytes

_CONTRACT = b"""
api_version: confide/v1
kind: DataContract
name: rehearsal
purpose: to load what is needed
columns:
  - {name: person, role: linkage-key}
  - {name: born, role: quasi-identifier, use: feature, type: float, range: [0, 120]}
  - {name: seen, role: quasi-identifier}
  - {name: town, role: quasi-identifier}
  - {name: sex, role: quasi-identifier}
  - {name: dose, role: feature, type: float, range: [0, 10]}
  - {name: unit, role: sensitive}
  - {name: outcome, role: label, type: choice, negative: well, positive: ill}
"""
RECIPE = b"""
api_version: confide/v1
kind: Recipe
name: rehearsal
version: 1
contract: rehearsal
steps:
  - {step: mark-missing, columns: [dose, sex], values: ['-9']}
  - {step: parse-date, columns: [born, seen], format: '%d.%m.%Y'}
  - {step: shift-dates, columns: [seen], person: person, days: 3}
  - {step: pseudonymise, column: person, project: rehearsal}
  - {step: date-to-number, column: born, measure: age, reference_column: seen}
  - {step: parse-number, columns: [dose], decimal_mark: comma}
  - {step: impute-draw, columns: [dose, sex]}
  - {step: impute, columns: [unit], value: none}
  - {step: clip, columns: [dose], range: [0, 10]}
  - {step: top-code, column: born, at: 90}
  - {step: map-values, column: unit, values: {icu: intensive}, others: keep}
  - {step: bin, column: dose, edges: [2, 4]}
  - {step: one-hot, column: sex, values: [f, m], others: none}
  - {step: hash-features, column: unit, buckets: 8, collision_budget: 1}
  - {step: drop-duplicates}
  - {step: suppress-small-groups, columns: [town], k: 2, most: 0.5}
"""
_HEADER = "person,born,seen,town,sex,dose,unit,outcome"
_ROWS = (
    'p1,01.02.1950,03.04.2020,x,f,"1,5",icu,well',
    "p2,01.02.1960,03.04.2020,x,m,-9,ward,ill",
    'p2,01.02.1960,03.04.2020,x,m,3,"a ""quoted"" text",ill',
    "p3,01.02.1970,03.04.2020,x,,5,,well",
)
_SPOILT = ("p4,1970-02-01,03.04.2020,x,,5,,well", "p5", 'p6,"left open', "p7,01.02.1970,03.04.2020,é,,unreadable,,other")


def rehearse() -> None:
    """Prepares an invented table, and ones that are spoilt."""
    _prepare([_HEADER, *_ROWS])
    for row in _SPOILT:
        try:
            _prepare([_HEADER, *_ROWS, row])
        except ConfideError as error:
            str(error)


def _prepare(lines: list[str]) -> None:
    seed, sink = SecretBytes(bytes(SEED_BYTES)), io.BytesIO()
    table = open_raw(io.BytesIO("\n".join(lines).encode()), file_format=FileFormat.CSV, name="rehearsal.csv")
    contract = DataContract.from_document(parse_canonical(canonical_bytes(contract_from_yaml(_CONTRACT).to_document())))
    recipe = Recipe.from_document(parse_canonical(canonical_bytes(recipe_from_yaml(RECIPE).to_document())))
    preparation = settle(table, contract, recipe)
    preview(table, preparation, num_rows=3, seed=seed)
    writer = PreparedWriter(sink, preparation)
    pseudonyms = {"person": {f"p{number}": f"{number:032x}" for number in range(10)}}
    prepare_table(table, preparation, seed=seed, pseudonyms=pseudonyms, on_violation=OnViolation.REFUSE, take=writer.take)
    writer.finish()
    sink.seek(0)
    prepared = open_raw(sink, file_format=FileFormat.PARQUET, name="rehearsal.parquet")
    for rows in prepared.batches(["born", "outcome"]):
        np.asarray(rows.column("outcome").to_pylist(), dtype=object)
