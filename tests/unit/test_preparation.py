"""Preparations: what is read and dropped, where linkage keys may go, what is counted, found and refused."""

from __future__ import annotations

import json

import pytest

from privacy.preparation.contract import OnViolation
from privacy.preparation.outcome import Outcome
from privacy.preparation.preparation import settle
from privacy.preparation.preview import preview
from privacy.preparation.rehearsal import rehearse
from protocols.errors import ConfideError, ErrorCode
from tests.support.preparing import (
    CANARY,
    CONTRACT,
    HEAD,
    HEADER,
    SEED,
    STEPS,
    contract,
    prepared,
    raw,
    recipe,
    recipe_of,
    ward_rows,
)

KEYED = HEAD + "  - {step: pseudonymise, column: patient, project: cohort}\n" + STEPS


def refused(text: str, *, code: ErrorCode, file: str = "", under: str = CONTRACT) -> list[str]:
    with pytest.raises(ConfideError) as caught:
        settle(raw(file or ward_rows(3)), contract(under), recipe(text))
    assert caught.value.code is code
    return [problem.where for problem in caught.value.problems]


def test_columns_outside_the_contract_and_direct_identifiers_are_not_read() -> None:
    found = settle(raw(ward_rows(3)), contract(), recipe())
    assert found.read == ("birth", "sex", "dose", "outcome")
    assert found.dropped == {
        "name": "direct identifier",
        "patient": "linkage key that no step pseudonymises",
        "remark": "not in the contract",
    }
    assert list(found.columns) == ["birth", "sex=f", "sex=m", "dose", "outcome"]
    assert found.not_shared == ("sex",)


def test_rows_come_out_in_the_schema_s_form_and_are_counted() -> None:
    rows, outcome = prepared(ward_rows(6), recipe())
    assert rows[0] == {"birth": 92.0, "sex=f": False, "sex=m": True, "dose": 0.001, "outcome": "ill"}
    assert rows[4]["outcome"] == "well"
    assert (outcome.rows_read, outcome.rows_out) == (6, 6)
    assert [(step.rows_in, step.rows_out) for step in outcome.steps] == [(6, 6)] * 6
    assert CANARY not in json.dumps(outcome.to_document())
    assert Outcome.from_document(json.loads(json.dumps(outcome.to_document()))) == outcome


def test_rows_that_break_the_contract_are_refused_with_row_and_line_or_left_out_and_counted() -> None:
    text = ward_rows(4).replace("1933-04-14", "1833-04-14").replace(",well,", f",{CANARY},")
    made_by = recipe_of(*[step.removeprefix("  - ") for step in STEPS.splitlines() if "clip" not in step])
    with pytest.raises(ConfideError) as caught:
        prepared(text.replace("0.002", "12"), made_by)
    assert [problem.where for problem in caught.value.problems] == ["row 2 (line 3), column dose"]
    rows, outcome = prepared(text.replace("0.002", "12"), made_by, on_violation=OnViolation.LEAVE_OUT)
    assert (len(rows), dict(outcome.left_out)) == (3, {"out_of_range": 1})


def test_cells_that_steps_refuse_are_collected_over_the_whole_file_with_lines() -> None:
    lines = ward_rows(400).splitlines()
    for row in (3, 200, 400):
        lines[row] = lines[row].replace("-0", "/0")
    with pytest.raises(ConfideError) as caught:
        prepared("\n".join(lines), recipe(), batch_bytes=512)
    assert [problem.where for problem in caught.value.problems] == [
        f"row {n} (line {n + 1}), column birth" for n in (3, 200, 400)
    ]
    assert CANARY not in str(caught.value)


def test_no_row_left_is_refused() -> None:
    with pytest.raises(ConfideError, match="none of the 3 rows is left"):
        prepared(ward_rows(3).replace("well", "x").replace("ill", "y"), recipe(), on_violation=OnViolation.LEAVE_OUT)


def test_linkage_key_leaves_as_pseudonyms_alone() -> None:
    pseudonyms = {"patient": {f"P{n}": f"{n:032x}" for n in range(1, 4)}}
    rows, _ = prepared(ward_rows(3), recipe(KEYED), pseudonyms=pseudonyms)
    assert [row["patient"] for row in rows] == [f"{n:032x}" for n in range(1, 4)]


@pytest.mark.parametrize(
    "step",
    [
        "{step: rename, names: {patient: weight}}",
        "{step: hash-features, column: patient, buckets: 8, collision_budget: 1}",
        "{step: map-values, column: patient, values: {P1: x}, others: keep}",
        "{step: one-hot, column: patient, values: [P1], others: none}",
        "{step: redact-text, columns: [patient]}",
    ],
)
@pytest.mark.parametrize("is_pseudonym", [False, True])
def test_no_other_step_sees_a_linkage_key_or_its_pseudonyms(step: str, is_pseudonym: bool) -> None:
    text = (KEYED if is_pseudonym else HEAD) + f"  - {step}\n" + ("" if is_pseudonym else KEYED.removeprefix(HEAD))
    (where,) = refused(text, code=ErrorCode.INVALID_RECIPE)
    assert "column patient" in where


