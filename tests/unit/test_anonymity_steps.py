"""Steps that hide people: what each does to cells, the same in any batches, for missing cells too, and read back as written."""

from __future__ import annotations

import math
from collections import Counter
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.preparation.anonymity.generalisations import Bands, DatePart, Dates, Generalisation, Groups, Prefix
from privacy.preparation.anonymity.proposal import propose
from privacy.preparation.anonymity.search import Demand, Hierarchy
from privacy.preparation.recipes.catalogue import STEPS
from privacy.preparation.recipes.row_randomness import RowRandomness
from privacy.preparation.recipes.step import Context, Rows, Step, SurveyingStep
from privacy.preparation.recipes.steps.coding import BottomCode, TopCode
from privacy.preparation.recipes.steps.generalise import Generalise
from privacy.preparation.recipes.steps.shift_dates import ShiftDates
from privacy.preparation.recipes.steps.suppress_small_groups import SuppressSmallGroups
from protocols.errors import ConfideError, ErrorCode
from tests.support.preparing import CANARY, SEED

DAYS = [date(2020, 2, 28), date(2020, 3, 1), None, date(1931, 12, 31)]
SHIFT = ShiftDates(("seen", "left"), "who", 30)
SMALL = SuppressSmallGroups(("age", "sex"), 2, (), 1, "0.9")


def done(step: Step, batches: int = 1, **columns: pa.Array) -> dict[str, list[Any]]:
    """Lets a step work on a table in batches; returns its columns, and the numbers of its rows as `row`."""
    whole = pa.RecordBatch.from_pydict(columns)
    types = dict(zip(whole.schema.names, whole.schema.types, strict=True))
    assert list(step.problems(types)) == []
    numbers = np.arange(1, len(whole) + 1)
    parts = [Rows(numbers[part], whole.take(pa.array(part))) for part in np.array_split(np.arange(len(whole)), batches)]
    context = Context(types, RowRandomness(SEED, "0"), {})
    if isinstance(step, SurveyingStep):
        survey = step.survey(context)
        for rows in parts:
            survey.see(rows)
        transform = survey.transform()
    else:
        transform = step.start(context)
    after = [transform(rows) for rows in parts]
    for rows in after:
        found = dict(zip(rows.cells.schema.names, rows.cells.schema.types, strict=True))
        assert found == dict(step.columns_after(types))
    table = pa.Table.from_batches([rows.cells for rows in after])
    return table.to_pydict() | {"row": [int(number) for rows in after for number in rows.numbers]}


def refused(step: Step, **columns: pa.Array) -> list[str]:
    with pytest.raises(ConfideError) as caught:
        done(step, **columns)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert CANARY not in str(caught.value)
    return [problem.where for problem in caught.value.problems]


@pytest.mark.parametrize(
    "step",
    [
        Generalise("age", Bands("2.5", ("0", "120"))),
        Generalise("post", Prefix(3)),
        Generalise("seen", Dates(DatePart.QUARTER)),
        Generalise("ward", Groups((("a", "x"),), "other")),
        TopCode("age", "89"),
        BottomCode("age", "-0.5"),
        SHIFT,
        SMALL,
        SuppressSmallGroups(("age",), 5, ("illness", "drug"), 3, "0.05"),
    ],
    ids=lambda step: step.KIND,
)
def test_step_is_read_from_its_document(step: Step) -> None:
    document = step.to_document()
    assert STEPS[document.pop("step")].read("steps[0]", document) == (step, [])


@pytest.mark.parametrize(
    ("kind", "entry", "where"),
    [
        ("top-code", {"column": "age", "at": "old"}, "at"),
        ("top-code", {"column": "age"}, "at"),
        ("bottom-code", {"column": "age", "at": "1", "most": "1"}, "most"),
        ("shift-dates", {"columns": ["seen"], "person": "who", "days": "0"}, "days"),
        ("shift-dates", {"columns": ["seen"], "person": "who", "days": "3651"}, "days"),
        ("shift-dates", {"columns": ["seen"], "days": "3"}, "person"),
        ("shift-dates", {"columns": [], "person": "who", "days": "3"}, "columns"),
        ("suppress-small-groups", {"columns": ["age"], "k": "1", "most": "0.1"}, "k"),
        ("suppress-small-groups", {"columns": ["age"], "k": "2", "most": "1"}, "most"),
        ("suppress-small-groups", {"columns": ["age"], "k": "2", "most": "0.1", "l": "2"}, "l"),
        ("suppress-small-groups", {"columns": ["age"], "k": "2", "most": "0.1", "sensitive": ["ill"]}, "l"),
        ("suppress-small-groups", {"columns": ["age"], "k": "2", "most": "0.1", "sensitive": ["age"], "l": "2"}, "sensitive"),
    ],
)
def test_entry_that_is_no_step_is_named_by_its_field(kind: str, entry: dict[str, Any], where: str) -> None:
    step, problems = STEPS[kind].read("steps[0]", entry)
    assert step is None
    assert [problem.where for problem in problems] == [f"steps[0].{where}"]


