"""Labels of every task: how a schema describes them, what becomes of their cells, and whether a job fits them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from privacy.preparation.contract import OnViolation, PreparedRows, prepare
from privacy.preparation.fit import check_fit, fit_or_refuse
from privacy.preparation.schema import TableSchema, read_schema
from privacy.preparation.schema_file import schema_from_yaml
from privacy.preparation.table import Content, FileFormat, read_table
from privacy.preparation.values import Violation
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Task
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from tests.support.jobs import a_training

AGE = {"name": "age", "role": "feature", "type": "integer", "range": ["0", "120"]}
GRADE = {"type": "choice", "choices": ["low", "medium", "high"]}
DIGIT = {"type": "integer", "classes": "10"}
DOSE = {"type": "float", "range": ["-1", "3"]}
STAY = {"type": "integer", "range": ["0", "30"]}
ILL = {"type": "choice", "negative": "well", "positive": "ill"}


def schema_of(label: dict[str, Any]) -> TableSchema:
    columns = [AGE, {"name": "outcome", "role": "label", **label}]
    return read_schema({"api_version": "confide/v1", "kind": "TableSchema", "name": "ward", "columns": columns})


def prepared(label: dict[str, Any], *cells: str, on_violation: OnViolation = OnViolation.REFUSE) -> PreparedRows:
    text = "age,outcome\n" + "".join(f"60,{cell}\n" for cell in cells)
    schema = schema_of(label)
    table = read_table(text.encode(), schema, content=Content.LABELLED_ROWS, file_format=FileFormat.CSV)
    return prepare(table, schema, on_violation)


@pytest.mark.parametrize(
    ("label", "task", "names"),
    [
        ({"type": "boolean"}, Task.BINARY, ("false", "true")),
        (ILL, Task.BINARY, ("well", "ill")),
        (GRADE, Task.CLASSES, ("low", "medium", "high")),
        (DIGIT, Task.CLASSES, tuple("0123456789")),
        (DOSE, Task.REAL, ()),
        (STAY, Task.REAL, ()),
    ],
)
def test_label_says_task_and_classes_and_survives_the_round_trip(
    label: dict[str, Any], task: Task, names: tuple[str, ...]
) -> None:
    schema = schema_of(label)
    assert (schema.task, schema.num_classes, schema.label.class_names) == (task, len(names) or None, names)
    assert TableSchema.from_document(parse_canonical(canonical_bytes(schema.to_document()))) == schema


def test_label_written_in_yaml_is_read_with_its_numbers_bare() -> None:
    text = """
api_version: confide/v1
kind: TableSchema
name: ward
columns:
  - {name: age, role: feature, type: integer, range: [0, 120]}
  - {name: outcome, role: label, type: integer, classes: 10}
