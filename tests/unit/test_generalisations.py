"""Rules that make values coarser: what each gives, whatever else is in the column."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from privacy.preparation.anonymity.generalisations import Bands, DatePart, Dates, Generalisation, Groups, Prefix, read_rule
from privacy.preparation.recipes.entry import EntryReader

GROUPS = Groups((("I20", "cardiac"), ("I21", "cardiac"), ("J45", "lung")), "other")


@pytest.mark.parametrize(
    ("rule", "values", "coarser"),
    [
        (Bands("10"), ["40", " 49 ", "50", "-1", "45.5", "", None], ["44", "44", "54", "-6", "44", None, None]),
        (Bands("10"), [40, 49, None], [44, 44, None]),
        (Bands("0.5"), [0.0, 0.49, 0.5, -0.1, None], [0.25, 0.25, 0.75, -0.25, None]),
        (Bands("2.5"), [1, 3], [1.25, 3.75]),
        (Bands("8", ("5", "30")), ["5", "6", "12", "30"], ["5", "5", "11", "27"]),
        (Bands("16", ("5", "20")), [5, 17], [7, 20]),
        (Bands("16", ("5", "20.5")), ["17"], ["20.5"]),
        (Prefix(3), ["SW1A 1AA", "SW1", "Zürich", None], ["SW1*", "SW1", "Zür*", None]),
        (Dates(DatePart.MONTH), ["2020-03-31", " 2021-12-01", None], ["2020-03", "2021-12", None]),
        (Dates(DatePart.QUARTER), [date(2020, 3, 31), date(2020, 4, 1)], ["2020-Q1", "2020-Q2"]),
        (Dates(DatePart.YEAR), ["2020-03-31"], ["2020"]),
        (Dates(DatePart.DECADE), ["1999-01-01", "2020-03-31"], ["1990s", "2020s"]),
        (GROUPS, ["I21", "J45", "X", None], ["cardiac", "lung", "other", None]),
    ],
)
def test_values_become(rule: Generalisation, values: list[Any], coarser: list[Any]) -> None:
    cells = pa.array(values)
    assert not rule.unreadable(cells).any()
    found = rule.apply(cells)
    assert (found.to_pylist(), found.type) == (coarser, rule.type_after(cells.type))
    # Alone, in any company: a table goes through in batches.
    assert [rule.apply(pa.array([value], cells.type)).to_pylist()[0] for value in values] == coarser


@pytest.mark.parametrize(
    ("rule", "values", "wrong"),
    [
        (Bands("10"), ["40", "forty", "1,5", "inf", "nan", ""], [1, 2, 3]),
        (Bands("10"), [1.0, float("inf"), None], [1]),
        (Dates(DatePart.YEAR), ["2020-02-29", "2021-02-29", "31.03.2020", "20200331", "", None], [1, 2, 3]),
    ],
)
def test_cells_that_a_rule_cannot_read_are_found(rule: Generalisation, values: list[Any], wrong: list[int]) -> None:
    assert list(rule.unreadable(pa.array(values)).nonzero()[0]) == wrong


@pytest.mark.parametrize("rule", [Bands("2.5"), Bands("2.5", ("-1", "7")), Prefix(3), Dates(DatePart.QUARTER), GROUPS], ids=str)
def test_rule_is_read_from_its_document(rule: Generalisation) -> None:
    reader = EntryReader("steps[0]", rule.to_document())
    assert (read_rule(reader), reader.done()) == (rule, True)


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({}, "steps[0].rule"),
        ({"bands": "10", "keep": "3"}, "steps[0].rule"),
        ({"bands": "0"}, "steps[0].bands"),
        ({"bands": "ten"}, "steps[0].bands"),
        ({"keep": "0"}, "steps[0].keep"),
        ({"date": "day"}, "steps[0].date"),
        ({"groups": {"a": "b"}}, "steps[0].other"),
        ({"groups": ["a"], "other": "x"}, "steps[0].groups"),
        ({"bands": "10", "other": "x"}, "steps[0].other"),
    ],
)
def test_rule_that_is_none_is_named_by_its_path(entry: dict[str, Any], where: str) -> None:
    reader = EntryReader("steps[0]", entry)
    read_rule(reader)
    reader.done()
    assert where in [problem.where for problem in reader.problems]
