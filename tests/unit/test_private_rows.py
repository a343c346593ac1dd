"""Prepared rows and differential privacy: a recipe that puts a person behind more rows than the job counts is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from governance.admission import Holdings, examine
from governance.private_rows import row_problems, rows_counted
from privacy.preparation.contract_file import contract_from_yaml
from privacy.preparation.recipes.catalogue import STEPS
from privacy.preparation.recipes.recipe_file import recipe_from_yaml
from privacy.preparation.recipes.step import SurveyingStep
from protocols.job import Job, JobType, Output, OutputKind, Summary
from protocols.private_training import Mechanism, PrivateTraining, Unit
from tests.support.jobs import CREATED, a_dataset, a_training, an_evaluation, sgd
from tests.support.members import a_world
from tests.support.preparing import CONTRACT, RECIPE

TERMS = PrivateTraining(Mechanism.SHARED_GRADIENTS, "29", 1, 300, 100, "1", "0.00001", Unit.PERSON, 3, "1", 0)
NOISY_COUNT = Output("right", OutputKind.CORRECT_COUNT, "alice", 5, noise="20", noise_colluders=1)
COPIES = {"step": "augment", "technique": "jitter", "settings": {"width": "0.1"}, "ranges": {"age": ["0", "120"]}}


def a_statement(*steps: Mapping[str, Any]) -> dict[str, Any]:
    columns = [{"name": "patient", "role": "linkage-key"}, {"name": "age", "role": "feature"}]
    return {"contract": {"columns": columns}, "recipe": {"steps": list(steps)}}


def a_private_job(terms: PrivateTraining = TERMS) -> Job:
    return a_training(training=replace(sgd(60, 300, "0.1"), privacy=terms))


def a_noisy_summary() -> Job:
    """Means of clusters; moments are one more output of the same job type."""
    means = Output("means", OutputKind.CENTROIDS, "alice", 5, noise="20", noise_colluders=1)
    return an_evaluation(job_type=JobType.SUMMARISE, model_ref=None, outputs=(means,), summary=Summary(2, 3, 0, ""))


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"step": "clip", "columns": ["age"]}],
        [COPIES | {"copies": "2"}],
        [COPIES | {"technique": "clipping"}],
        [{"step": "drop-duplicates"}],
        [{"step": "drop-duplicates", "columns": ["patient"]}],
    ],
)
def test_rows_that_tell_of_one_person_alone_are_taken(steps: list[dict[str, Any]]) -> None:
    assert list(row_problems(TERMS.rows_per_person, a_statement(*steps), where="rows")) == []


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([COPIES | {"copies": "3"}], "up to 4 rows of one"),
        ([COPIES | {"copies": "1"}, COPIES | {"copies": "1"}], "up to 4 rows of one"),
        ([COPIES | {"technique": "mixup", "copies": "1"}], "one other row"),
        ([COPIES | {"technique": "rebalancing", "copies": "1"}], "whole table"),
        ([{"step": "impute-draw", "columns": ["age"]}], "other people's values"),
        ([{"step": "suppress-small-groups", "columns": ["age"]}], "like them"),
        ([{"step": "drop-duplicates", "columns": ["age"]}], "whoever's it is"),
    ],
)
def test_rows_that_tell_of_others_or_of_one_too_often_are_refused(steps: list[dict[str, Any]], said: str) -> None:
    (problem,) = row_problems(TERMS.rows_per_person, a_statement(*steps), where="rows")
    assert said in problem.what


def test_every_step_that_looks_at_all_rows_was_judged() -> None:
    """A row that such a step makes may tell of other people: a new one is a case above, or changes no row by what others hold."""
    looking = {kind for kind, step in STEPS.items() if issubclass(step, SurveyingStep)}
    refused = {"impute-draw", "suppress-small-groups", "drop-duplicates"}
    assert looking - refused == {"hash-features"}  # it counts, and refuses or not; a row is hashed by its own text
    assert refused <= looking


def test_recipe_as_an_owner_signs_it_is_understood() -> None:
    contract, recipe = contract_from_yaml(CONTRACT.encode()), recipe_from_yaml(RECIPE.encode())
    signed = {"contract": contract.to_document(), "recipe": recipe.to_document()}
    (problem,) = row_problems(TERMS.rows_per_person, signed, where="rows")
    assert "other people's values" in problem.what


def test_owner_s_party_refuses_a_private_job_over_such_rows_and_takes_another() -> None:
    own = {"patients": a_dataset("hospital-a")}
    holdings = Holdings(
        party="hospital-a",
        datasets=own,
        models={},
        min_evaluation_rows=50,
        max_rows=1_000,
        max_query_rows=10,
        servings=0,
        max_servings=1,
        min_cell=5,
        resumed=None,
        schemas={},
        prepared={"patients": a_statement(COPIES | {"copies": "3"})},
        rows_per_person={},
    )
    directory = a_world().directory

    def is_refused(job: Job, held: Holdings = holdings) -> bool:
        found = examine(job, directory=directory, holdings=held, now=CREATED)
        return "datasets.hospital-a.patients" in {finding.problem.where for finding in found}

    assert is_refused(a_private_job())
    assert not is_refused(a_private_job(replace(TERMS, rows_per_person=4)))
    assert not is_refused(a_training())
    as_registered = replace(holdings, prepared={"patients": a_statement()})
    for job in (an_evaluation(outputs=(NOISY_COUNT,)), a_noisy_summary()):
        assert is_refused(job)
        assert not is_refused(job, as_registered)
        # Of somebody with three rows noise for one would hide none; it is drawn, and charged, for as many as the job says.
        several = replace(as_registered, rows_per_person={"patients": 3})
        assert is_refused(job, several)
        assert not is_refused(replace(job, outputs=(replace(job.outputs[0], rows_per_person=3),)), several)
    assert not is_refused(an_evaluation())


@pytest.mark.parametrize(
    "steps", [[COPIES | {"technique": "mixup", "copies": "1"}], [{"step": "impute-draw", "columns": ["age"]}]]
)
def test_noise_on_counts_and_sums_is_for_one_row_that_tells_of_one_person(steps: list[dict[str, Any]]) -> None:
    for job in (an_evaluation(outputs=(NOISY_COUNT,)), a_noisy_summary()):
        assert rows_counted(job) == 1
    assert rows_counted(an_evaluation()) is None
    assert rows_counted(a_training()) is None
    assert list(row_problems(1, a_statement(*steps), where="rows"))