@pytest.mark.parametrize(
    ("step", "columns"),
    [
        (TopCode("age", "9"), {"age": pa.string()}),
        (TopCode("age", "9"), {}),
        (BottomCode("age", "9.5"), {"age": pa.int64()}),
        (SHIFT, {"seen": pa.date32(), "left": pa.string(), "who": pa.string()}),
        (SHIFT, {"seen": pa.date32(), "left": pa.date32(), "who": pa.int64()}),
        (SMALL, {"age": pa.int64()}),
        (Generalise("age", Prefix(2)), {"age": pa.int64()}),
        (Generalise("age", Bands("2")), {"age": pa.bool_()}),
    ],
)
def test_columns_that_a_step_cannot_work_on_are_a_problem(step: Step, columns: dict[str, pa.DataType]) -> None:
    assert len(list(step.problems(columns))) == 1


def test_ends_are_cut_and_what_is_missing_stays_missing() -> None:
    assert done(TopCode("age", "89"), age=pa.array([5, None, 89, 90, 2**62]))["age"] == [5, None, 89, 89, 89]
    assert done(BottomCode("age", "18"), age=pa.array([-(2**62), 17, 18, None]))["age"] == [18, 18, 18, None]
    dose = done(TopCode("dose", "2.5"), dose=pa.array([2.4, math.inf, None, math.nan, -math.inf]))["dose"]
    assert dose[:3] == [2.4, 2.5, None]
    assert math.isnan(dose[3])
    assert dose[4] == -math.inf
    low = done(BottomCode("dose", "-0.5"), dose=pa.array([math.nan, -math.inf, -0.25]))["dose"]
    assert math.isnan(low[0])
    assert low[1:] == [-0.5, -0.25]


def test_dates_of_a_person_move_together_by_no_more_than_asked() -> None:
    people = [f"p{number}" for number in range(400)]
    seen = [date(2020, 1, 1) + timedelta(number) for number in range(400)]
    left = [day + timedelta(7) if number % 5 else None for number, day in enumerate(seen)]
    found = done(SHIFT, seen=pa.array(seen), left=pa.array(left), who=pa.array(people))
    moved = [(after - before).days for before, after in zip(seen, found["seen"], strict=True)]
    assert [None if day is None else day + timedelta(by) for day, by in zip(left, moved, strict=True)] == found["left"]
    # Each of 61 shifts with probability 1/61: an end is missed by 400 people with probability (60/61)^400 = 0.0013, with this
    # seed it is not; and all of them within ten days of no shift at all is out of the question.
    assert (min(moved), max(moved)) == (-30, 30)
    assert len(Counter(moved)) > 50


def test_person_written_with_spaces_is_the_same_and_nobody_is_refused() -> None:
    day = pa.array([date(2020, 1, 1)] * 3)
    found = done(SHIFT, seen=day, left=day, who=pa.array([CANARY, f" {CANARY}", f"{CANARY}  "]))
    assert len(set(found["seen"])) == 1
    names = pa.array([CANARY, None, "  ", "NA"])
    day = pa.array([date(2020, 1, 1)] * 4)
    assert refused(SHIFT, seen=day, left=day, who=names) == [f"row {row}, column who" for row in (2, 3, 4)]


def test_people_are_kept_if_enough_are_alike() -> None:
    ages, sexes = [30, 30, 31, None, None, 30], ["f", "f", "f", "m", "m", None]
    found = done(SMALL, age=pa.array(ages), sex=pa.array(sexes))
    assert found == {"age": [30, 30, None, None], "sex": ["f", "f", "m", "m"], "row": [1, 2, 4, 5]}


def test_groups_that_are_not_diverse_are_left_out() -> None:
    step = SuppressSmallGroups(("age",), 2, ("ill", "drug"), 2, "0.9")
    table = {"age": [1, 1, 2, 2, 3, 3], "ill": ["flu", "flu", "flu", "hiv", "flu", "hiv"], "drug": ["a", "b", "a", "b", "a", "a"]}
    assert done(step, **{name: pa.array(cells) for name, cells in table.items()})["row"] == [3, 4]


