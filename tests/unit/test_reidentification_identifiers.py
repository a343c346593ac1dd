"""Columns that name people are found by their cells and structure, and columns that do not are left alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from privacy.reidentification import check_digits
from privacy.reidentification.direct_identifiers import Detector, Finding, Sure, examine
from privacy.reidentification.entities import Entity, EntityKind
from privacy.reidentification.value_kinds import kind_of
from tests.unit.test_reidentification_measures import real_table

ROWS = 400
DRAW = np.random.default_rng(3)
GIVEN = "jhezane penny grunt ailish viktor mosi tarek lene ondine pavel rosa juno emeka sasha wiebke".split()  # noqa: SIM905


def persons_in(text: str) -> Sequence[Entity]:
    """Stands in for the detector: takes two capitalised words for a person, unless the first is one of a ward."""
    return [
        Entity(EntityKind.PERSON, match.start(), match.end(), 0.9)
        for match in re.finditer(r"[A-Z][a-z]+ [A-Z][a-z]+", text)
        if not match.group().startswith(("Ward", "Clinic"))
    ]


def look(name: str, cells: Sequence[str | None], detect: Detector = persons_in) -> tuple[Finding, ...]:
    present = [cell for cell in cells if cell is not None]
    share = len(set(present)) / len(present)
    return examine(name, pa.array(cells, pa.string()), distinct_share=share, num_rows=len(present), detect=detect)


def flagged(name: str, cells: Sequence[str | None], detect: Detector = persons_in) -> list[str]:
    return [finding.what for finding in look(name, cells, detect) if finding.flagged]


def with_nhs_check(number: int) -> str:
    digits = f"{number:09d}"
    return next((digits + check for check in "0123456789" if check_digits.nhs_number(digits + check)), "9434765919")


PLANTED = {
    "e-mail address": [f"user{row}@example.org" for row in range(ROWS)],
    "NHS number": [with_nhs_check(int(number)) for number in DRAW.integers(400_000_000, 499_999_999, ROWS)],
    "social security number (US)": [f"{row + 100:03d}-{row % 98 + 1:02d}-{row + 1000:04d}" for row in range(ROWS)],
    "telephone number": [f"+44 20 7946 {row:04d}" for row in range(ROWS)],
    "network address": [f"10.0.{row // 250}.{row % 250}" for row in range(ROWS)],
    "serial number": [str(row + 1) for row in range(ROWS)],
    "identifying number": [str(number) for number in DRAW.permutation(ROWS)],
    "code": [f"MR{number}" for number in DRAW.permutation(np.arange(10_000, 10_000 + ROWS))],
    "nearly unique text": [f"{word * 3} {row}!" for row, word in zip(range(ROWS), GIVEN * ROWS, strict=False)],
    "postal address": [f"{row + 1} Oak Street" for row in range(ROWS)],
    "free text with identifiers": [f"Today Anna Berg number {row} came in with a cough" for row in range(ROWS)],
}


@pytest.mark.parametrize("what", PLANTED)
def test_planted_identifier_is_flagged_whatever_the_column_is_called(what: str) -> None:
    assert what in flagged("x1", PLANTED[what])


@pytest.mark.parametrize("name", ["fake_first_name", "surname", "PatientName", "name"])
def test_names_are_flagged_by_their_form_and_a_hint(name: str) -> None:
    assert flagged(name, GIVEN * 20) == ["name"]


def test_full_names_are_flagged_without_a_hint() -> None:
    assert flagged("x1", [f"{one.title()} {other.title()}" for one in GIVEN for other in GIVEN]) == ["name"]


def test_date_of_birth_is_flagged_with_its_hint_and_possible_without() -> None:
    dates = [str(np.datetime64("1930-01-01") + int(day)) for day in DRAW.integers(0, 30_000, ROWS)]
    assert flagged("dob", dates) == ["date of birth"]
    assert [(finding.what, finding.sure) for finding in look("x1", dates)] == [("date of birth", Sure.POSSIBLE)]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("clinic_name", [f"ward {letter}" for letter in "abcdefgh"] * 50),
        ("patient_id", ["covid", "xcvd1"] * 200),
        ("mrn", ["yes", "no"] * 200),
        ("age", [str(row % 90) for row in range(ROWS)]),
        ("glucose", [f"{row / 7:.3f}" for row in range(ROWS)]),
        ("name", ["yes", "no", "unknown"] * 100),
        ("nothing", [None] * 399 + ["x"]),
    ],
)
def test_name_of_a_column_alone_flags_nothing(name: str, cells: list[str | None]) -> None:
    assert flagged(name, cells) == []


@pytest.mark.parametrize("table", ["loanapp", "bwght", "smoke", "cancer"])
def test_real_table_without_identifiers_has_none_flagged(table: str) -> None:
    found = real_table(table)
    assert {
        name: what for name in found if (what := flagged(name, [None if pd.isna(cell) else cell for cell in found[name]]))
    } == {}


def test_identifier_of_a_real_table_is_flagged() -> None:
    found = real_table("affairs")
    assert [name for name in found if flagged(name, list(found[name]))] == ["id"]


def test_digits_that_fit_a_check_by_chance_are_no_finding() -> None:
    # One in eleven random numbers of ten digits fits the check of an NHS number.
    cells = [str(number) for number in DRAW.integers(1_000_000_000, 9_999_999_999, ROWS)]
    assert not [finding for finding in look("x1", cells) if finding.what == "NHS number"]


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("GB82 WEST 1234 5698 7654 32", "bank account (IBAN)"),
        ("4111-1111-1111-1111", "payment card"),
        ("378282246310005", "payment card"),
        ("943 476 5919", "NHS number"),
        ("2 55 08 14 168 025 38", "social security number (FR)"),
        ("12345678Z", "identity number (ES)"),
        ("X1234567L", "identity number (ES)"),
        ("86095742719", "tax number (DE)"),
        ("44051401359", "identity number (PL)"),
        ("193-456-787", "social insurance number (CA)"),
        ("2001:db8:0:0:0:0:2:1", "network address"),
        ("SW1A 1AA", "postcode (GB)"),
        ("2024-02-29", "date"),
    ],
)
def test_published_example_is_known(cell: str, name: str) -> None:
    kind = kind_of(cell)
    assert kind is not None
    assert kind.name == name


@pytest.mark.parametrize(
    "cell", ["GB82 WEST 1234 5698 7654 33", "9434765918", "12345678A", "1", "", "hello", "12.5", "666-12-3456"]
)
def test_wrong_digit_or_plain_cell_is_nothing(cell: str) -> None:
    assert kind_of(cell) is None


def test_no_reason_repeats_a_cell() -> None:
    for name, cells in PLANTED.items():
        for finding in look("x1", cells):
            assert not any(cell in finding.why for cell in cells if len(cell) > 3), name