"""
    assert schema_from_yaml(text.encode()) == schema_of(DIGIT)


@pytest.mark.parametrize(
    ("label", "cells", "expected"),
    [
        (GRADE, ("high", "low", " medium "), [2.0, 0.0, 1.0]),
        (DIGIT, ("0", "9", "3.0"), [0.0, 9.0, 3.0]),
        (DOSE, ("-1", "3", "1.5"), [-1.0, 1.0, 0.25]),
        (STAY, ("0", "15", "30"), [-1.0, 0.0, 1.0]),
        (ILL, ("ill", "well"), [1.0, 0.0]),
    ],
)
def test_prepare_turns_labels_into_classes_or_scaled_numbers(
    label: dict[str, Any], cells: tuple[str, ...], expected: list[float]
) -> None:
    assert prepared(label, *cells).labels.tolist() == expected


@pytest.mark.parametrize(
    ("label", "cell", "violation"),
    [
        (GRADE, "Low", Violation.UNKNOWN_LABEL),
        (GRADE, "", Violation.MISSING),
        (DIGIT, "10", Violation.UNKNOWN_LABEL),
        (DIGIT, "-1", Violation.UNKNOWN_LABEL),
        (DIGIT, "2.5", Violation.UNKNOWN_LABEL),
        (DIGIT, "two", Violation.NOT_A_NUMBER),
        (DOSE, "3.01", Violation.OUT_OF_RANGE),
        (DOSE, "nan", Violation.NAN),
        (STAY, "2.5", Violation.NOT_AN_INTEGER),
    ],
)
def test_prepare_cell_that_is_no_label_is_refused_or_left_out(label: dict[str, Any], cell: str, violation: Violation) -> None:
    good = {"choice": "low", "integer": "3", "float": "0"}[label["type"]]
    with pytest.raises(ConfideError) as caught:
        prepared(label, good, cell)
    assert [problem.where for problem in caught.value.problems] == ["row 2 (line 3), column outcome"]
    assert schema_of(label).label.expected in caught.value.problems[0].what
    assert prepared(label, good, cell, on_violation=OnViolation.LEAVE_OUT).left_out == {violation: 1}


def test_prepare_numbered_classes_from_parquet_are_the_same() -> None:
    schema = schema_of(DIGIT)
    data = pd.DataFrame({"age": [1, 2], "outcome": np.array([7, 0], np.int8)}).to_parquet()
    table = read_table(data, schema, content=Content.LABELLED_ROWS, file_format=FileFormat.PARQUET)
    assert prepare(table, schema, OnViolation.REFUSE).labels.tolist() == [7.0, 0.0]


def test_unscale_gives_numbers_back_in_their_own_unit() -> None:
    assert schema_of(DOSE).unscale_labels(np.array([-1.0, 0.25, 1.0])).tolist() == [-1.0, 1.5, 3.0]
    assert schema_of(GRADE).unscale_labels(np.array([2.0])).tolist() == [2.0]


def test_expected_of_many_choices_names_the_first_ones() -> None:
    many = schema_of({"type": "choice", "choices": [f"c{number}" for number in range(9)]}).label
    assert many.expected == "one of 'c0', 'c1', 'c2', 'c3', 'c4', 'c5' or 3 more"


@pytest.mark.parametrize(
    ("label", "where", "words"),
    [
        ({"type": "choice", "choices": ["low"]}, "choices", "nothing to predict"),
        ({"type": "choice", "choices": []}, "choices", "nothing to predict"),
        ({"type": "choice", "choices": ["low", "high"]}, "choices", "negative and positive"),
        ({"type": "choice", "choices": [str(number) for number in range(65)]}, "choices", "at most 64"),
        ({"type": "choice", "choices": ["low", "low", "high"]}, "choices", "stands 2 times"),
        ({"type": "choice", "choices": "low, high"}, "choices", "a list of texts"),
        ({"type": "choice", "choices": ["low", " high", "x"]}, "choices", "a list of texts"),
        ({"type": "choice", "choices": ["a", "b", "c"], "negative": "a"}, "negative", "unknown field"),
        ({"type": "integer", "classes": "1"}, "classes", "nothing to predict"),
        ({"type": "integer", "classes": "2"}, "classes", "type boolean"),
        ({"type": "integer", "classes": "65"}, "classes", "at most 64"),
        ({"type": "integer", "classes": "many"}, "classes", "for example classes: 10"),
        ({"type": "integer", "classes": 10}, "classes", "for example classes: 10"),
        ({"type": "integer", "classes": "10", "range": ["0", "9"]}, "range", "unknown field"),
        ({"type": "integer"}, "range", "missing field"),
        ({"type": "float", "classes": "10"}, "classes", "unknown field"),
    ],
)
def test_label_described_wrongly_is_refused_with_a_remedy(label: dict[str, Any], where: str, words: str) -> None:
    with pytest.raises(ConfideError) as caught:
        schema_of(label)
    assert caught.value.code is ErrorCode.INVALID_SCHEMA
    assert f"columns[1].{where}" in {problem.where for problem in caught.value.problems}
    assert words in str(caught.value)


def test_feature_with_classes_is_refused() -> None:
    with pytest.raises(ConfideError, match="unknown field"):
        read_schema(schema_of(ILL).to_document() | {"columns": [AGE | {"classes": "3"}]})


def test_job_that_does_not_fit_its_schema_is_told_in_what() -> None:
    wide = ModelSpec.chain(2, linear=Linear(4))
    job = a_training(schema=schema_of(GRADE).to_document(), model=wide)
    assert [(problem.where, problem.what) for problem in check_fit(job)] == [
        ("task", "the job says binary, the label outcome is classes"),
        ("model", "it takes 2 features, the schema has 1"),
    ]
    assert [problem.what for problem in check_fit(replace(job, task=Task.CLASSES))] == [
        "4 outputs for the 3 classes of outcome",
        "it takes 2 features, the schema has 1",
    ]
    assert fit_or_refuse(a_training()) == ()


def test_job_whose_schema_cannot_be_read_is_refused_for_it() -> None:
    assert {code for code, _ in fit_or_refuse(a_training(schema={"format": "other"}))} == {ErrorCode.INVALID_SCHEMA}
    document = schema_of(DOSE).to_document()
    document["columns"][1] = {"name": "outcome", "role": "label", "type": "float", "range": ["-1.0", "3"]}
    assert [code for code, _ in fit_or_refuse(a_training(schema=document))] == [ErrorCode.INVALID_SCHEMA]