def test_two_ways_to_write_a_value_make_no_group_diverse() -> None:
    step = SuppressSmallGroups(("age",), 2, ("ill",), 2, "0.9")
    ills = ["flu", " flu ", "hiv", "flu", "", "NA", None]
    assert done(step, age=pa.array([1, 1, 2, 2, 3, 3, 3]), ill=pa.array(ills))["row"] == [3, 4]
    cells = pa.RecordBatch.from_pydict({"age": pa.array([1, 1, 1]), "ill": pa.array(["flu", " flu", "flu "])})
    with pytest.raises(ConfideError) as caught:
        propose([Rows(np.arange(1, 4), cells)], (Hierarchy("age", ()),), Demand(2, 2), ["ill"])
    assert caught.value.code is ErrorCode.INVALID_DATA


def test_more_rows_in_small_groups_than_allowed_are_refused() -> None:
    age = pa.array([CANARY, *["b"] * 9])
    assert len(done(SuppressSmallGroups(("age",), 2, (), 1, "0.1"), age=age)["row"]) == 9
    assert refused(SuppressSmallGroups(("age",), 2, (), 1, "0.09"), age=age) == []
    assert refused(SuppressSmallGroups(("age",), 11, (), 1, "0.999"), age=age) == []


def test_what_is_no_number_is_missing_in_every_batch() -> None:
    # NaN differs from itself: of a group for each batch none would be large enough.
    dose = pa.array([math.nan, 1.0, None, 1.0, math.nan, -0.0, 0.0])
    for batches in (1, 2, 7):
        assert done(SuppressSmallGroups(("dose",), 2, (), 1, "0"), batches, dose=dose)["row"] == [1, 2, 3, 4, 5, 6, 7]
        assert done(SuppressSmallGroups(("dose",), 3, (), 1, "0.9"), batches, dose=dose)["row"] == [1, 3, 5]


RULES = [Bands("5"), Bands("16", ("0", "50")), Bands("0.3"), Prefix(1), Groups((("7", "x"), ("12", "x")), "z")]
CELLS = st.one_of(st.none(), st.integers(-200, 200).map(str))


@given(st.lists(CELLS, min_size=1, max_size=30), st.sampled_from(RULES), st.integers(1, 5))
def test_coarser_cells_do_not_depend_on_the_batch(cells: list[str | None], rule: Generalisation, batches: int) -> None:
    whole = done(Generalise("a", rule), a=pa.array(cells, pa.string()))["a"]
    assert done(Generalise("a", rule), min(batches, len(cells)), a=pa.array(cells, pa.string()))["a"] == whole
    assert [cell is None for cell in whole] == [cell is None for cell in cells]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["f", "m", None])), min_size=2, max_size=40), st.integers(1, 6))
def test_rows_kept_are_those_of_a_count_whatever_the_batches(rows: list[tuple[int, str | None]], batches: int) -> None:
    sizes = Counter(rows)
    kept = [number for number, row in enumerate(rows, 1) if sizes[row] >= SMALL.k]
    table = {"age": pa.array([age for age, _ in rows]), "sex": pa.array([sex for _, sex in rows], pa.string())}
    if len(rows) - len(kept) > 0.9 * len(rows):
        assert refused(SMALL, **table) == []
        return
    assert done(SMALL, min(batches, len(rows)), **table)["row"] == kept


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(DAYS)), min_size=1, max_size=30), st.integers(1, 5))
def test_shifts_do_not_depend_on_the_batch(rows: list[tuple[str, date | None]], batches: int) -> None:
    days = pa.array([day for _, day in rows], pa.date32())
    table = {"seen": days, "left": days, "who": pa.array([who for who, _ in rows])}
    whole = done(SHIFT, **table)
    assert done(SHIFT, min(batches, len(rows)), **table) == whole
    assert [day is None for day in whole["seen"]] == [day is None for _, day in rows]


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (Bands("10"), ["1e99", "1000000000000001"]),
        (Bands("10"), [1e30, -1e16]),
        (Bands("10"), [10**17 + 1, -(10**15) - 1]),
        (Bands("0.5"), [math.inf, -math.inf]),
    ],
)
def test_numbers_too_large_for_bands_are_refused_by_row(rule: Generalisation, values: list[Any]) -> None:
    cells = pa.array([values[0], values[0], None, values[1]])
    assert refused(Generalise("a", rule), a=cells) == [f"row {row}, column a" for row in (1, 2, 4)]


def test_numbers_outside_the_range_fall_into_the_bands_of_its_ends() -> None:
    # Else 102 and 104, both told as 101 in bands of 2, would be told apart again in bands of 8.
    for width in ("2", "4", "8", "2.5"):
        rule = Bands(width, ("5", "101"))
        told = rule.apply(pa.array(["-300", "5", "101", "102", "104", "1e9"])).to_pylist()
        assert told[0] == told[1]
        assert len(set(told[2:])) == 1
        assert all(5 <= float(cell) <= 101 for cell in told)
