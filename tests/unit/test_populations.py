"""Data sets of the same people: one budget, declared by their owner, and found where nobody declared it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from governance.audit.entries import EntryKind, read_entry
from governance.budget.amounts import Amount
from governance.policy.budgets import Budgets, Caps
from parties.alignment_secrets import AlignBy, make_alignment_secret
from parties.arrays import arrays_from_bytes
from parties.cli.main import app
from parties.config import PartyConfig, load_party_config, write_party_config
from parties.linking.staging import Terms, read_set
from parties.populations import PEOPLE, Newcomer, caps_in_force
from parties.registration import register_dataset
from parties.server.charges import charges_of
from parties.server.party import _rows_per_person
from parties.storage.database import open_database
from parties.storage.datasets import DatasetRecord
from parties.storage.sealed import Purpose
from privacy.preparation.contract import OnViolation
from privacy.preparation.people import digests_of, people_digests, people_in_both
from privacy.preparation.schema_file import schema_from_yaml
from privacy.preparation.table import Table
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.intersection import Mode
from protocols.job import Output, OutputKind
from tests.support.jobs import a_dataset, an_evaluation

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = bytes(range(32))
LABS = """\
api_version: confide/v1
kind: TableSchema
name: labs
columns:
  - {name: patient, role: identifier}
  - {name: glucose, role: feature, type: float, range: ["0", "40"]}
  - {name: ill, role: label, type: boolean}
