"""What each step does to cells, and which cells it refuses by row and column."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction import FeatureHasher

from privacy.preparation.recipes.row_randomness import RowRandomness
from privacy.preparation.recipes.running import Noting
from privacy.preparation.recipes.step import Context, Rows, SurveyingStep
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes
from tests.support.preparing import CANARY, SEED, recipe_of

PSEUDONYMS = {"a": {"p1": "f" * 32}}


def done(entry: str, seed: SecretBytes = SEED, batches: int = 1, **columns: Sequence[Any] | pa.Array) -> dict[str, list[Any]]:
    """Lets one step work on a table; returns the columns after it, and the numbers of the rows as `row`."""
    (step,) = recipe_of(entry).steps
    cells = pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()})
    types = dict(zip(cells.schema.names, cells.schema.types, strict=True))
    assert list(step.problems(types)) == []
    numbers = np.arange(1, cells.num_rows + 1)
    parts = [Rows(numbers[part], cells.take(pa.array(part))) for part in np.array_split(np.arange(cells.num_rows), batches)]
    context = Context(types, RowRandomness(seed, "0"), PSEUDONYMS)
    if isinstance(step, SurveyingStep):
        survey = step.survey(context)
        for rows in parts:
            survey.see(rows)
        transform = survey.transform()
        assert not isinstance(survey, Noting) or all(isinstance(note, str) for note in survey.notes().values())
    else:
        transform = step.start(context)
    after = [transform(rows) for rows in parts]
    assert dict(zip(after[0].cells.schema.names, after[0].cells.schema.types, strict=True)) == dict(step.columns_after(types))
    table = pa.Table.from_batches([rows.cells for rows in after])
    return table.to_pydict() | {"row": [int(number) for rows in after for number in rows.numbers]}


def refused(entry: str, **columns: Sequence[Any]) -> list[str]:
    with pytest.raises(ConfideError) as caught:
        done(entry, **columns)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert CANARY not in str(caught.value)
    return [problem.where for problem in caught.value.problems]


def test_select_drop_and_rename_change_no_cell() -> None:
    assert done("{step: select, columns: [b, a]}", a=[1], b=[2], c=[3]) == {"b": [2], "a": [1], "row": [1]}
    assert done("{step: drop, columns: [b]}", a=[1], b=[2]) == {"a": [1], "row": [1]}
    assert done("{step: rename, names: {a: b, b: a}}", a=[1], b=[2]) == {"b": [1], "a": [2], "row": [1]}


def test_mark_missing_empties_listed_texts() -> None:
    assert done("{step: mark-missing, columns: [a], values: ['-9']}", a=["-9 ", "9", None])["a"] == [None, "9", None]


def test_parse_number_reads_one_grammar() -> None:
    texts = [" 1 ", "+1.5", "-.5", "5.", "1e3", "NA", "", "None", "nan", None]
    expected = [1.0, 1.5, -0.5, 5.0, 1000.0, None, None, None, None, None]
    assert done("{step: parse-number, columns: [a]}", a=texts)["a"] == expected
    assert done("{step: parse-number, columns: [a], decimal_mark: comma}", a=["1,5", "-,5"])["a"] == [1.5, -0.5]
    assert done("{step: parse-number, columns: [a]}", a=[1, None])["a"] == [1.0, None]


@pytest.mark.parametrize("text", ["1,5", "1.5 mg", "1_000", "0x10", "--1", "inf", "1e999", "１", "1\n2", "9" * 65, CANARY])  # noqa: RUF001
def test_parse_number_refuses_anything_else_by_row(text: str) -> None:
    assert refused("{step: parse-number, columns: [a]}", a=["1", text, text]) == ["row 2, column a", "row 3, column a"]


def test_parse_number_agrees_with_python_on_the_last_bit() -> None:
    drawn = np.random.default_rng(5)
    texts = [repr(float(value)) for value in drawn.normal(0, 1, 2000) * 10.0 ** drawn.integers(-30, 30, 2000)]
    assert done("{step: parse-number, columns: [a]}", a=texts)["a"] == [float(text) for text in texts]


def test_parse_date_reads_the_stated_form_alone() -> None:
    found = done("{step: parse-date, columns: [a]," + " format: '%d.%m.%Y'}", a=["29.02.2024", " 01.12.0001", "", None])
    assert found["a"] == [datetime.date(2024, 2, 29), datetime.date(1, 12, 1), None, None]


@pytest.mark.parametrize(
    "text", ["2024-02-29", "29.02.2023", "31.04.2024", "1.2.2024", "00.01.2024", "01.13.2024", CANARY, "29.02.24"]
)
def test_parse_date_refuses_another_form_by_row(text: str) -> None:
    assert refused("{step: parse-date, columns: [a]," + " format: '%d.%m.%Y'}", a=["01.01.2024", text]) == ["row 2, column a"]


def test_parse_date_says_which_form_a_refused_cell_seems_to_have() -> None:
    with pytest.raises(ConfideError) as caught:
        done("{step: parse-date, columns: [a]," + " format: '%Y-%m-%d'}", a=["02/03/2024"])
    assert "%d/%m/%Y or %m/%d/%Y" in caught.value.problems[0].what


def test_dates_agree_with_the_calendar_of_python() -> None:
    days = [datetime.date.fromordinal(number) for number in range(1, 3_652_059, 997)]
    texts = [f"{day.year:04d}{day.month:02d}{day.day:02d}" for day in days]
    assert done("{step: parse-date, columns: [a]," + " format: '%Y%m%d'}", a=texts)["a"] == days


def test_date_to_number_counts_days_and_completed_years() -> None:
    born = [datetime.date(2000, 2, 29), datetime.date(2000, 3, 1), datetime.date(1999, 12, 31), None]
    at = [datetime.date(2001, 2, 28), datetime.date(2001, 3, 1), datetime.date(2000, 1, 1), datetime.date(2000, 1, 1)]
    assert done("{step: date-to-number, column: a, measure: age, reference_column: b}", a=born, b=at)["a"] == [
        0.0,
        1.0,
        0.0,
        None,
    ]
    days = done("{step: date-to-number, column: a, measure: days, reference: '2000-03-01'}", a=born)["a"]
    assert days == [-1.0, 0.0, -61.0, None]


@pytest.mark.parametrize(("others", "expected"), [("keep", ["male", "x", None]), ("missing", ["male", None, None])])
def test_map_values_replaces_listed_texts(others: str, expected: list[str | None]) -> None:
    assert done(f"{{step: map-values, column: a, values: {{m: male}}, others: {others}}}", a=[" m", "x", None])["a"] == expected


def test_map_values_refuses_others_by_row_if_told_to() -> None:
    assert refused("{step: map-values, column: a, values: {m: male}, others: refuse}", a=["m", None, CANARY]) == [
        "row 3, column a"
    ]


def test_clip_and_bin_keep_missing_cells() -> None:
    assert done("{step: clip, columns: [a], range: [0, 10]}", a=[-1.0, 5.0, 11.0, None])["a"] == [0.0, 5.0, 10.0, None]
    assert done("{step: bin, column: a, edges: [0, 10]}", a=[-1.0, 0.0, 9.9, 10.0, None])["a"] == [0.0, 1.0, 1.0, 2.0, None]


def test_impute_fills_with_the_declared_value_in_the_column_s_type() -> None:
    assert done("{step: impute, columns: [a], value: '2.5'}", a=[1.0, None])["a"] == [1.0, 2.5]
    assert done("{step: impute, columns: [a], value: none}", a=["x", None])["a"] == ["x", "none"]
    day = datetime.date(2024, 1, 31)
    assert done("{step: impute, columns: [a], value: '2024-01-31'}", a=[day, None])["a"] == [day, day]


def test_impute_draw_fills_by_the_column_s_own_distribution() -> None:
    cells = (["x"] * 3 + ["y"] + [None] * 4) * 2000
    filled = done("{step: impute-draw, columns: [a]}", a=cells, batches=7)["a"]
    drawn = [after for after, before in zip(filled, cells, strict=True) if before is None]
    assert set(filled) == {"x", "y"}
    # A sample of 4096 of 8000 cells, then 8000 draws from it: the share of x has a deviation of at most
    # sqrt(0.1875 / 4096 + 0.1875 / 8000) = 0.0083; five of them are passed by chance in one of two million seeds.
    assert abs(drawn.count("x") / len(drawn) - 0.75) < 5 * 0.0083
    assert filled == done("{step: impute-draw, columns: [a]}", a=cells)["a"]
    assert filled != done("{step: impute-draw, columns: [a]}", seed=SecretBytes(bytes(32)), a=cells)["a"]


def test_impute_draw_needs_something_to_draw_from() -> None:
    assert refused("{step: impute-draw, columns: [a]}", a=pa.array([None, None], pa.string())) == ["column a"]


def test_one_hot_makes_a_column_of_each_value() -> None:
    found = done("{step: one-hot, column: a, values: [x, y], others: none}", a=["x", " y", "z", None])
    assert found == {"a=x": [True, False, False, False], "a=y": [False, True, False, False], "row": [1, 2, 3, 4]}
    assert refused("{step: one-hot, column: a, values: [x], others: refuse}", a=["x", CANARY, None]) == [
        "row 2, column a",
        "row 3, column a",
    ]


def test_hash_features_equal_scikit_learn_s_hasher() -> None:
    cells = [f"town {number % 40}" for number in range(200)]
    found = done("{step: hash-features, column: a, buckets: 16, collision_budget: 1}", a=[*cells, None], batches=3)
    expected = FeatureHasher(n_features=16, input_type="string").transform([[f"a={cell}"] for cell in cells]).toarray()
    np.testing.assert_array_equal(np.array([found[f"a#{bucket}"] for bucket in range(16)]).T, [*expected, np.zeros(16)])


def test_hash_features_beyond_the_collision_budget_are_refused_with_both_rates() -> None:
    cells = [f"town {number}" for number in range(100)]
    with pytest.raises(ConfideError) as caught:
        done("{step: hash-features, column: a, buckets: 64, collision_budget: 0.1}", a=cells)
    hashed = FeatureHasher(n_features=64, input_type="string").transform([[f"a={cell}"] for cell in cells]).indices
    measured = np.isin(hashed, np.flatnonzero(np.bincount(hashed) > 1)).mean()
    # Of a random hash: another of 99 texts falls into the same of 64 buckets.
    assert f"{measured:.3f} of its" in caught.value.problems[0].what
    assert f"expected {1 - (63 / 64) ** 99:.3f}" in caught.value.problems[0].what


def test_drop_duplicates_keeps_the_first_of_equal_rows() -> None:
    columns: Mapping[str, Sequence[Any]] = {"a": ["x", None, "x", None, "y"], "b": [1.0, 0.0, 1.0, -0.0, 1.0]}
    assert done("{step: drop-duplicates}", batches=3, **columns)["row"] == [1, 2, 5]
    assert done("{step: drop-duplicates, columns: [b]}", batches=2, **columns)["row"] == [1, 2]


def test_pseudonymise_replaces_identifiers_and_refuses_rows_without_one() -> None:
    assert done("{step: pseudonymise, column: a, project: cohort}", a=[" p1 "])["a"] == ["f" * 32]
    assert refused("{step: pseudonymise, column: a, project: cohort}", a=["p1", None, " "]) == [
        "row 2, column a",
        "row 3, column a",
    ]


@pytest.mark.parametrize(
    "entry",
    [
        "{step: select, columns: [z]}",
        "{step: drop, columns: [n, t]}",
        "{step: rename, names: {n: t}}",
        "{step: parse-date, columns: [n]," + " format: '%Y-%m-%d'}",
        "{step: date-to-number, column: t, measure: age, reference: '2024-01-01'}",
        "{step: clip, columns: [t], range: [0, 1]}",
        "{step: bin, column: t, edges: [1]}",
        "{step: impute, columns: [n], value: x}",
        "{step: one-hot, column: n, values: [x], others: none}",
        "{step: hash-features, column: n, buckets: 8, collision_budget: 1}",
        "{step: map-values, column: n, values: {x: y}, others: keep}",
    ],
)
def test_step_says_beforehand_that_columns_do_not_suit_it(entry: str) -> None:
    (step,) = recipe_of(entry).steps
    assert list(step.problems({"t": pa.string(), "n": pa.float64()}))
