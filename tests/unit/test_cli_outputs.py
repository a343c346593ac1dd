"""Opened outputs in words and in JSON: classes by their names, withheld cells said to be withheld, numbers in their own unit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from parties.cli.job_words import count_in_words, describe_outputs, outputs_in_words
from protocols.job import Output, OutputKind, Task
from tests.support.jobs import SCHEMA, an_evaluation, an_inference

GRADES = {"name": "grade", "role": "label", "type": "choice", "choices": ["low", "medium", "high"]}
STAY = {"name": "days", "role": "label", "type": "integer", "range": ["0", "30"]}


def schema(label: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA | {"columns": [*SCHEMA["columns"][:-1], label]}


def words(kind: OutputKind, value: np.ndarray, label: dict[str, Any] | None = None, **limits: Any) -> list[str]:
    """The lines for one output of an evaluation or inference."""
    is_predicted = kind in (OutputKind.LABEL, OutputKind.PROBABILITY, OutputKind.VALUE)
    outputs = (Output("out", kind, "alice", 0 if is_predicted else 5, **limits),)
    changes: dict[str, Any] = {"outputs": outputs} | ({"schema": schema(label), "task": Task.CLASSES} if label else {})
    job = an_inference(**changes) if is_predicted else an_evaluation(**changes)
    return outputs_in_words(job, {"out": value}).splitlines()


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (271, "271 of 300 rows"),
        (300, "296 or more of 300 rows (fewer than 5 wrong ones are not counted)"),
        (0, "fewer than 5 of 300 rows"),
    ],
)
def test_count_at_its_ends_says_that_small_groups_are_not_counted(count: int, expected: str) -> None:
    assert count_in_words(count, num_rows=300, min_cell=5) == expected
    assert count_in_words(count, num_rows=300, min_cell=1) == f"{count} of 300 rows"


def test_confusion_is_a_table_with_class_names_and_withheld_cells() -> None:
    counts = np.array([[90, 12, -1], [7, 80, 9], [-1, -1, 95]])
    lines = words(OutputKind.CONFUSION, counts, GRADES)
    assert [line.split() for line in lines[1:-1]] == [
        ["true", "\\", "predicted", "low", "medium", "high"],
        ["low", "90", "12", "-"],
        ["medium", "7", "80", "9"],
        ["high", "-", "-", "95"],
    ]
    assert lines[-1] == "-: withheld: it, or what could be computed from it, is of fewer than 5 rows"
    assert len(words(OutputKind.CONFUSION, np.abs(counts), GRADES)) == 5


@pytest.mark.parametrize("kind", [OutputKind.ROC_AUC, OutputKind.LOG_LOSS])
def test_rate_has_four_places_or_is_withheld(kind: OutputKind) -> None:
    assert words(kind, np.array([0.98765])) == ["out: 0.9877"]
    assert words(kind, np.array([np.nan])) == ["out: withheld: a class has fewer than 5 rows"]


def test_squared_error_is_also_told_in_the_unit_of_the_label() -> None:
    # a root of 0.2 of a half range of 15 days
    assert words(OutputKind.SQUARED_ERROR, np.array([0.04]), STAY)[0].endswith("own unit: 3")


def test_predictions_are_named_and_numbered() -> None:
    assert words(OutputKind.LABEL, np.array([2, 0]), GRADES) == ["sample  out (grade)", "1       high", "2       low"]
    assert words(OutputKind.VALUE, np.array([-1.0, 0.5]), STAY) == ["sample  out (days)", "1       0", "2       22.5"]
    assert words(OutputKind.PROBABILITY, np.array([0.25])) == ["sample  out (probability of true)", "1       0.25"]
    wide = words(OutputKind.PROBABILITY, np.array([[0.5, 0.25, 0.25]]), GRADES)
    assert [line.split() for line in wide] == [["sample", "low", "medium", "high"], ["1", "0.5000", "0.2500", "0.2500"]]


def test_rounded_probabilities_have_the_digits_that_were_opened() -> None:
    assert words(OutputKind.PROBABILITY, np.array([0.5, 0.07]), decimals=2)[1:] == ["1       0.50", "2       0.07"]
    wide = words(OutputKind.PROBABILITY, np.array([[0.7, 0.3, 0.0]]), GRADES, decimals=1, top_k=2)
    assert wide[1].split() == ["1", "0.7", "0.3", "0.0"]


def test_json_has_null_for_what_is_withheld_and_nothing_that_is_no_json() -> None:
    found = describe_outputs({"table": np.array([[3, -1], [-1, 4]]), "auc": np.array([np.nan]), "loss": np.array([0.5])})
    assert found == {"table": [[3, None], [None, 4]], "auc": [None], "loss": [0.5]}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
