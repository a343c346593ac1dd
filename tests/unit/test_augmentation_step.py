"""The step `augment`: rows and copies in an order that does not depend on batches, in the types and ranges of their columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from privacy.preparation.recipes.catalogue import STEPS
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.recipe_file import recipe_from_yaml
from privacy.preparation.recipes.row_randomness import RowRandomness
from privacy.preparation.recipes.step import Context, Rows, Step, SurveyingStep
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

NUM_ROWS = 600


def entry(technique: str, **fields: Any) -> dict[str, Any]:
    ranges = {"age": ["0", "120"], "dose": ["-1.5", "2.5"], "smoker": ["0", "1"]}
    return {"technique": technique, "ranges": ranges, "whole": ["age"], "copies": "3", **fields}


ENTRIES: Mapping[str, dict[str, Any]] = {
    "masking": entry("masking", settings={"share": "0.3"}),
    "jitter": entry("jitter", settings={"width": "0.2"}),
    "clipping": {key: value for key, value in entry("clipping", settings={"limit": "0.5"}).items() if key != "copies"},
    "imputation": entry("imputation", settings={"share": "0.25"}),
    "mixup": entry("mixup", settings={"share": "0.4"}, label="outcome"),
    "rebalancing": {"technique": "rebalancing", "label": "outcome", "copies": "8"},
}


def a_table() -> Rows:
    drawn = np.random.default_rng(3)
    cells = {
        "patient": pa.array([f"p{row}" for row in range(NUM_ROWS)]),
        "age": pa.array(drawn.integers(0, 121, NUM_ROWS)),
        "dose": pa.array(drawn.uniform(-1.5, 2.5, NUM_ROWS), mask=drawn.random(NUM_ROWS) < 0.1),
        "smoker": pa.array(drawn.random(NUM_ROWS) < 0.3),
        "outcome": pa.array(np.where(drawn.random(NUM_ROWS) < 0.2, "ill", "well")),
    }
    return Rows(np.arange(11, 11 + NUM_ROWS), pa.RecordBatch.from_pydict(cells))


def a_step(fields: Mapping[str, Any]) -> Step:
    step, problems = STEPS["augment"].read("steps[0]", fields)
    assert step is not None, problems
    return step


def run(step: Step, table: Rows, batch: int) -> list[dict[str, Any]]:
    """Cells with the number of their row, of a run with batches of so many rows."""
    columns = dict(zip(table.cells.schema.names, table.cells.schema.types, strict=True))
    context = Context(columns, RowRandomness(SecretBytes(bytes(32)), "0:augment"), {})
    assert list(step.problems(columns)) == []
    batches = [
        Rows(table.numbers[start : start + batch], table.cells.slice(start, batch)) for start in range(0, len(table), batch)
    ]
    if isinstance(step, SurveyingStep):
        survey = step.survey(context)
        for rows in batches:
            survey.see(rows)
        transform = survey.transform()
    else:
        transform = step.start(context)
    made: list[dict[str, Any]] = []
    for rows in map(transform, batches):
        assert dict(zip(rows.cells.schema.names, rows.cells.schema.types, strict=True)) == step.columns_after(columns)
        made += [{**cells, "number": number} for cells, number in zip(rows.cells.to_pylist(), rows.numbers.tolist(), strict=True)]
    return made


@pytest.mark.parametrize("technique", ENTRIES)
def test_step_result_does_not_depend_on_batches(technique: str) -> None:
    step, table = a_step(ENTRIES[technique]), a_table()
    assert run(step, table, 7) == run(step, table, NUM_ROWS)


@pytest.mark.parametrize("technique", ENTRIES)
def test_step_read_from_its_document_is_equal(technique: str) -> None:
    step = a_step(ENTRIES[technique])
    document = step.to_document()
    assert document.pop("step") == "augment"
    assert a_step(document) == step


@pytest.mark.parametrize("technique", ENTRIES)
def test_made_rows_keep_numbers_labels_types_and_ranges(technique: str) -> None:
    table = a_table()
    before = dict(zip(table.numbers.tolist(), table.cells.to_pylist(), strict=True))
    made = run(a_step(ENTRIES[technique]), table, 50)
    replaced = technique == "clipping"
    for row in made:
        assert (row["patient"], row["outcome"]) == (before[row["number"]]["patient"], before[row["number"]]["outcome"])
        assert 0 <= row["age"] <= 120
        assert row["dose"] is None or -1.5 <= row["dose"] <= 2.5
    if not replaced:  # every row is there as it was, before its copies
        first = {}
        for row in made:
            first.setdefault(row["number"], {key: value for key, value in row.items() if key != "number"})
        assert first == before
        assert list(first) == table.numbers.tolist()
    else:
        assert [row["number"] for row in made] == table.numbers.tolist()


def test_clipping_moves_cells_outside_the_range_to_the_limit() -> None:
    table = a_table()
    far = table.with_column("age", pa.array(np.full(NUM_ROWS, 5000)))
    assert {row["age"] for row in run(a_step(ENTRIES["clipping"]), far, 50)} == {90}  # half of the range: 30 to 90


def test_cells_outside_their_range_are_refused_without_their_value() -> None:
    far = a_table().with_column("age", pa.array([*([40] * (NUM_ROWS - 1)), 121]))
    with pytest.raises(ConfideError) as failure:
        run(a_step(ENTRIES["jitter"]), far, 50)
    assert failure.value.code is ErrorCode.INVALID_DATA
    assert [problem.where for problem in failure.value.problems] == [f"row {10 + NUM_ROWS}, column age"]
    assert "121" not in str(failure.value)


def test_imputation_fills_missing_cells_of_copies_with_values_of_the_column() -> None:
    table = a_table()
    made = run(a_step(ENTRIES["imputation"]), table, 50)
    copies = [row for place, row in enumerate(made) if place and made[place - 1]["number"] == row["number"]]
    assert len(copies) == 3 * NUM_ROWS
    assert all(row["dose"] is not None for row in copies)
    assert {row["age"] for row in copies} <= set(table.column("age").to_pylist())


def test_rebalancing_reaches_equal_classes() -> None:
    counts = Counter(row["outcome"] for row in run(a_step(ENTRIES["rebalancing"]), a_table(), 50))
    rare = sum(outcome == "ill" for outcome in a_table().column("outcome").to_pylist())
    # Only the last copy of a rare row is left to chance: a sum of `rare` coin flips, whose deviation is at most sqrt(rare) / 2.
    assert abs(counts["ill"] - counts["well"]) <= 4 * rare**0.5 / 2
    assert counts["well"] == NUM_ROWS - rare


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"technique": "flip"}, "steps[0].technique"),
        ({**ENTRIES["jitter"], "settings": {"width": "0.7"}}, "steps[0].settings.width"),
        ({**ENTRIES["jitter"], "settings": {"wide": "0.1"}}, "steps[0].settings.width"),
        ({**ENTRIES["jitter"], "ranges": {}}, "steps[0].ranges"),
        ({**ENTRIES["jitter"], "ranges": {"age": ["120", "0"]}, "whole": ["age"]}, "steps[0].ranges.age"),
        ({**ENTRIES["jitter"], "whole": ["height"]}, "steps[0].whole"),
        ({**ENTRIES["jitter"], "copies": "17"}, "steps[0].copies"),
        ({**ENTRIES["clipping"], "copies": "2"}, "steps[0].copies"),
        ({**ENTRIES["jitter"], "label": "outcome"}, "steps[0].label"),
        ({**ENTRIES["mixup"], "label": "age"}, "steps[0].label"),
        ({"technique": "rebalancing", "copies": "2"}, "steps[0].label"),
    ],
)
def test_wrong_entry_is_refused_by_its_path(fields: Mapping[str, Any], where: str) -> None:
    step, problems = STEPS["augment"].read("steps[0]", fields)
    assert step is None
    assert where in [problem.where for problem in problems]


@pytest.mark.parametrize(("column", "cells"), [("outcome", None), ("outcome", "many")])
def test_labels_that_are_missing_or_too_many_are_refused(column: str, cells: str | None) -> None:
    values: Sequence[str | None] = [None] * NUM_ROWS if cells is None else [f"c{row}" for row in range(NUM_ROWS)]
    table = a_table().with_column(column, pa.array(values, pa.string()))
    if cells is None:
        with pytest.raises(ConfideError, match="INVALID_DATA"):
            run(a_step(ENTRIES["mixup"]), table, 50)
    else:  # 600 classes are allowed; each first row of its class has nothing to be mixed with
        assert len(run(a_step(ENTRIES["mixup"]), table, 50)) == NUM_ROWS


def test_recipe_of_the_documentation_is_read_and_written_again() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "augmentation.md").read_text()
    block = page.split("```yaml\n")[1].split("```")[0]
    head = "api_version: confide/v1\nkind: Recipe\nname: ward\nversion: 1\ncontract: ward\nsteps:\n"
    recipe = recipe_from_yaml((head + block).encode())
    assert [step.to_document()["technique"] for step in recipe.steps] == ["mixup"]
    assert Recipe.from_document(recipe.to_document()) == recipe