"""
SCANS = LABS.replace("labs", "scans").replace("patient", "case").replace("glucose", "density")


@pytest.fixture
def config(tmp_path: Path) -> PartyConfig:
    write_party_config(tmp_path / "party.yaml", party="hospital-a", listen="0.0.0.0:7443")
    config = load_party_config(tmp_path / "party.yaml")
    config.folder.create_storage()
    return config


def register(
    config: PartyConfig, name: str, people: str, *, schema: str = LABS, first: float = 1.0, **more: Any
) -> DatasetRecord:
    """Registers one row of each of these people, and values that follow `first`."""
    file, schema_file = config.state / f"{name}.csv", config.state / f"{name}.yaml"
    identifier, value = ("patient", "glucose") if schema == LABS else ("case", "density")
    rows = [f"{person},{first + number},{'true' if number % 2 else 'false'}" for number, person in enumerate(people.split())]
    file.write_text("\n".join([f"{identifier},{value},ill", *rows]) + "\n")
    schema_file.write_text(schema)
    return register_dataset(
        config, name=name, file=file, schema_file=schema_file, on_violation=OnViolation.REFUSE, now=NOW, **more
    )


def refusal(action: Callable[[], object]) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        action()
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    return caught.value


def populations(config: PartyConfig) -> Mapping[str, str]:
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        found = tables.datasets.populations()
    database.close()
    return found


def test_data_set_is_a_population_of_its_own_unless_its_owner_declares_another(config: PartyConfig) -> None:
    assert register(config, "labs", "ann ben cid").population == "labs"
    assert register(config, "scans", "ann ben dan", schema=SCANS, population="labs").population == "labs"
    assert register(config, "labs", "ann ben cid eve", first=2).population == "labs"
    assert register(config, "genes", "fay gus", first=9, population="cohort").population == "cohort"
    assert populations(config) == {"genes": "cohort", "labs": "labs", "scans": "labs"}


def test_people_of_another_population_are_found_in_another_column_and_another_spelling(config: PartyConfig) -> None:
    register(config, "labs", "Ann BEN cid")
    error = refusal(lambda: register(config, "scans", "ann \N{FULLWIDTH LATIN SMALL LETTER B}en dan", schema=SCANS, first=7))
    assert error.what == "2 of these people are in labs too, of the population labs"
    assert "--population labs" in error.remedy
    assert "--population scans" in error.remedy
    assert list(populations(config)) == ["labs"]
    register(config, "scans", "dan eve", schema=SCANS)  # others


def test_owner_who_declares_others_of_the_same_names_is_believed_and_the_log_says_how_many(config: PartyConfig) -> None:
    register(config, "labs", "ann ben cid")
    assert register(config, "scans", "ann ben dan", schema=SCANS, first=7, population="scans").population == "scans"
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        entries = [read_entry(entry.body) for entry in tables.audit.entries(0, 9)]
    database.close()
    assert [entry.kind for entry in entries] == [EntryKind.DATASET_REGISTERED] * 2
    assert [entry.facts["population"] for entry in entries] == ["labs", "scans"]
    assert [entry.facts["also_of"] for entry in entries] == [[], ["labs: 2"]]


def test_same_rows_are_refused_under_another_population_and_taken_under_the_same(config: PartyConfig) -> None:
    register(config, "labs", "ann ben cid")
    again = refusal(lambda: register(config, "others", "ann ben cid", population="others"))
    assert "these are the rows of labs, version 1" in again.what
    assert register(config, "others", "ann ben cid", population="labs").population == "labs"  # one budget: nothing begins anew


def test_parts_of_one_alignment_are_of_the_same_people(config: PartyConfig, tmp_path: Path) -> None:
    secret = tmp_path / "cohort.key"
    make_alignment_secret(secret)
    align_by = AlignBy(secret, "cohort")
    register(config, "labs", "ann ben cid", align_by=align_by)
    error = refusal(lambda: register(config, "scans", "ann ben cid", schema=SCANS, first=7, align_by=align_by))
    assert error.what.startswith("3 of these people are in labs too")
    register(config, "scans", "ann ben cid", schema=SCANS, first=7, align_by=align_by, population="labs")


def test_population_of_a_name_stays_once_something_was_spent_of_it(config: PartyConfig) -> None:
    register(config, "labs", "ann ben cid")
    assert register(config, "labs", "ann ben cid", population="cohort").population == "cohort"  # nothing was spent of labs
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        spent = {"dataset/cohort": Amount(None, Decimal(0), 1, 1)}
        tables.ledger.reserve("ab" * 16, spent, {"dataset/cohort": Caps()}, NOW, kind="evaluate")
    database.close()
    error = refusal(lambda: register(config, "labs", "ann ben cid", population="labs"))
    assert "of the population cohort, whose budget was used" in error.what
    assert register(config, "labs", "ann ben cid").population == "cohort"  # undeclared, it goes on as it was


@pytest.mark.parametrize("population", ["Cohort", "", "a/b", "x" * 64])
def test_population_has_a_name_as_data_sets_have(config: PartyConfig, population: str) -> None:
    assert refusal(lambda: register(config, "labs", "ann", population=population)).problems[0].where == "population"


def test_two_registrations_at_once_of_one_file_under_two_names_keep_one(
    config: PartyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found nothing before either begins to write: the second to write must look again."""
    looked, meet = threading.local(), threading.Barrier(2, timeout=60)
    overlaps = Newcomer.overlaps

    def look(newcomer: Newcomer, *arguments: Any) -> Mapping[str, int]:
        found = overlaps(newcomer, *arguments)
        if not getattr(looked, "once", False):
            looked.once = True
            meet.wait()
        return found

    def attempt(name: str) -> str:
        try:
            register(config, name, "ann ben cid", population=name)
        except ConfideError as error:
            return error.what
        return ""

    monkeypatch.setattr(Newcomer, "overlaps", look)
    with ThreadPoolExecutor(2) as threads:
        said = sorted(threads.map(attempt, ["one", "two"]))
    assert said[0] == ""
    assert said[1].startswith("these are the rows of ")
    assert len(populations(config)) == 1
    assert len(list(config.folder.sealed_folder.iterdir())) == 1


