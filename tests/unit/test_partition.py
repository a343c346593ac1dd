"""Jobs over different columns of the same rows: what shows in the job alone, at the owner, and to who counts rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from governance.admission import Holdings, examine
from governance.consent.facts import Source, facts_of
from governance.identity.directory import Directory
from governance.identity.names import Role
from privacy.preparation.fit import check_fit
from privacy.preparation.schema import TableSchema
from protocols.errors import ErrorCode
from protocols.job import Job, Partition, check
from tests.support.jobs import CREATED, MODEL_REF, SCHEMA, a_dataset, a_training, an_evaluation, an_inference
from tests.support.members import a_founder, new_keys
from tests.support.parts import JOINED, a_part, in_parts, part_schema

FIRST, OTHER = a_part("hospital-a"), a_part("hospital-c")
JOB = in_parts(a_training())


def problems(job: Job) -> list[tuple[str, str]]:
    return [(problem.where, problem.what) for problem in check(job)]


def test_parts_of_the_same_rows_are_a_sound_job_whose_rows_count_once() -> None:
    assert problems(JOB) == []
    assert list(check_fit(JOB)) == []
    assert Job.from_bytes(JOB.to_bytes()) == JOB
    assert (JOB.num_rows, a_training().num_rows) == (100, 300)
    assert problems(in_parts(an_evaluation())) == []


@pytest.mark.parametrize(
    ("parts", "where", "what"),
    [
        ((FIRST, replace(OTHER, num_rows=99)), "datasets.hospital-c.patients", "99 rows, and hospital-a/patients has 100"),
        ((FIRST, replace(OTHER, alignment="b9" * 32)), "datasets.hospital-c.patients", "its people or their order are not those"),
        ((FIRST, replace(OTHER, alignment="")), "datasets.hospital-c.patients", "registered without an alignment"),
        ((replace(FIRST, alignment=""), OTHER), "datasets.hospital-a.patients", "registered without an alignment"),
        ((FIRST, replace(OTHER, alignment="b9")), "datasets.hospital-c.patients.alignment", "must be 64 hexadecimal digits"),
        ((FIRST, replace(OTHER, has_label=True)), "datasets", "2 parts have a label: hospital-a/patients, hospital-c/patients"),
        ((replace(FIRST, has_label=False), OTHER), "datasets", "no part has a label"),
        ((FIRST, replace(OTHER, num_features=3)), "datasets", "the parts have 4 feature(s) together, and the model takes 3"),
        ((FIRST, replace(OTHER, num_features=0)), "datasets.hospital-c.patients", "brings no column"),
        ((FIRST, replace(OTHER, num_features=-1)), "datasets.hospital-c.patients", "brings no column"),
        ((FIRST,), "partition", "columns of one data set alone are not joined"),
        ((FIRST, FIRST), "datasets.hospital-a.patients", "named twice"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(parts: tuple[Any, ...], where: str, what: str) -> None:
    assert any(found == where and what in said for found, said in problems(in_parts(a_training(), *parts)))


def test_rows_of_people_that_stand_in_two_data_sets_are_refused_since_they_would_count_twice() -> None:
    first, second, *others = a_training().datasets
    twice = replace(a_training(), datasets=(replace(first, alignment="a9" * 32), replace(second, alignment="a9" * 32), *others))
    what = f"the same people as {first.party}/{first.name}, as its alignment shows: they would count twice"
    assert problems(twice) == [(f"datasets.{second.party}.{second.name}", what)]
    other = replace(second, alignment="b9" * 32)
    assert problems(replace(twice, datasets=(twice.datasets[0], other, *others))) == []


def test_parts_all_problems_are_reported_at_once() -> None:
    parts = (replace(FIRST, has_label=False), replace(OTHER, num_rows=99, num_features=1))
    assert [where for where, _ in problems(in_parts(a_training(), *parts))] == [
        "datasets.hospital-c.patients",
        "datasets",
        "datasets",
    ]


def test_inference_over_columns_is_refused() -> None:
    assert ("partition", "columns of one data set alone are not joined") in problems(
        replace(an_inference(), partition=Partition.COLUMNS)
    )


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"has_label": False}, "it has no label"), ({"num_features": 2}, "2 feature(s), and the model takes 3")],
)
def test_rows_with_other_columns_than_the_job_are_named(changes: dict[str, Any], what: str) -> None:
    job = a_training(datasets=(replace(a_dataset(), **changes),))
    assert problems(job) == [("datasets.hospital-a.patients", what)]


@pytest.fixture(scope="module")
def directory() -> Directory:
    founder = a_founder()
    parties = tuple(founder.party(new_keys(), f"hospital-{letter}", roles=tuple(Role)) for letter in "abc")
    return founder.directory(version=3, parties=parties, researchers=(founder.researcher(new_keys(), "alice"),))


def refused(job: Job, directory: Directory, *, party: str = "hospital-c", now: datetime = CREATED) -> list[str]:
    holdings = Holdings(
        party,
        {"patients": a_part(party)},
        {},
        min_evaluation_rows=50,
        max_rows=150,
        max_query_rows=10,
        servings=0,
        max_servings=1,
        min_cell=5,
        resumed=None,
        schemas={"patients": TableSchema.from_document(part_schema(party))},
        prepared={},
        rows_per_person={},
    )
    found = tuple(examine(job, directory=directory, holdings=holdings, now=now))
    assert {finding.code for finding in found} <= {ErrorCode.INVALID_JOB, ErrorCode.INVALID_SCHEMA}
    return [finding.problem.what for finding in found]


@pytest.mark.parametrize("party", ["hospital-a", "hospital-c"])
def test_owner_takes_part_with_exactly_its_columns_and_rows_that_count_once(party: str, directory: Directory) -> None:
    # 150 rows at most are allowed: two parts of 100 rows are one hundred rows.
    assert refused(JOB, directory, party=party) == []


def altered(position: int, **changes: Any) -> Job:
    columns = list(JOINED["columns"])
    columns[position] = columns[position] | changes
    return replace(JOB, schema=JOINED | {"columns": columns})


@pytest.mark.parametrize(
    ("job", "party", "what"),
    [
        (
            altered(1, range=["0", "20"]),
            "hospital-c",
            "feature 2 of the joined schema is texture, not texture as registered here",
        ),
        (altered(2, name="surface"), "hospital-c", "feature 3 of the joined schema is surface, not area as registered here"),
        (
            in_parts(a_training(), OTHER, FIRST),
            "hospital-c",
            "feature 1 of the joined schema is radius, not texture as registered",
        ),
        (altered(3, name="healthy"), "hospital-a", "the label of the joined schema is not benign as registered here"),
    ],
)
def test_owner_refuses_a_joined_schema_that_says_other_of_its_columns(
    job: Job, party: str, what: str, directory: Directory
) -> None:
    assert any(what in said for said in refused(job, directory, party=party))


def test_owner_refuses_a_joined_schema_that_cannot_be_read_or_has_no_label(directory: Directory) -> None:
    assert refused(replace(JOB, schema=JOINED | {"columns": JOINED["columns"][:-1]}), directory) == [
        "hospital-a-hospital-c has no label column"
    ]
    assert refused(replace(JOB, schema={"format": "other"}), directory) != []


def test_facts_count_the_rows_of_parts_once_in_jobs_and_behind_models() -> None:
    assert facts_of(JOB, institution=None, sources=()).num_rows == 100
    behind = tuple(Source(part, (MODEL_REF,)) for part in (*JOB.datasets, a_dataset("hospital-b", num_rows=30)))
    facts = facts_of(an_inference(schema=SCHEMA), institution=None, sources=behind)
    assert (facts.num_rows, facts.owners) == (130, frozenset({"hospital-a", "hospital-b", "hospital-c"}))
