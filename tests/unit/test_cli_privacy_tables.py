"""`confide privacy tables`: a released copy of rows is found, figures are the library's, and what does not fit is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from parties import harness
from parties.storage.database import one_transaction
from parties.storage.datasets import DatasetRecord
from privacy.figures import figures_document
from privacy.risk import own_table
from privacy.risk.tables import ReleasedTable, table_figures
from protocols.job import TIME_FORMAT
from tests.support.command import Said, confide
from tests.support.evidence_holder import PARTIES, Holder, a_holder
from tests.support.people import NOW

ROWS = 300
NAMES = ("table.inference.gain", "table.linkability.gain", "table.singling_out.gain")
RANGES = {"age": ("0", "100"), "pulse": ("30", "200"), "weight": ("2", "200"), "dose": ("0", "10")}
COLUMNS: list[dict[str, Any]] = [
    *({"name": name, "role": "feature", "type": "float", "range": list(ends)} for name, ends in RANGES.items()),
    {"name": "smokes", "role": "feature", "type": "boolean"},
    {"name": "ill", "role": "label", "type": "choice", "choices": ["no", "a little", "very"]},
]
HEAD = [str(column["name"]) for column in COLUMNS]
WORDS = ("no", "a little", "very")


def people(count: int, seed: int) -> list[list[str]]:
    """Rows of the schema; age and pulse go together."""
    draw = np.random.default_rng(seed)
    age = draw.uniform(0, 100, count)
    pulse = np.clip(60 + age / 2 + draw.normal(0, 5, count), 30, 200)
    numbers = np.column_stack([age, pulse, draw.uniform(2, 200, count), draw.uniform(0, 10, count)])
    cells = [[f"{value:.3f}" for value in row] for row in numbers]
    return [
        [*row, ("false", "true")[smokes], WORDS[ill]]
        for row, smokes, ill in zip(cells, draw.integers(0, 2, count), draw.integers(0, 3, count), strict=True)
    ]


def write(path: Path, rows: Sequence[Sequence[str]], head: Sequence[str] = HEAD) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    schema = {"api_version": "confide/v1", "kind": "TableSchema", "name": "people", "columns": COLUMNS}
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(schema))
    write(tmp_path / "behind.csv", people(ROWS, 1))
    write(tmp_path / "others.csv", people(ROWS, 2))
    write(tmp_path / "copy.csv", people(ROWS, 1)[::-1])
    write(tmp_path / "fresh.csv", people(ROWS, 3))
    return tmp_path


def attack(folder: Path, released: str, *more: str) -> Said:
    rows = ["--behind", str(folder / "behind.csv"), "--others", str(folder / "others.csv")]
    fixed = ["--schema", str(folder / "schema.yaml"), "--sensitive", "ill", "--seed", "7", "--format", "json"]
    return confide("privacy", "tables", folder / released, *rows, *fixed, *more)


def numbers(rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Rows as a person would code them, in their own units."""
    codes = {"false": 0.0, "true": 1.0, **{word: float(place) for place, word in enumerate(WORDS)}}
    return np.array([[codes[cell] if cell in codes else float(cell) for cell in row] for row in rows])


@pytest.mark.parametrize(("released", "seed"), [("copy.csv", 1), ("fresh.csv", 3)])
def test_figures_are_those_of_the_library_on_the_same_rows(files: Path, released: str, seed: int) -> None:
    found = attack(files, released).data
    rows = people(ROWS, seed)[:: -1 if seed == 1 else 1]
    table = ReleasedTable(numbers(rows), numbers(people(ROWS, 1)), numbers(people(ROWS, 2)), np.array([False] * 4 + [True] * 2))
    # In own units here, scaled by the schema there: the attacks scale both to shares of a column's range.
    expected = table_figures(table, secret=5, generator=np.random.default_rng(7))
    assert found["figures"] == figures_document(expected)
    assert (found["released"], found["members"], found["others"], found["shadows"], found["seed"]) == (ROWS, ROWS, ROWS, 0, 7)


def test_table_that_copies_rows_is_found_and_one_of_other_people_is_not(files: Path) -> None:
    copied, fresh = (attack(files, name).data["figures"] for name in ("copy.csv", "fresh.csv"))
    for name in NAMES:
        assert float(copied[name][1]) > 0
    # At the given seed; each interval misses 0 with a chance of 5 % when nothing is told.
    for name in NAMES:
        assert float(fresh[name][1]) <= 0 <= float(fresh[name][2])
    said = attack(files, "copy.csv", "--format", "text").out
    assert "The table tells of the rows behind it" in said
    assert "No attack succeeded" in attack(files, "fresh.csv", "--format", "text").out


def test_others_that_the_table_was_made_from_are_suspected(files: Path) -> None:
    write(files / "swapped.csv", people(ROWS, 2))
    assert "are they the rows that the table was made from?" in attack(files, "swapped.csv", "--format", "text").out


def refused(folder: Path, released: str = "copy.csv", *more: str) -> tuple[str, str, set[str]]:
    said = attack(folder, released, *more)
    assert said.exit_code == 2
    failure = said.failure
    assert all(problem["remedy"] for problem in failure["problems"])
    assert failure["problems"] or failure["remedy"]
    return failure["code"], failure["what"], {problem["where"] for problem in failure["problems"]}


