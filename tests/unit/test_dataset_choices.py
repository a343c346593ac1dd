"""Commands by which an owner chooses what to share: the smallest set of columns, the least loss, the schema of a contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from parties import minimising
from privacy.preparation.contract_file import contract_from_yaml
from privacy.preparation.recipes.recipe_file import recipe_from_yaml
from privacy.preparation.recipes.step import Rows
from privacy.preparation.schema_file import schema_from_yaml
from tests.support.command import Said, confide

CONTRACT = """\
api_version: confide/v1
kind: DataContract
name: ward
purpose: a test
columns:
  - {name: patient, role: direct-identifier}
  - {name: age, role: quasi-identifier, use: feature, type: integer, range: [0, 120]}
  - {name: postcode, role: quasi-identifier}
  - {name: dose, role: feature, type: float, range: [0, 10]}
  - {name: noise, role: feature, type: float, range: [-1, 1]}
  - {name: illness, role: sensitive}
  - {name: ill, role: label, type: boolean}
"""
HIERARCHIES = """\
api_version: confide/v1
kind: Hierarchies
columns:
  postcode: [{keep: 3}, {keep: 1}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(4)
    rows = 400
    dose = draw.uniform(0, 10, rows).round(2)
    table = pd.DataFrame(
        {
            "patient": [f"Person {number}" for number in range(rows)],
            "age": draw.integers(18, 95, rows),
            "postcode": draw.choice(["SW1A", "SW1B", "SE11", "N1CA"], rows),
            "dose": dose,
            "noise": draw.uniform(-1, 1, rows).round(3),
            "illness": draw.choice(["flu", "hiv", "none"], rows),
            "ill": (dose + draw.normal(0, 1, rows) > 5).astype(int),
            "not agreed": draw.integers(0, 9, rows),
        }
    )
    table.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    (tmp_path / "hierarchies.yaml").write_text(HIERARCHIES)
    return tmp_path


def ask(folder: Path, verb: str, *more: str | Path, output_format: str = "json") -> Said:
    where = ["--file", folder / "rows.csv", "--contract", folder / "contract.yaml"]
    return confide("dataset", verb, *where, *more, "--format", output_format)


def test_minimise_keeps_what_the_label_needs_and_writes_that_contract(folder: Path) -> None:
    found = ask(folder, "minimise", "--out", folder / "less.yaml").data
    assert (found["proposed"], sorted(found["dropped"])) == (["dose"], ["age", "noise"])
    less = contract_from_yaml((folder / "less.yaml").read_bytes())
    assert less.names() == ("patient", "postcode", "dose", "illness", "ill")
    words = ask(folder, "minimise", output_format="text").out
    assert "1 of 3 columns" in words


def test_minimise_of_a_long_file_reads_all_of_it_and_keeps_rows_from_everywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minimising, "_KEPT_ROWS", 60)
    rows = [
        Rows(np.arange(start, start + 50), pa.record_batch({"row": np.arange(start, start + 50)})) for start in range(0, 1000, 50)
    ]
    table = minimising._drawn(rows, 7)
    kept = table.columns["row"].to_numpy()
    assert (table.num_rows, len(set(kept)), list(kept)) == (60, 60, sorted(kept))
    # Uniform over 1000 rows: each fifth of the file gives 12 of 60; binomial, five deviations of 3.1.
    assert max(abs(int(((kept >= low) & (kept < low + 200)).sum()) - 12) for low in range(0, 1000, 200)) <= 15


def test_minimise_without_a_label_says_what_is_missing(folder: Path) -> None:
    (folder / "contract.yaml").write_text(CONTRACT.replace("ill, role: label, type: boolean", "ill, role: sensitive"))
    failure = ask(folder, "minimise").failure
    assert (failure["code"], "no label" in failure["what"]) == ("INVALID_CONTRACT", True)


def test_anonymise_writes_a_recipe_that_reads(folder: Path) -> None:
    more = ["--hierarchies", folder / "hierarchies.yaml", "--k", "10", "--l", "2", "--out", folder / "recipe.yaml"]
    found = ask(folder, "anonymise", *more).data
    recipe = recipe_from_yaml((folder / "recipe.yaml").read_bytes())
    assert [step.to_document() for step in recipe.steps] == found["steps"]
    assert recipe.contract == "ward"
    assert found["after"]["smallest"] >= 10
    suppressing = found["steps"][-1]
    assert (suppressing["k"], suppressing["l"], suppressing["sensitive"]) == ("10", "2", ["illness"])
    again = ask(folder, "anonymise", *more).failure
    assert (again["code"], "not overwritten" in again["what"]) == ("INVALID_ARGUMENT", True)
    words = ask(folder, "anonymise", output_format="text").out
    assert "No other of" in words
    assert "no epsilon of a job over them counts it" in words


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (HIERARCHIES.replace("keep: 3", "keep: three"), "columns.postcode[0].keep"),
        (HIERARCHIES.replace("[{keep: 3}, {keep: 1}]", "all"), "columns.postcode"),
        (HIERARCHIES.replace("kind: Hierarchies", "kind: Recipe"), "kind"),
        (HIERARCHIES.replace("{keep: 3}", "three"), "columns.postcode[0]"),
        (HIERARCHIES + "more: 1\n", "more"),
    ],
)
def test_hierarchies_that_do_not_read_are_named_by_their_path(folder: Path, text: str, where: str) -> None:
    (folder / "hierarchies.yaml").write_text(text)
    failure = ask(folder, "anonymise", "--hierarchies", folder / "hierarchies.yaml").failure
    assert failure["code"] == "INVALID_RECIPE"
    assert where in [problem["where"] for problem in failure["problems"]]


def test_hierarchy_of_a_column_that_is_no_quasi_identifier_is_refused(folder: Path) -> None:
    (folder / "hierarchies.yaml").write_text(HIERARCHIES.replace("postcode", "dose"))
    failure = ask(folder, "anonymise", "--hierarchies", folder / "hierarchies.yaml").failure
    assert (failure["code"], "dose" in failure["what"]) == ("INVALID_ARGUMENT", True)


def test_schema_is_what_jobs_know_of_the_contract(folder: Path) -> None:
    out = folder / "schema.yaml"
    said = confide("dataset", "schema", "--contract", folder / "contract.yaml", "--out", out, "--format", "json").data
    schema = schema_from_yaml(out.read_bytes())
    assert (schema.digest, schema) == (said["digest"], contract_from_yaml(CONTRACT.encode()).schema)
    assert yaml.safe_load(out.read_text())["kind"] == "TableSchema"


def test_missing_file_and_other_kinds_are_wrong_arguments(folder: Path) -> None:
    (folder / "rows.csv").rename(folder / "rows.txt")
    for name, what in (("rows.txt", "neither a .csv nor a .parquet"), ("gone.csv", "No such file")):
        where = ["--file", folder / name, "--contract", folder / "contract.yaml", "--format", "json"]
        failure = confide("dataset", "anonymise", *where).failure
        assert (failure["code"], what in failure["what"]) == ("INVALID_ARGUMENT", True)
