"""Different columns of the same people: how they are aligned, and the schema that their schemas join to."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy.preparation.alignment import align, identifiers_of
from privacy.preparation.commitment import commit, verify
from privacy.preparation.contract import OnViolation, prepare
from privacy.preparation.parts import arrangement_problems, join_schemas
from privacy.preparation.schema import TableSchema, read_schema
from privacy.preparation.table import Content, FileFormat, Table, read_table
from protocols.errors import ConfideError, ErrorCode
from tests.support.parts import JOINED, part_schema

A, C = (TableSchema.from_document(part_schema(party)) for party in ("hospital-a", "hospital-c"))
BOTH = {"hospital-a/patients": A, "hospital-c/patients": C}
SECRET = bytes(range(32))
PEOPLE = ("p-17", "p-4", "ärztin")


def a_schema(*columns: dict[str, Any], name: str = "part") -> TableSchema:
    return read_schema({"api_version": "confide/v1", "kind": "TableSchema", "name": name, "columns": list(columns)})


def a_feature(name: str, high: str = "10") -> dict[str, Any]:
    return {"name": name, "role": "feature", "type": "float", "range": ["0", high]}


def a_table(text: str, content: Content = Content.ALIGNED_ROWS) -> Table:
    return read_table(text.encode(), C, content=content, file_format=FileFormat.CSV)


def test_alignment_is_the_keyed_digest_that_its_page_says() -> None:
    message = b"confide.alignment/1\x00" + struct.pack("<I", 5) + b"study" + struct.pack("<Q", 3)
    for person in PEOPLE:
        message += struct.pack("<I", len(person.encode())) + person.encode()
    assert align(PEOPLE, secret=SECRET, label="study") == hmac.new(SECRET, message, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("people", "secret", "label"),
    [
        (PEOPLE[::-1], SECRET, "study"),
        (PEOPLE[:2], SECRET, "study"),
        (("p-17", "p-4ä", "rztin"), SECRET, "study"),
        (PEOPLE, SECRET[::-1], "study"),
        (PEOPLE, SECRET, "other"),
    ],
)
def test_alignment_of_other_people_order_secret_or_label_is_another(people: tuple[str, ...], secret: bytes, label: str) -> None:
    assert align(people, secret=secret, label=label) != align(PEOPLE, secret=SECRET, label="study")


@pytest.mark.parametrize(
    ("secret", "label"),
    [(SECRET[:31], "study"), (SECRET, ""), (SECRET, " study"), (SECRET, "x" * 64), (SECRET, "a\ud880"), (SECRET, "a\nb")],
)
def test_alignment_with_a_weak_secret_or_no_label_is_refused(secret: bytes, label: str) -> None:
    with pytest.raises(ConfideError) as caught:
        align(PEOPLE, secret=secret, label=label)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_identifiers_are_the_same_from_csv_text_parquet_text_and_whole_numbers() -> None:
    csv = a_table("patient,texture,area\n17,1,2\n 4 ,3,4\n")
    assert identifiers_of(csv, C) == ("17", "4")
    for cells in (pa.array([17, 4]), pa.array(["17", "4"]), pa.array(["17", "4"]).dictionary_encode()):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"patient": cells, "texture": [1.0, 3.0], "area": [2.0, 4.0]}), sink)
        data = sink.getvalue().to_pybytes()
        table = read_table(data, C, content=Content.ALIGNED_ROWS, file_format=FileFormat.PARQUET)
        assert identifiers_of(table, C) == ("17", "4")


def test_identifiers_that_are_missing_or_doubled_are_named_by_row_and_never_by_value() -> None:
    with pytest.raises(ConfideError) as caught:
        identifiers_of(a_table("patient,texture,area\nsecret-1,1,2\n,3,4\nsecret-1,5,6\n"), C)
    assert [(p.where, p.what) for p in caught.value.problems] == [
        ("row 2", "has no identifier"),
        ("row 3", "has the identifier of row 1"),
    ]
    assert "secret-1" not in str(caught.value)


def test_identifiers_that_are_measurements_are_refused() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"patient": [1.5, 2.5], "texture": [1.0, 3.0], "area": [2.0, 4.0]}), sink)
    table = read_table(sink.getvalue().to_pybytes(), C, content=Content.ALIGNED_ROWS, file_format=FileFormat.PARQUET)
    with pytest.raises(ConfideError, match="1 problem") as caught:
        identifiers_of(table, C)
    assert caught.value.code is ErrorCode.INVALID_DATA


def test_identifiers_that_are_not_utf8_are_refused_without_their_text() -> None:
    cells = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(struct.pack("<2i", 0, 4)), pa.py_buffer(b"ab\xff\xfe")])
    table = Table({"patient": pa.chunked_array([cells])}, 1, None)
    with pytest.raises(ConfideError) as caught:
        identifiers_of(table, C)
    assert [problem.what for problem in caught.value.problems] == ["holds text that is not UTF-8"]
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("identifiers", [(), ("patient", "case")])
def test_schema_without_one_identifier_cannot_be_aligned(identifiers: tuple[str, ...]) -> None:
    schema = a_schema(a_feature("dose"), *({"name": name, "role": "identifier"} for name in identifiers))
    header, row = ",".join(("dose", *identifiers)), ",".join(("1", *identifiers))
    table = read_table(f"{header}\n{row}\n".encode(), schema, content=Content.ALIGNED_ROWS, file_format=FileFormat.CSV)
    with pytest.raises(ConfideError, match="by which column") as caught:
        identifiers_of(table, schema)
    assert caught.value.code is ErrorCode.INVALID_SCHEMA


def test_identifier_is_missing_only_where_rows_are_to_be_aligned() -> None:
    without = "texture,area\n1,2\n"
    assert list(a_table(without, Content.LABELLED_ROWS).columns) == ["texture", "area"]
    with pytest.raises(ConfideError) as caught:
        a_table(without)
    assert [problem.where for problem in caught.value.problems] == ["column patient"]


def test_part_without_a_label_is_prepared_and_committed_to_as_features_alone() -> None:
    rows = prepare(a_table("patient,texture,area\nx,0,10\ny,5,2.5\n"), C, OnViolation.REFUSE)
    assert rows.num_rows == 2
    assert rows.labels.shape == (0,)
    np.testing.assert_array_equal(rows.features, [[-1.0, 1.0], [0.0, -0.5]])
    salt = b"s" * 32
    head = b"confide.rows/1\x00" + salt + bytes.fromhex(C.digest) + struct.pack("<QQ", 2, 2)
    expected = hashlib.sha256(head + struct.pack("<4d", -1.0, 1.0, 0.0, -0.5)).hexdigest()
    assert commit(rows, schema_digest=C.digest, salt=salt) == expected
    assert verify(expected, rows, schema_digest=C.digest, salt=salt)


def test_part_of_a_label_alone_is_prepared() -> None:
    schema = a_schema({"name": "benign", "role": "label", "type": "boolean"})
    table = read_table(b"benign\ntrue\nfalse\n", schema, content=Content.LABELLED_ROWS, file_format=FileFormat.CSV)
    rows = prepare(table, schema, OnViolation.REFUSE)
    assert (rows.features.shape, rows.labels.tolist(), rows.num_rows) == ((2, 0), [1.0, 0.0], 2)


def test_schema_without_a_label_says_so_where_one_is_needed() -> None:
    assert (A.has_label, C.has_label, C.num_features) == (True, False, 2)
    with pytest.raises(ConfideError, match="one part of the rows") as caught:
        _ = C.task
    assert caught.value.code is ErrorCode.INVALID_SCHEMA


def test_joined_schema_has_all_features_in_order_then_the_label_and_no_identifier() -> None:
    assert join_schemas(BOTH).to_document() == JOINED
    assert join_schemas({"c": C, "a": A}).feature_names == ("texture", "area", "radius")


def test_join_reports_doubled_columns_and_labels_at_once() -> None:
    other = a_schema(a_feature("radius"), {"name": "benign", "role": "label", "type": "boolean"})
    with pytest.raises(ConfideError) as caught:
        join_schemas({"a/x": A, "b/y": other})
    assert caught.value.code is ErrorCode.INVALID_JOB
    assert [(p.where, p.what) for p in caught.value.problems] == [
        ("column radius", "a/x and b/y both have it"),
        ("column benign", "a/x and b/y both have it"),
        ("datasets", "2 data sets have a label: a/x, b/y"),
    ]
    with pytest.raises(ConfideError, match="1 problem") as caught:
        join_schemas({"c": C})
    assert [problem.what for problem in caught.value.problems] == ["no data set has a label"]


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (BOTH, []),
        (
            {"hospital-c/patients": C, "hospital-a/patients": A},
            [("datasets", "write [hospital-a/patients, hospital-c/patients]")],
        ),
        ({"hospital-a/patients": A}, [("column texture", "name the data set"), ("column area", "name the data set")]),
        (
            BOTH | {"x/y": a_schema(a_feature("weight"))},
            [("column weight", "name data sets with the columns of the model's training")],
        ),
        (
            {"hospital-a/patients": A, "x/y": a_schema(a_feature("texture", "20"), a_feature("area"))},
            [("column texture", "register it under the description of the training")],
        ),
        (
            {"hospital-a/patients": A, "x/y": a_schema(a_feature("area"), a_feature("texture"))},
            [("datasets", "register the parts under schemas that list the columns")],
        ),
    ],
)
def test_parts_that_do_not_join_to_a_models_columns_are_told_what_to_do(
    parts: dict[str, TableSchema], found: list[tuple[str, str]]
) -> None:
    problems = list(arrangement_problems(parts, TableSchema.from_document(JOINED)))
    assert [problem.where for problem in problems] == [where for where, _ in found]
    assert all(words in problem.remedy for problem, (_, words) in zip(problems, found, strict=True))