def test_table_with_other_columns_is_refused_with_their_names(files: Path) -> None:
    write(files / "other.csv", [[*row[1:], "1"] for row in people(ROWS, 1)], [*HEAD[1:], "height"])
    code, what, where = refused(files, "other.csv")
    assert (code, str(files / "other.csv") in what) == ("INVALID_DATA", True)
    assert where == {"column age", "column 'height'"}


def test_cells_that_the_schema_does_not_allow_are_refused_by_row(files: Path) -> None:
    rows = people(ROWS, 1)
    rows[4][0] = "120"
    write(files / "broken.csv", rows)
    code, what, where = refused(files, "broken.csv")
    assert (code, str(files / "broken.csv") in what, len(where)) == ("INVALID_DATA", True, 1)
    assert "row 5" in where.pop()


def test_few_rows_and_rows_on_both_sides_are_refused_together(files: Path) -> None:
    write(files / "few.csv", people(19, 1))
    write(files / "others.csv", [*people(ROWS, 1)[:7], *people(ROWS, 2)])
    code, _, where = refused(files, "few.csv")
    assert (code, where) == ("INVALID_DATA", {"the released table", "others"})


def test_few_rows_in_both_are_taken_for_chance_and_so_are_values_in_common(files: Path) -> None:
    write(files / "others.csv", people(ROWS, 1)[:6] + people(ROWS, 2))
    assert attack(files, "fresh.csv").exit_code == 0
    coarse = [["50", "90", "60", "5", row[4], row[5]] for row in people(ROWS, 2)]
    for name in ("behind", "others", "coarse"):
        write(files / f"{name}.csv", coarse)
    assert attack(files, "coarse.csv").exit_code == 0


def test_unknown_column_few_columns_and_missing_files_are_refused(files: Path) -> None:
    code, _, where = refused(files, "copy.csv", "--sensitive", "height")
    assert (code, where) == ("INVALID_ARGUMENT", {"height"})
    assert refused(files, "nobody.csv")[0] == "INVALID_ARGUMENT"
    schema = yaml.safe_load((files / "schema.yaml").read_text())
    schema["columns"] = [{**each, "role": "ignored"} if each["name"] in HEAD[:3] else each for each in schema["columns"]]
    for each in schema["columns"][:3]:
        each.pop("type"), each.pop("range")
    (files / "schema.yaml").write_text(yaml.safe_dump(schema))
    assert refused(files)[2] == {"columns"}


def test_time_is_told_before_if_it_is_more_than_moments(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "about" not in attack(files, "copy.csv").error
    monkeypatch.setattr(own_table, "_PER_CELL_S", 1e-3)
    assert "about 541 s of one core" in attack(files, "copy.csv").error  # 300 x 300 x 6 cells at 1 ms, and the guesses


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    harness.make_consortium(folder, PARTIES)
    return folder


@pytest.fixture
def holder(consortium: Path, tmp_path: Path) -> Holder:
    made = a_holder(shutil.copytree(consortium, tmp_path / "consortium"))
    with one_transaction(made.config.folder.database_file) as tables:
        tables.datasets.add(
            DatasetRecord("people", 1, b"{}", ROWS, {}, "c" * 64, "", "people.sealed", NOW, None, False, "people")
        )
    return made


def stating(holder: Holder, out: Path, changed: dict[str, str] | None = None) -> list[str]:
    given = {"config": str(holder.folder / "hospital-a" / "party.yaml"), "model": "replica@0123456789ab"}
    given |= {"dataset": "hospital-a/people/1", "out": str(out)} | (changed or {})
    return [part for name, value in given.items() if value for part in (f"--{name}", value)]


def test_report_that_is_written_is_stated_and_signed_by_a_person(files: Path, holder: Holder) -> None:
    out = files / "found.json"
    found = attack(files, "copy.csv", *stating(holder, out)).data
    assert (found["report"], out.stat().st_mode & 0o077) == (str(out), 0)
    written: dict[str, Any] = json.loads(out.read_text())
    assert (written["figures"], written["datasets"]) == (found["figures"], ["hospital-a/people/1"])
    assert written["time"] >= NOW.strftime(TIME_FORMAT)
    signed = files / "signed.json"
    said = holder.run("model", "evidence", "state", str(out), "--in-the-clear", "--out", str(signed), person="steward")
    assert (said["model"], said["owner"], signed.exists()) == ("replica@0123456789ab", "hospital-a", True)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"model": ""}, "INVALID_ARGUMENT"),
        ({"out": ""}, "INVALID_ARGUMENT"),
        ({"model": "replica"}, "INVALID_ARGUMENT"),
        ({"dataset": "hospital-b/people/1"}, "INVALID_ARGUMENT"),
        ({"dataset": "people"}, "INVALID_ARGUMENT"),
        ({"dataset": "hospital-a/people/2"}, "UNKNOWN_DATASET"),
        ({"out": "/nowhere/found.json"}, "INVALID_ARGUMENT"),
    ],
)
def test_report_that_could_not_be_stated_is_refused_before_anything_is_read(
    files: Path, holder: Holder, changed: dict[str, str], code: str
) -> None:
    said = attack(files, "nobody.csv", *stating(holder, files / "found.json", changed))
    assert (said.exit_code, said.failure["code"]) == (2, code)
    assert "nobody.csv" not in said.failure["what"]
    assert not (files / "found.json").exists()