def test_columns_that_are_no_linkage_key_are_not_pseudonymised() -> None:
    assert refused(KEYED.replace("column: patient", "column: sex"), code=ErrorCode.INVALID_RECIPE) == ["steps[0], column sex"]


def test_linkage_key_is_not_pseudonymised_twice() -> None:
    twice = KEYED + KEYED.removeprefix(HEAD).splitlines()[0] + "\n"
    assert refused(twice, code=ErrorCode.INVALID_RECIPE) == ["steps[7], column patient"]


def test_recipe_for_another_contract_is_refused() -> None:
    assert refused(HEAD.replace("contract: ward", "contract: other") + STEPS, code=ErrorCode.INVALID_RECIPE) == ["contract"]


def test_column_that_does_not_come_out_is_refused() -> None:
    left = HEAD + "".join(line + "\n" for line in STEPS.splitlines() if "one-hot" not in line)
    assert refused(left, code=ErrorCode.INVALID_RECIPE) == ["column sex=f", "column sex=m"]


def test_column_that_the_file_lacks_is_refused_as_the_file_s_fault() -> None:
    file = ward_rows(3).replace("dose", "Dose", 1)
    assert refused(HEAD + STEPS, code=ErrorCode.INVALID_DATA, file=file) == ["column dose"]


def test_findings_are_warnings_and_count() -> None:
    rows = [
        "a,1,1950-01-01,f,1,well,",
        "b,2,1950-01-01,f,1,well,",
        "c,3,1950-01-01,f,x,well,",
        "d,4,1950-01-01,,NA,well,",
        "e,5,1950-01-01,m,1/2/2024,,",
    ]
    made_by = recipe_of(
        "{step: mark-missing, columns: [dose], values: [x, 1/2/2024]}",
        *(step.removeprefix("  - ") for step in STEPS.splitlines()),
    )
    _, outcome = prepared("\n".join([HEADER, *rows]), made_by, on_violation=OnViolation.LEAVE_OUT)
    found = {warning.where: warning.what for warning in outcome.warnings if warning.where}
    assert found["column birth"] == "holds one value throughout"
    assert found["column dose"] == "mixes 2 numbers, 2 other texts"
    assert found["column outcome"] == "the label is missing in 1 of 5 rows"
    whole = [warning.what for warning in outcome.warnings if not warning.where]
    assert whole[0] == "1 of 5 rows equal an earlier one in all columns that are read"
    assert whole[1] == "2 of 5 rows are alone in their quasi-identifiers (birth, sex)"
    assert dict(outcome.left_out) == {"missing": 1}


def test_findings_name_dates_in_several_forms() -> None:
    rows = [f"n,p,{day},f,1,{'well' if n % 2 else 'ill'}," for n, day in enumerate(["1950-01-01", "02.01.1950", "03.01.1950"])]
    under = contract(CONTRACT.replace("quasi-identifier, use: feature, type: float, range: [0, 120]", "quasi-identifier"))
    made_by = recipe_of("{step: parse-number, columns: [dose]}", "{step: one-hot, column: sex, values: [f, m], others: none}")
    _, outcome = prepared("\n".join([HEADER, *rows]), made_by, under=under)
    found = {warning.where: warning.what for warning in outcome.warnings}
    assert found["column birth"] == "holds dates in several forms: 2 of the form %d.%m.%Y, 1 of the form %Y-%m-%d"


def test_preview_shows_the_first_rows_before_and_after_without_linkage_keys() -> None:
    table = raw(ward_rows(50))
    found = preview(table, settle(table, contract(), recipe(KEYED)), num_rows=2, seed=SEED)
    assert found.before[0] == ["birth", "sex", "dose", "outcome"]
    assert len(found.before[1]) == 2
    assert found.after[0] == ["row", "patient", "birth", "sex=f", "sex=m", "dose", "outcome"]
    assert found.after[1][1] == ("2", "(pseudonym)", "91", "true", "false", "0.002", "ill")
    assert found.outcome is not None
    assert found.outcome.rows_read == 2


def test_preview_of_rows_that_the_recipe_refuses_shows_them_and_says_why() -> None:
    table = raw(ward_rows(3).replace("0.002", "much"))
    found = preview(table, settle(table, contract(), recipe()), num_rows=2, seed=SEED)
    assert len(found.before[1]) == 2
    assert found.refused is not None
    assert found.refused.problems[0].where == "row 2 (line 3), column dose"


def test_rehearsal_runs_through() -> None:
    rehearse()
