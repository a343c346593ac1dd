"""Rows a person: counted at registration where a column names people, declared by the owner, and asked of a private training."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from governance.admission import Holdings, examine
from parties.config import PartyConfig, load_party_config, write_party_config
from parties.registration import register_dataset
from parties.storage.database import one_transaction
from parties.storage.datasets import DatasetRecord
from privacy.preparation.contract import OnViolation, PreparedRows
from privacy.preparation.people import are_same_rows, bound_of_people, most_rows_of_one
from privacy.preparation.schema_file import schema_from_yaml
from privacy.preparation.table import Content, FileFormat, Table, read_table
from protocols.errors import ConfideError, ErrorCode
from protocols.private_training import Mechanism, PrivateTraining, Unit
from tests.support.jobs import CREATED, a_dataset, a_training, sgd
from tests.support.members import a_world

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMA = """\
api_version: confide/v1
kind: TableSchema
name: ward
columns:
  - {name: patient, role: identifier}
  - {name: age, role: feature, type: integer, range: [0, 120]}
  - {name: ill, role: label, type: boolean}
"""
ROWS = "patient,age,ill\nanna,40,true\nbert,41,false\nanna,42,true\n anna ,43,true\n"
TERMS = PrivateTraining(Mechanism.SHARED_GRADIENTS, "29", 1, 300, 100, "1", "0.00001", Unit.PERSON, 2, "1", 0)
Register = Callable[..., DatasetRecord]


def counted(data: bytes, file_format: FileFormat = FileFormat.CSV, schema: str = SCHEMA) -> int | None:
    parsed = schema_from_yaml(schema.encode())
    return most_rows_of_one(read_table(data, parsed, content=Content.COUNTED_ROWS, file_format=file_format), parsed)


def parquet(patients: pa.Array) -> bytes:
    sink = io.BytesIO()
    size = len(patients)
    pq.write_table(pa.table({"patient": patients, "age": [40] * size, "ill": [True] * size}), sink)
    return sink.getvalue()


@pytest.fixture
def config(tmp_path: Path) -> PartyConfig:
    write_party_config(tmp_path / "party.yaml", party="hospital-a", listen="0.0.0.0:7443")
    config = load_party_config(tmp_path / "party.yaml")
    config.folder.create_storage()
    return config


@pytest.fixture
def register(config: PartyConfig) -> Register:
    def registered(rows: str = ROWS, name: str = "ward", declared: int | None = None) -> DatasetRecord:
        file, schema = config.state / "rows.csv", config.state / "schema.yaml"
        file.write_text(rows)
        schema.write_text(SCHEMA)
        return register_dataset(
            config, name=name, file=file, schema_file=schema, on_violation=OnViolation.REFUSE, now=NOW, rows_per_person=declared
        )

    return registered


@pytest.mark.parametrize(
    ("text", "most"),
    [
        (ROWS, 3),  # spaces around an identifier are no part of it
        ("patient,age,ill\nanna,40,true\n,41,true\n,42,true\n", 2),  # without one, all may be of one person
        ("age,ill\n40,true\n41,true\n", None),
        ("patient,patient,age,ill\na,b,40,true\na,c,41,true\n", None),  # which of both names people is unknown
    ],
)
def test_rows_of_whoever_has_most_are_counted(text: str, most: int | None) -> None:
    assert counted(text.encode()) == most


def test_rows_are_counted_by_numbers_and_by_dictionaries_too() -> None:
    assert counted(parquet(pa.array([7, 7, 8])), FileFormat.PARQUET) == 2
    assert counted(parquet(pa.array(["a", "b", "a"]).dictionary_encode()), FileFormat.PARQUET) == 2
    assert counted(parquet(pa.array([[1], [1]])), FileFormat.PARQUET) is None
    assert counted(parquet(pa.array(["a", None, " ", ""])), FileFormat.PARQUET) == 3


def test_one_person_in_several_spellings_is_one_as_where_people_are_compared() -> None:
    spellings = ["anna  m\u00fcller", "ANNA M\u00dcLLER", "Anna Mu\u0308ller ", "\uff21nna M\u00fcller", "bert"]
    assert counted(parquet(pa.array(spellings)), FileFormat.PARQUET) == 4
    assert counted(parquet(pa.array(["a", None, "\u00a0", "b"])), FileFormat.PARQUET) == 2
    assert counted(parquet(pa.array([b"\xff", b"\xff", b"a"])), FileFormat.PARQUET) == 2


def test_of_several_identifiers_the_most_equal_one_counts() -> None:
    schema = SCHEMA.replace("  - {name: age", "  - {name: visit, role: identifier}\n  - {name: age")
    assert counted(b"visit,patient,age,ill\n1,anna,40,true\n2,anna,41,true\n", schema=schema) == 2


def test_identifiers_are_dropped_where_nobody_counts() -> None:
    parsed = schema_from_yaml(SCHEMA.encode())
    table: Table = read_table(ROWS.encode(), parsed, content=Content.LABELLED_ROWS, file_format=FileFormat.CSV)
    assert "patient" not in table.columns
    assert most_rows_of_one(table, parsed) is None


@pytest.mark.parametrize(("found", "declared", "bound"), [(None, None, None), (3, None, 3), (3, 5, 5), (None, 4, 4), (3, 3, 3)])
def test_bound_is_what_the_owner_declares_or_what_was_counted(found: int | None, declared: int | None, bound: int | None) -> None:
    assert bound_of_people(found, declared) == bound


@pytest.mark.parametrize(("declared", "said"), [(2, "one person has 3 rows; 2 are declared"), (0, "from 1"), (1001, "from 1")])
def test_declaration_below_what_was_counted_or_that_is_none_is_refused(declared: int, said: str) -> None:
    with pytest.raises(ConfideError) as caught:
        bound_of_people(3, declared)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert said in caught.value.problems[0].what


def test_registration_keeps_the_bound_and_how_it_is_known(register: Register, config: PartyConfig) -> None:
    assert [(r.rows_per_person, r.is_counted) for r in (register(), register(declared=5))] == [(3, True), (5, True)]
    unknown, declared = register("age,ill\n1,true\n"), register("age,ill\n1,true\n", declared=2)
    assert [(r.rows_per_person, r.is_counted) for r in (unknown, declared)] == [(None, False), (2, False)]
    with pytest.raises(ConfideError, match="declared"):
        register(declared=1)
    with one_transaction(config.folder.database_file) as tables:
        assert [record.rows_per_person for record in tables.datasets.all()] == [3, 5, None, 2]


@pytest.mark.parametrize(
    ("terms", "known", "is_refused"),
    [
        (TERMS, 3, True),
        (TERMS, 2, False),
        (TERMS, None, False),
        (replace(TERMS, rows_per_person=3), 3, False),
        (replace(TERMS, unit=Unit.PERSON_EVERYWHERE), 3, True),
        (replace(TERMS, unit=Unit.ROW, rows_per_person=1), 3, False),
    ],
)
def test_owner_s_party_refuses_a_job_that_counts_fewer_rows_of_a_person(
    terms: PrivateTraining, known: int | None, is_refused: bool
) -> None:
    holdings = Holdings(
        party="hospital-a",
        datasets={"patients": a_dataset("hospital-a")},
        models={},
        min_evaluation_rows=50,
        max_rows=1_000,
        max_query_rows=10,
        servings=0,
        max_servings=1,
        min_cell=5,
        resumed=None,
        schemas={},
        prepared={},
        rows_per_person={} if known is None else {"patients": known},
    )
    job = a_training(training=replace(sgd(60, 300, "0.1"), privacy=terms))
    found = [each.problem for each in examine(job, directory=a_world().directory, holdings=holdings, now=CREATED)]
    said = [problem.what for problem in found if problem.where == "datasets.hospital-a.patients"]
    assert said == (["it has up to 3 rows of one person; the job counts 2"] if is_refused else [])


def test_rows_of_one_name_are_refused_under_another_in_any_order(register: Register, config: PartyConfig) -> None:
    header, *lines = ROWS.splitlines()
    register()
    with pytest.raises(ConfideError) as caught:
        register("\n".join([header, *reversed(lines)]) + "\n", name="other")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "rows of ward, version 1" in caught.value.what
    assert register().version == 2
    assert register(ROWS.replace("anna", "dora").replace("bert", "emil").replace("40", "44"), name="other").version == 1
    with one_transaction(config.folder.database_file) as tables:
        assert [record.object_id for record in tables.datasets.all()] == ["other/1", "ward/1", "ward/2"]


def test_rows_that_are_equal_by_chance_are_not_taken_for_the_same() -> None:
    few = PreparedRows(np.array([[1.0], [1.0], [-1.0], [-1.0], [1.0]]), np.empty(0), {})
    assert not are_same_rows(few, few)
    no_columns = PreparedRows(np.empty((3, 0)), np.array([0.0, 1.0, 2.0]), {})
    assert not are_same_rows(no_columns, no_columns)
    several = PreparedRows(np.array([[1.0, 0.5], [-0.0, 1.0]]), np.array([0.0, 1.0]), {})
    turned = PreparedRows(np.array([[0.0, 1.0], [1.0, 0.5]]), np.array([1.0, 0.0]), {})
    assert are_same_rows(several, turned)
    assert not are_same_rows(several, PreparedRows(turned.features, turned.labels[::-1].copy(), {}))
