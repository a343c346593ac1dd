"""Recipes as documents: every kind of step reads what it writes, and everything that is wrong is said at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from privacy.preparation.recipes.catalogue import STEPS
from privacy.preparation.recipes.recipe import Recipe, read_recipe
from privacy.preparation.recipes.recipe_file import recipe_from_yaml
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from tests.support.preparing import HEAD, RECIPE, recipe, recipe_of

# One entry of every kind that this file knows; kinds of other matters have their own tests.
ENTRIES = (
    "{step: select, columns: [a, b]}",
    "{step: drop, columns: [a]}",
    "{step: rename, names: {a: b}}",
    "{step: mark-missing, columns: [a], values: [unknown, '-9']}",
    "{step: parse-number, columns: [a], decimal_mark: comma}",
    "{step: parse-date, columns: [a], format: '%d.%m.%Y'}",
    "{step: date-to-number, column: a, measure: days, reference: '2024-01-01'}",
    "{step: date-to-number, column: a, measure: age, reference_column: b}",
    "{step: map-values, column: a, values: {m: male}, others: keep}",
    "{step: clip, columns: [a], range: [0.0, 10]}",
    "{step: bin, column: a, edges: [1, 2.50]}",
    "{step: impute, columns: [a], value: '3'}",
    "{step: impute-draw, columns: [a]}",
    "{step: one-hot, column: a, values: [x, y], others: none}",
    "{step: hash-features, column: a, buckets: 8, collision_budget: 0.50}",
    "{step: drop-duplicates}",
    "{step: drop-duplicates, columns: [a]}",
    "{step: redact-text, columns: [a]}",
    "{step: pseudonymise, column: a, project: cohort}",
)


@pytest.mark.parametrize("entry", ENTRIES)
def test_step_reads_what_it_writes(entry: str) -> None:
    made = recipe_of(entry)
    again = Recipe.from_document(parse_canonical(canonical_bytes(made.to_document())))
    assert again == made
    assert again.digest == made.digest


@pytest.mark.parametrize("entry", ENTRIES)
def test_step_refuses_an_unknown_and_every_missing_field(entry: str) -> None:
    (step,) = recipe_of(entry).steps
    document = step.to_document()
    kind = document.pop("step")
    _, problems = STEPS[kind].read("steps[0]", {**document, "colour": "red"})
    assert [problem.where for problem in problems] == ["steps[0].colour"]
    _, problems = STEPS[kind].read("steps[0]", {})
    needed = {key for key in document if key not in ("decimal_mark", "reference_column")} - (
        {"columns"} if kind == "drop-duplicates" else set()
    )
    assert {problem.where.removeprefix("steps[0].") for problem in problems} >= needed


def test_kinds_are_listed_once_under_their_own_names() -> None:
    assert all(kind == STEPS[kind].KIND for kind in STEPS)
    assert {recipe_of(entry).steps[0].KIND for entry in ENTRIES} <= set(STEPS)


def test_equal_recipes_written_differently_have_one_digest() -> None:
    assert (
        recipe_of("{step: clip, columns: [a], range: ['0', 10.0]}").digest
        == recipe_of("{range: [0.00, 10], columns: [a], step: clip}").digest
    )


def test_recipe_of_another_version_has_another_digest() -> None:
    made = recipe()
    assert dataclasses.replace(made, version=2).digest != made.digest


def test_everything_wrong_is_said_at_once_with_its_path() -> None:
    text = """
api_version: confide/v2
kind: Recipe
name: Ward!
version: 0
steps:
  - {step: clip, columns: [], range: [3, 2]}
  - {step: execute, code: x}
  - {step: parse-date, columns: [a], format: '%d.%m.%y'}
  - {step: bin, column: a, edges: [2, 1]}
  - {step: hash-features, column: a, buckets: 1, collision_budget: 2}
  - nothing
"""
    with pytest.raises(ConfideError) as caught:
        recipe_from_yaml(text.encode())
    assert caught.value.code is ErrorCode.INVALID_RECIPE
    assert {problem.where for problem in caught.value.problems} == {
        "api_version",
        "name",
        "version",
        "contract",
        "steps[0].columns",
        "steps[0].range",
        "steps[1].step",
        "steps[2].format",
        "steps[3].edges",
        "steps[4].buckets",
        "steps[4].collision_budget",
        "steps[5].step",
    }


@pytest.mark.parametrize(
    "text", ["", "- x", "a: &x 1\nb: *x\n", "steps: !!python/object:os.system x", "a: [", RECIPE + "name: again\n", "\xff"]
)
def test_what_is_no_plain_yaml_of_a_recipe_is_refused(text: str) -> None:
    with pytest.raises(ConfideError) as caught:
        recipe_from_yaml(text.encode("latin-1"))
    assert caught.value.code is ErrorCode.INVALID_RECIPE


@pytest.mark.parametrize(
    "change", [{"version": 1}, {"steps": [{"step": "clip", "columns": ["a"], "range": ["0.0", "1"]}]}, {"steps": "x"}]
)
def test_document_in_another_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfideError) as caught:
        Recipe.from_document(recipe().to_document() | change)
    assert caught.value.code is ErrorCode.INVALID_RECIPE


def test_empty_recipe_is_a_recipe() -> None:
    assert read_recipe(recipe(HEAD.replace("steps:", "steps: []")).to_document()).steps == ()


def test_augment_is_the_last_step_since_copies_share_the_numbers_that_later_steps_draw_by() -> None:
    augment = "{step: augment, technique: mixup, settings: {share: 0.4}, ranges: {a: [0, 10]}, label: b, copies: 2}"
    drop = "{step: drop, columns: [c]}"
    assert len(recipe_of(drop, augment).steps) == 2
    with pytest.raises(ConfideError) as caught:
        recipe_of(augment, drop)
    assert [problem.where for problem in caught.value.problems] == ["steps[0]"]
