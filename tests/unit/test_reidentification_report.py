"""The report as a whole: on a table with planted people, before and after a preparation, and what it never writes down."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from privacy.preparation.contract_file import contract_from_yaml
from privacy.preparation.data_contract import DataContract
from privacy.reidentification.comparison import changes, comparison_document
from privacy.reidentification.masking import LEAST
from privacy.reidentification.picture import picture
from privacy.reidentification.report import ReidentificationReport, report_on
from privacy.reidentification.report_document import report_document
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from tests.support.command import confide
from tests.unit.test_reidentification_measures import SEED, reader

CONTRACT = """
api_version: confide/v1
kind: DataContract
name: ward
purpose: predict the outcome
columns:
  - {name: patient, role: linkage-key}
  - {name: age, role: quasi-identifier, use: feature, type: integer, range: [0, 120]}
  - {name: post, role: quasi-identifier}
  - {name: illness, role: sensitive}
  - {name: cost, role: sensitive}
  - {name: outcome, role: label, type: boolean}
"""
ROWS = 600
CANARY = "Zebulon"


def raw() -> pd.DataFrame:
    draw = np.random.default_rng(8)
    people = [f"{one}{other}" for one in ("An", "Be", "Ca", "Do", "El", "Fi") for other in ("lin", "mas", "nor", "per", "ris")]
    table = pd.DataFrame(
        {
            "patient": [f"P{number:06d}" for number in draw.permutation(ROWS) + 7_000],
            "first_name": draw.choice(people, ROWS),
            "age": draw.integers(20, 60, ROWS),
            "post": draw.choice(["1010", "1020", "1030", "2010"], ROWS),
            "illness": draw.choice(["flu", "angina", "gout"], ROWS),
            "cost": draw.integers(1, 9, ROWS) * 100,
            "outcome": draw.choice(["true", "false"], ROWS),
        }
    )
    # One person whom everybody knows: the oldest by far, alone in a post district, with an illness of their own.
    table.loc[3, ["first_name", "age", "post", "illness"]] = [CANARY, 97, "9090", "porphyria"]
    return table.astype(str)


def prepared() -> pd.DataFrame:
    table = raw().drop(columns=["patient", "first_name"]).drop(index=3)
    return table.assign(age=[str(int(age) // 20 * 20) for age in table["age"]], post=[post[:1] for post in table["post"]])


def contract(text: str = CONTRACT) -> DataContract:
    return contract_from_yaml(text.encode())


def make(table: pd.DataFrame, agreed: DataContract | None = None) -> ReidentificationReport:
    columns = {name: pa.string() for name in table}
    return report_on(reader(table), columns, agreed or contract(), seed=SEED, detect=lambda _text: ())


@pytest.fixture(scope="module")
def before() -> ReidentificationReport:
    return make(raw())


@pytest.fixture(scope="module")
def after() -> ReidentificationReport:
    return make(prepared())


def test_identifiers_are_flagged_with_or_without_the_contract(before: ReidentificationReport) -> None:
    assert before.flagged == ("patient", "first_name")
    assert {column.name: column.role for column in before.columns}["first_name"] is None


def test_declared_quasi_identifiers_make_the_classes(before: ReidentificationReport, after: ReidentificationReport) -> None:
    groups = raw().groupby(["age", "post"]).size()
    assert before.declared
    assert before.quasi_identifiers == ("age", "post")
    assert (before.classes.k, before.classes.unique) == (groups.min(), (groups == 1).sum())
    assert [(one.column, one.ordered) for one in before.diversities] == [("illness", False), ("cost", True)]
    assert after.classes.k == prepared().groupby(["age", "post"]).size().min() > LEAST


def test_flagged_quasi_identifier_stays_one() -> None:
    table = raw().assign(post=[f"{row} Oak Street" for row in range(ROWS)])
    found = make(table)
    assert "post" in found.flagged
    assert found.quasi_identifiers == ("age", "post")
    assert found.classes.unique == ROWS


def test_without_declared_ones_the_proposed_make_the_classes() -> None:
    found = make(
        raw(), contract(CONTRACT.replace("quasi-identifier, use: feature", "feature").replace("quasi-identifier", "sensitive"))
    )
    assert not found.declared
    assert found.proposed
    assert set(found.quasi_identifiers) == set(found.proposed)
    assert found.proposed_contributions == ()
    assert found.contributions


def test_same_seed_gives_the_same_report_and_another_the_same_figures(before: ReidentificationReport) -> None:
    assert make(raw()) == before


def test_empty_table_is_refused() -> None:
    with pytest.raises(ConfideError) as caught:
        make(raw().iloc[:0])
    assert caught.value.code is ErrorCode.INVALID_DATA


def test_documents_are_canonical_and_hold_no_cell(before: ReidentificationReport, after: ReidentificationReport) -> None:
    cells = {cell for name in ("patient", "first_name", "post", "illness") for cell in raw()[name]}
    for document in (report_document(before), comparison_document(before, after)):
        assert parse_canonical(canonical_bytes(document)) == json.loads(json.dumps(document))
        words = set(texts_of(document))
        assert not [cell for cell in cells if any(cell in word.split() for word in words)]
    drawn = picture(before, after)
    assert not [cell for cell in cells if not cell.isdecimal() and cell in drawn]


def test_no_count_of_few_rows_is_written(before: ReidentificationReport, after: ReidentificationReport) -> None:
    assert 0 < sum(column.unique for column in before.columns if column.name == "post") < LEAST
    for report in (before, after):
        document = report_document(report)
        for column in document["owner_only"]["columns"]:
            for count in (column["unique"], column["missing"]):
                assert isinstance(count, str) or count == 0 or LEAST <= count <= ROWS - LEAST or count == ROWS
        parts = document["shareable"]["rows_by_class_size"].values()
        assert all(isinstance(part, str) or part == 0 or part >= LEAST for part in parts)


def test_shareable_part_names_only_sensitive_columns(before: ReidentificationReport) -> None:
    words = set(texts_of(report_document(before)["shareable"]))
    assert not words & {"patient", "first_name", "age", "post"}


def test_comparison_shows_what_went_and_what_became_safer(before: ReidentificationReport, after: ReidentificationReport) -> None:
    document = comparison_document(before, after)["owner_only"]
    assert document["dropped"] == ["patient", "first_name"]
    assert document["flagged"] == {"before": ["patient", "first_name"], "after": []}
    shown = {change.figure: (change.before, change.after) for change in changes(before, after)}
    assert shown["columns flagged as identifiers"] == ("2", "0")
    assert shown["k"] == (str(before.classes.k), str(after.classes.k))
    assert float(shown["mean risk"][1]) < float(shown["mean risk"][0])


def test_picture_is_well_formed_and_its_bars_are_the_shares(
    before: ReidentificationReport, after: ReidentificationReport
) -> None:
    tree = ElementTree.fromstring(picture(before, after))  # noqa: S314  # our own output
    bars = [float(one.attrib["width"]) for one in tree.iter("{http://www.w3.org/2000/svg}rect") if one.attrib.get("x") == "220"]
    steps = len(before.classes.rows_by_size)
    room = max(bars)  # of patient, whose every row is unique
    legend = 1
    of_classes = bars[legend : legend + 2 * steps]
    expected = [max(rows, LEAST) / ROWS if rows else 0.0 for rows in before.classes.rows_by_size]
    # Bars are written with one decimal.
    assert of_classes[::2] == pytest.approx([share * room for share in expected], abs=0.06)
    assert "patient *" in "".join(tree.itertext())


def test_names_of_columns_cannot_break_the_picture() -> None:
    table = raw().rename(columns={"age": '<script>"&'})
    ElementTree.fromstring(picture(make(table)))  # noqa: S314  # our own output


def test_command_reports_compares_and_draws(tmp_path: Path) -> None:
    raw().to_csv(tmp_path / "raw.csv", index=False)
    prepared().to_csv(tmp_path / "after.csv", index=False)
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    files = ("--file", str(tmp_path / "raw.csv"), "--contract", str(tmp_path / "contract.yaml"))
    text = confide("dataset", "report", *files)
    assert text.exit_code == 0
    assert "k = 1;" in text.out
    assert "porphyria" not in text.out + text.error
    assert CANARY not in text.out + text.error
    out = tmp_path / "out.svg"
    compared = confide(
        "dataset", "report", *files, "--against", str(tmp_path / "after.csv"), "--picture", str(out), "--format", "json"
    )
    assert compared.data["owner_only"]["dropped"] == ["patient", "first_name"]
    assert compared.data["before"]["shareable"]["k"] == 1
    ElementTree.fromstring(out.read_text())  # noqa: S314  # our own output
    again = confide("dataset", "report", *files, "--picture", str(out), "--format", "json")
    assert again.failure["code"] == "INVALID_ARGUMENT"


def texts_of(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in texts_of(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts_of(one)]
    return [value] if isinstance(value, str) else []
