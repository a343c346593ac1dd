"""The page about preparation: its contract, recipe and every step of its table are read as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

from privacy.preparation.contract_file import contract_from_yaml
from privacy.preparation.recipes.catalogue import STEPS
from tests.support.preparing import prepared, recipe, recipe_of

PAGE = (Path(__file__).parents[2] / "docs" / "preparation.md").read_text(encoding="utf-8")
CONTRACT, RECIPE = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


def test_table_of_steps_shows_every_kind_once_and_each_is_read() -> None:
    shown = re.findall(r"^\| `(\{step: .*?\})` \|", PAGE, flags=re.MULTILINE)
    kinds = [recipe_of(entry).steps[0].KIND for entry in shown]
    assert sorted(kinds) == sorted(STEPS)


def test_contract_and_recipe_of_the_page_prepare_a_table() -> None:
    text = "name,patient,birth,sex,dose,outcome\nJane Roe,P1,29.02.1960,f,2.5,ill\nJohn Roe,P2,01.01.1961,m,,well\n"
    rows, outcome = prepared(text, recipe(RECIPE), under=contract_from_yaml(CONTRACT.encode()))
    assert rows[0] == {"birth": 63.0, "sex=f": True, "sex=m": False, "dose": 2.5, "outcome": "ill"}
    assert rows[1]["dose"] == 2.5  # the only value there is to draw from
    assert set(outcome.dropped) == {"name", "patient"}
