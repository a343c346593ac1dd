"""Schemas are read strictly, all problems at once, and have one digest however their decimals were written."""

import numpy as np
import pytest

from privacy.preparation.schema import Role, TableSchema, read_schema
from privacy.preparation.schema_file import schema_from_yaml
from protocols.canonical import canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from tests.support.tables import a_schema, breast_cancer_frame, breast_cancer_schema

YAML = """
api_version: confide/v1
kind: TableSchema
name: ward
columns:
  - {name: patient, role: identifier}
  - {name: age, role: feature, type: integer, range: [0, 120]}
  - {name: dose, role: feature, type: float, range: ["-1.50", 2.5]}
  - {name: smoker, role: feature, type: boolean}
  - {name: outcome, role: label, type: choice, negative: well, positive: ill}
  - {name: remark, role: ignored}
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfideError) as caught:
        schema_from_yaml(text.encode())
    assert caught.value.code is ErrorCode.INVALID_SCHEMA
    assert all(problem.remedy for problem in caught.value.problems)
    return [problem.where for problem in caught.value.problems]


def test_yaml_quoted_and_bare_decimals_give_the_same_schema() -> None:
    assert schema_from_yaml(YAML.encode()) == a_schema()
    assert schema_from_yaml(YAML.replace("[0, 120]", '["0.0", "0120"]').encode()).digest == a_schema().digest


def test_document_round_trips_through_canonical_bytes() -> None:
    document = parse_canonical(canonical_bytes(a_schema().to_document()))
    assert TableSchema.from_document(document) == a_schema()
    assert a_schema().digest == sha256_hex(canonical_bytes(document))


def test_document_with_other_decimals_is_refused() -> None:
    document = a_schema().to_document()
    document["columns"][1]["range"] = ["0.0", "120"]
    with pytest.raises(ConfideError, match="shortest form"):
        TableSchema.from_document(document)


def test_schema_views_keep_the_order_of_the_columns() -> None:
    schema = a_schema()
    assert schema.feature_names == ("age", "dose", "smoker")
    assert (schema.num_features, schema.label.name) == (3, "outcome")
    assert [column.role for column in schema.columns if column.column_type is None] == [Role.IDENTIFIER, Role.IGNORED]


def test_scale_maps_ends_of_ranges_exactly() -> None:
    scaled = a_schema().scale(np.array([[0.0, -1.5, 0.0], [120.0, 2.5, 1.0], [60.0, 0.5, 1.0]]))
    assert scaled.tolist() == [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]


def test_yaml_every_problem_is_reported_with_its_path() -> None:
    text = """
api_version: confide/v2
kind: TableSchema
name: Ward 7
owner: me
columns:
  - {name: age, role: feature, type: integer, range: [0.5, 120]}
  - {name: dose, role: feature, type: float, range: [2, 1], unit: mg}
  - {name: rate, role: feature, type: float, range: [1e3, .inf]}
  - {name: far, role: feature, type: float}
  - {name: sex, role: feature, type: category}
  - {name: " x", role: identifier, type: float}
  - {name: outcome, role: label, type: choice, negative: ill, positive: ill}
  - {name: other, role: target}
  - just text
"""
    assert problems_of(text) == [
        "owner",
        "api_version",
        "name",
        "columns[0].range",
        "columns[1].unit",
        "columns[1].range",
        "columns[2].range",
        "columns[3].range",
        "columns[4].type",
        "columns[5].type",
        "columns[5].name",
        "columns[6].positive",
        "columns[7].role",
        "columns[8]",
    ]


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("role: ignored", "role: label, type: boolean", "columns"),
        ("name: dose", "name: age", "columns.age"),
        ("columns:", "rows:", "rows"),
    ],
)
def test_yaml_table_with_two_labels_or_doubled_columns_is_refused(old: str, new: str, where: str) -> None:
    assert where in problems_of(YAML.replace(old, new))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", ""),
        ("- a", ""),
        ("a: [", "line 1"),
        ("a: 1\na: 2", "a (line 2)"),
        ("a: !!python/object/apply:os.system [true]", "a (line 1)"),
        ("a: &x [1]\nb: *x", "b (line 1)"),
        ("a: {b: {c: {d: {e: {f: {g: {h: {i: {j: 1}}}}}}}}}", "a.b.c.d.e.f.g.h.i (line 1)"),
        ("- " * 1_000, ""),
        ("a: 1\n---\nb: 2", "line 2"),
        ("x" * (1024 * 1024 + 1), ""),
    ],
    ids=["empty", "list", "unclosed", "doubled", "tag", "alias", "deep", "very_deep", "two_documents", "large"],
)
def test_yaml_hostile_or_broken_text_is_refused(text: str, where: str) -> None:
    assert problems_of(text) == [where]


def test_yaml_in_another_encoding_is_refused() -> None:
    with pytest.raises(ConfideError, match="UTF-8"):
        schema_from_yaml("name: größe".encode("latin-1"))


def test_document_with_wrong_types_is_refused_without_crash() -> None:
    for value in (None, 1, [], {}, ["a"], True):
        for key in ("name", "columns", "kind"):
            with pytest.raises(ConfideError):
                read_schema({**a_schema().to_document(), key: value})
        for key in ("name", "role", "type", "range"):
            document = a_schema().to_document()
            document["columns"][1][key] = value
            with pytest.raises(ConfideError):
                read_schema(document)


def test_example_schema_holds_the_whole_breast_cancer_table_with_margin() -> None:
    schema, frame = breast_cancer_schema(), breast_cancer_frame()
    assert schema.num_features == 30
    scaled = schema.scale(frame[list(schema.feature_names)].to_numpy())
    assert (abs(scaled[:, scaled.min(axis=0) > -1]) < 1).all()
    assert scaled.max() < 1