def test_rows_that_another_process_moved_meanwhile_are_compared_with_the_population_that_they_left(
    config: PartyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look passes over the population that these rows were of; once the name was moved, that is another one's."""
    register(config, "labs", "ann ben cid")
    register(config, "scans", "ann ben cid", population="labs")  # the same rows, one budget
    overlaps, moved = Newcomer.overlaps, []

    def look(newcomer: Newcomer, *arguments: Any) -> Mapping[str, int]:
        found = overlaps(newcomer, *arguments)
        if newcomer.declared is None and not moved:
            moved.append("scans")
            register(config, "scans", "dan eve", first=7, population="cohort")
        return found

    monkeypatch.setattr(Newcomer, "overlaps", look)
    error = refusal(lambda: register(config, "scans", "ann ben cid"))
    assert error.what.startswith("these are the rows of labs, version 1")
    assert populations(config) == {"labs": "labs", "scans": "cohort"}


def test_people_of_more_populations_than_an_entry_holds_are_named_as_far_as_they_fit(
    config: PartyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {f"{number:03d}-{'x' * 59}": number for number in range(1, 300)}
    monkeypatch.setattr(Newcomer, "overlaps", lambda *_: others)
    register(config, "labs", "ann ben cid", population="labs")
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        (entry,) = tables.audit.entries(0, 1)
    database.close()
    said = read_entry(entry.body).facts["also_of"]
    assert isinstance(said, list)
    assert (said[0], said[-1], len(said)) == (f"299-{'x' * 59}: 299", "and 199 more", 101)


def test_cap_that_the_policy_writes_for_a_data_set_holds_for_the_population_that_it_joins(config: PartyConfig) -> None:
    written = Caps(queries=5, epsilon=Decimal("1.5"), permits=("assess", "release"))
    budgets = Budgets(default=Caps(queries=9), datasets={"labs": written, "scans": Caps(answers=7, epsilon=Decimal(2))})
    register(config, "labs", "ann ben cid", population="cohort")
    register(config, "genes", "fay gus", first=9)
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        assert caps_in_force(tables, budgets, "dataset/cohort") == written
        assert caps_in_force(tables, budgets, "dataset/genes") == Caps(queries=9)
    register(config, "scans", "ann ben", first=7, population="cohort")
    with database.transaction() as tables:
        both = Caps(queries=5, answers=7, epsilon=Decimal("1.5"))  # what both permit: nothing beside the cap
        assert caps_in_force(tables, budgets, "dataset/cohort") == both
        tables.ledger.set_caps("dataset/cohort", Caps(queries=70), authorisation="a" * 64, now=NOW)
        assert caps_in_force(tables, budgets, "dataset/cohort") == Caps(queries=70)  # an officer has seen all of it
    database.close()


def test_a_job_over_two_data_sets_of_one_population_charges_their_account_once(config: PartyConfig) -> None:
    register(config, "labs", "ann ben cid", population="cohort")
    register(config, "scans", "ann ben dan", schema=SCANS, population="cohort")
    own = [a_dataset("hospital-a", name) for name in ("labs", "scans")]
    job = an_evaluation(
        outputs=(Output("right", OutputKind.CORRECT_COUNT, "alice", 5),), datasets=(*own, a_dataset("hospital-b"))
    )
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        charged = charges_of(tables, job, "hospital-a")
        of_rows = {account: amount for account, amount in charged.items() if account.startswith("dataset/")}
        assert of_rows == {"dataset/cohort": Amount(None, Decimal(0), 1, 1)}
        # A person who is in both has the rows of both.
        records = tables.datasets.latest()
    database.close()
    assert [record.rows_per_person for record in records] == [1, 1]
    assert _rows_per_person(records, job) == {"labs": 2, "scans": 2}
    unknown = [replace(record, rows_per_person=None) for record in records]  # one in each, at least
    assert _rows_per_person(unknown, job) == {"labs": 2, "scans": 2}
    assert _rows_per_person([replace(records[0], rows_per_person=3), unknown[1]], job) == {"labs": 4, "scans": 4}


def test_identifiers_are_sealed_as_keyed_digests_and_nowhere_else(config: PartyConfig) -> None:
    record = register(config, "labs", "a-very-long-name ben cid")
    for path in config.state.rglob("*"):
        if path.is_file() and path.suffix not in (".csv", ".yaml"):
            assert b"a-very-long-name" not in path.read_bytes()
    sealed = config.folder.open_sealed()
    arrays = arrays_from_bytes(sealed.read(Purpose.DATASET, record.object_id, record.sealed_name))
    assert arrays[PEOPLE].shape == (3,)
    table = a_table(["a-very-long-name", "ben", "cid"])
    np.testing.assert_array_equal(arrays[PEOPLE], people_digests(table, schema_from_yaml(LABS.encode()), key=sealed.people_key))
    assert people_in_both(arrays[PEOPLE], people_digests(table, schema_from_yaml(LABS.encode()), key=KEY)) == 0


def test_private_alignment_finds_people_of_another_population_before_the_sides_meet(config: PartyConfig) -> None:
    register(config, "labs", "ann ben cid")
    file, schema_file = config.state / "part.csv", config.state / "part.yaml"
    file.write_text("case,density,ill\nBEN,3,true\ndan,4,false\n")
    schema_file.write_text(SCANS)
    terms = Terms("cardio", "hospital-a", "hospital-b", "cohort", Mode.ROWS, "part", None)
    assert (
        "1 of these people are in labs too" in refusal(lambda: read_set(config, terms, file=file, schema_file=schema_file)).what
    )
    checked = read_set(config, replace(terms, population="labs"), file=file, schema_file=schema_file)
    assert checked.whose.population == "labs"
    ben, dan = digests_of(["ben", "dan"], key=config.folder.open_sealed().people_key)
    assert checked.whose.people.tolist() == [ben, dan]
    sizes = read_set(config, replace(terms, mode=Mode.SIZE, dataset=""), file=file, schema_file=schema_file)  # registers nothing
    assert sizes.whose.people.size == 0


def test_commands_take_and_show_whose_rows_these_are(config: PartyConfig, tmp_path: Path) -> None:
    register(config, "labs", "ann ben cid")
    (config.state / "scans.csv").write_text("case,density,ill\nann,3,true\ndan,4,false\n")
    (config.state / "scans.yaml").write_text(SCANS)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["dataset", *arguments, "--config", str(tmp_path / "party.yaml")])

    given = (
        "register",
        "--name",
        "scans",
        "--file",
        str(config.state / "scans.csv"),
        "--schema",
        str(config.state / "scans.yaml"),
    )
    assert "1 of these people are in labs too" in run(*given).stderr
    assert "one budget, dataset/labs" in run(*given, "--population", "labs").stdout
    listed = [line.split()[:4] for line in run("list").stdout.splitlines()[1:] if line.strip()]
    assert [each for each in listed if each[0] in ("labs", "scans")] == [["labs", "1", "3", "labs"], ["scans", "1", "2", "labs"]]


def a_table(cells: list[Any], *, name: str = "patient") -> Table:
    return Table({name: pa.chunked_array([cells])}, len(cells), None)


@pytest.mark.parametrize(
    ("cells", "people"),
    [(["ann", "ANN ", " ann"], 1), (["ann", None, "", " "], 1), ([17, 17, 18], 2), ([None, None], 0), ([[1], [2]], 0)],
)
def test_people_are_counted_once_each_and_rows_without_one_are_nobody_s(cells: list[Any], people: int) -> None:
    assert len(people_digests(a_table(cells), schema_from_yaml(LABS.encode()), key=KEY)) == people


def test_number_and_its_digits_are_one_person() -> None:
    schema = schema_from_yaml(LABS.encode())
    numbers, texts = people_digests(a_table([17, 18]), schema, key=KEY), people_digests(a_table(["17", "19"]), schema, key=KEY)
    assert people_in_both(numbers, texts) == 1
