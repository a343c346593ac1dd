"""Contracts of data sets: what they say, the schema that follows, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from privacy.preparation.columns import Role
from privacy.preparation.contract_file import contract_from_yaml
from privacy.preparation.data_contract import DataContract, DataRole
from protocols.errors import ConfideError, ErrorCode

HEAD = b"""
api_version: confide/v1
kind: DataContract
name: readmission
purpose: predict readmission within 30 days
columns:
"""
COLUMNS = b"""
  - {name: full name, role: direct-identifier}
  - {name: nhs, role: linkage-key, purpose: joins the two hospitals' columns}
  - {name: age, role: quasi-identifier, use: feature, type: integer, range: [0, "120.0"]}
  - {name: postcode, role: quasi-identifier}
  - {name: hiv, role: sensitive, use: feature, type: boolean}
  - {name: dose, role: feature, type: float, range: [-1.50, 2.5]}
  - {name: outcome, role: label, type: choice, negative: well, positive: ill}
"""


def contract() -> DataContract:
    return contract_from_yaml(HEAD + COLUMNS)


def test_schema_has_what_is_shared_and_the_linkage_key_as_identifier() -> None:
    schema = contract().schema
    assert [(column.name, column.role) for column in schema.columns] == [
        ("nhs", Role.IDENTIFIER),
        ("age", Role.FEATURE),
        ("hiv", Role.FEATURE),
        ("dose", Role.FEATURE),
        ("outcome", Role.LABEL),
    ]
    assert (schema.name, schema.feature_bounds.tolist()) == ("readmission", [[0.0, 0.0, -1.5], [120.0, 1.0, 2.5]])


def test_document_gives_an_equal_contract_with_the_same_digest() -> None:
    written = contract().to_document()
    assert DataContract.from_document(written) == contract()
    assert DataContract.from_document(written).digest == contract().digest
    assert written["columns"][2] == {
        "name": "age", "role": "quasi-identifier", "use": "feature", "type": "integer", "range": ["0", "120"],
    }  # fmt: skip


def test_names_by_role_and_contract_without_columns() -> None:
    assert contract().names(DataRole.QUASI_IDENTIFIER, DataRole.SENSITIVE) == ("age", "postcode", "hiv")
    less = contract().without(["hiv", "postcode"])
    assert less.names() == ("full name", "nhs", "age", "dose", "outcome")
    assert less.digest != contract().digest


def test_purpose_of_a_column_is_part_of_the_contract() -> None:
    other = HEAD + COLUMNS.replace(b"joins the two hospitals' columns", b"curiosity")
    assert contract_from_yaml(other).digest != contract().digest


@pytest.mark.parametrize(
    ("columns", "where"),
    [
        ("- {name: a, role: feature}", "columns[0].type"),
        ("- {name: a, role: identifier}", "columns[0].role"),
        ("- {name: a, role: direct-identifier, type: float, range: [0, 1]}", "columns[0].type"),
        ("- {name: a, role: quasi-identifier, type: float, range: [0, 1]}", "columns[0].type"),
        ("- {name: a, role: quasi-identifier, use: ignored}", "columns[0].use"),
        ("- {name: a, role: feature, use: label, type: boolean}", "columns[0].use"),
        ("- {name: a, role: feature, type: boolean, purpose: [x]}", "columns[0].purpose"),
        ("- {name: a, role: label, type: float, range: [1, 0]}", "columns[0].range"),
        ("- {name: a, role: sensitive}", "columns"),
        ("- {name: a, role: label, type: boolean}\n  - {name: a, role: feature, type: boolean}", "columns.a"),
        ("- {name: a, role: label, type: boolean}\n  - {name: b, role: sensitive, use: label, type: boolean}", "columns"),
        (
            "- {name: a, role: linkage-key}\n  - {name: b, role: linkage-key}\n  - {name: c, role: label, type: boolean}",
            "columns",
        ),
        ("- text", "columns[0]"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(columns: str, where: str) -> None:
    with pytest.raises(ConfideError) as caught:
        contract_from_yaml(HEAD + f"  {columns}\n".encode())
    assert caught.value.code is ErrorCode.INVALID_CONTRACT
    assert where in [problem.where for problem in caught.value.problems]
    assert all(problem.remedy for problem in caught.value.problems)


@pytest.mark.parametrize(
    "change",
    [{"purpose": ""}, {"kind": "TableSchema"}, {"name": "A b"}, {"columns": []}, {"more": "1"}, {"purpose": "x" * 300}],
    ids=str,
)
def test_head_is_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ConfideError) as caught:
        DataContract.from_document(contract().to_document() | change)
    assert caught.value.code is ErrorCode.INVALID_CONTRACT


def test_document_with_longer_decimals_is_refused_since_its_digest_would_differ() -> None:
    document = contract().to_document()
    document["columns"][2]["range"] = ["0", "120.0"]
    with pytest.raises(ConfideError, match="shortest form"):
        DataContract.from_document(document)
