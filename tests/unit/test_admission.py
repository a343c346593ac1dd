"""What a party checks for itself before it takes part in a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from governance.admission import CLOCK_SKEW, SUBMITTED_WITHIN, Holdings, ModelFacts, admit, demand_new, examine
from governance.identity.directory import Directory
from governance.identity.names import Role
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, ModelRef, Output, OutputKind, Task
from protocols.training import OptimiserKind
from tests.support.jobs import CREATED, MODEL, MODEL_REF, SCHEMA_DIGEST, a_dataset, a_training, an_evaluation, an_inference
from tests.support.members import Founder, a_founder, new_keys

FACTS = ModelFacts(("hospital-a", "hospital-b"), canonical_bytes(MODEL.to_document()), SCHEMA_DIGEST, 10, OptimiserKind.SGD)


@pytest.fixture(scope="module")
def founder() -> Founder:
    return a_founder()


@pytest.fixture(scope="module")
def directory(founder: Founder) -> Directory:
    owner = Role.DATA_OWNER
    return founder.directory(
        version=3,
        parties=(
            founder.party(new_keys(), "hospital-a", roles=(owner, Role.COMPUTING)),
            founder.party(new_keys(), "hospital-b", roles=(owner, Role.COMPUTING)),
            founder.party(new_keys(), "hospital-c", roles=(owner, Role.DEALER)),
            founder.party(new_keys(), "hospital-d", roles=(Role.COMPUTING,)),
        ),
        researchers=(founder.researcher(new_keys(), "alice"),),
    )


def holdings_of(party: str = "hospital-a", **changes: object) -> Holdings:
    holdings = Holdings(
        party,
        {"patients": a_dataset(party)},
        {MODEL_REF: FACTS},
        min_evaluation_rows=50,
        max_rows=1_000,
        max_query_rows=10,
        servings=0,
        max_servings=1,
        min_cell=5,
        resumed=None,
        schemas={},
        prepared={},
        rows_per_person={},
    )
    return replace(holdings, **changes)  # type: ignore[arg-type]  # tests name the fields


def findings(
    job: Job, directory: Directory, *, holdings: Holdings | None = None, now: datetime = CREATED
) -> list[tuple[ErrorCode, str]]:
    found = examine(job, directory=directory, holdings=holdings or holdings_of(), now=now)
    return [(finding.code, finding.problem.where) for finding in found]


@pytest.mark.parametrize("make", [a_training, an_evaluation, an_inference])
@pytest.mark.parametrize("party", ["hospital-a", "hospital-b", "hospital-c"])
def test_admit_sound_job_is_accepted_by_every_participant(make: Callable[[], Job], party: str, directory: Directory) -> None:
    admit(make(), directory=directory, holdings=holdings_of(party), now=CREATED)


@pytest.mark.parametrize(
    ("job", "code", "where"),
    [
        (a_training(consortium="other"), ErrorCode.INVALID_JOB, "consortium"),
        (a_training(task=Task.REAL), ErrorCode.INVALID_JOB, "task"),
        (a_training(schema={"format": "other"}), ErrorCode.INVALID_SCHEMA, "api_version"),
        (a_training(directory_version=2), ErrorCode.STALE_DIRECTORY, "directory_version"),
        (a_training(directory_version=4), ErrorCode.STALE_DIRECTORY, "directory_version"),
        (a_training(querier="mallory"), ErrorCode.NOT_ENROLLED, "querier"),
        (a_training(querier="hospital-a"), ErrorCode.NOT_ENROLLED, "querier"),
        (a_training(computing_parties=("hospital-a", "hospital-c")), ErrorCode.NOT_AUTHORISED, "computing_parties"),
        (a_training(computing_parties=("hospital-a", "hospital-z")), ErrorCode.NOT_AUTHORISED, "computing_parties"),
        (a_training(dealer="hospital-d"), ErrorCode.NOT_AUTHORISED, "dealer"),
        (a_training(datasets=(a_dataset("hospital-d"),)), ErrorCode.NOT_AUTHORISED, "datasets"),
        (a_training(datasets=(a_dataset(name="others"),)), ErrorCode.UNKNOWN_DATASET, "datasets.hospital-a.others"),
        (a_training(datasets=(a_dataset(num_rows=99),)), ErrorCode.INVALID_JOB, "datasets.hospital-a.patients"),
        (
            a_training(datasets=(replace(a_dataset(), commitment="0" * 64),)),
            ErrorCode.INVALID_JOB,
            "datasets.hospital-a.patients",
        ),
        (a_training(datasets=(replace(a_dataset(), version=2),)), ErrorCode.INVALID_JOB, "datasets.hospital-a.patients"),
        (an_evaluation(model_ref=ModelRef("diagnosis", "0" * 12)), ErrorCode.UNKNOWN_MODEL, "model_ref"),
        (an_evaluation(computing_parties=("hospital-b", "hospital-a")), ErrorCode.INVALID_JOB, "computing_parties"),
        (an_evaluation(computing_parties=("hospital-a", "hospital-d")), ErrorCode.INVALID_JOB, "computing_parties"),
        (an_inference(schema={"format": "confide.schema/1"}), ErrorCode.INVALID_JOB, "schema"),
        (an_evaluation(datasets=(a_dataset(num_rows=49),)), ErrorCode.NOT_ENOUGH_ROWS, "datasets"),
        (a_training(datasets=(a_dataset("hospital-b", num_rows=1_001),)), ErrorCode.INVALID_JOB, "datasets"),
        (an_inference(query_rows=11), ErrorCode.INVALID_JOB, "query_rows"),
    ],
)
def test_examine_one_reason_is_found(job: Job, code: ErrorCode, where: str, directory: Directory) -> None:
    assert (code, where) in findings(job, directory)


def test_examine_other_architecture_than_the_models_is_found(directory: Directory) -> None:
    facts = replace(FACTS, manifest=canonical_bytes({"format": "confide.model/1", "layers": []}))
    found = findings(an_evaluation(), directory, holdings=holdings_of(models={MODEL_REF: facts}))
    assert found == [(ErrorCode.INVALID_JOB, "model")]


@pytest.mark.parametrize(
    ("later", "code"),
    [
        (timedelta(minutes=30), None),
        (timedelta(minutes=30, seconds=1), ErrorCode.JOB_EXPIRED),
        (-CLOCK_SKEW, None),
        (-CLOCK_SKEW - timedelta(seconds=1), ErrorCode.INVALID_JOB),
    ],
)
def test_examine_time_at_its_limits(later: timedelta, code: ErrorCode | None, directory: Directory) -> None:
    found = [finding for finding, _ in findings(a_training(), directory, now=CREATED + later)]
    assert found == ([] if code is None else [code])


@pytest.mark.parametrize(("rows", "is_enough"), [(49, False), (50, True)])
def test_examine_evaluation_counts_the_rows_of_all_owners(rows: int, is_enough: bool, directory: Directory) -> None:
    datasets = (a_dataset("hospital-b", num_rows=rows - 20), a_dataset("hospital-c", num_rows=20))
    codes = [code for code, _ in findings(an_evaluation(datasets=datasets), directory)]
    assert codes == ([] if is_enough else [ErrorCode.NOT_ENOUGH_ROWS])


@pytest.mark.parametrize(
    ("noise", "min_cell", "is_enough"), [("0", 10, True), ("5", 10, True), ("4.999", 10, False), ("0.001", 5, False)]
)
def test_examine_noise_that_stands_in_for_the_minimum_cell_hides_it(
    noise: str, min_cell: int, is_enough: bool, directory: Directory
) -> None:
    """Next to no noise would open, by subtraction from all rows, what the rules for exact counts withhold."""
    output = Output("count", OutputKind.CORRECT_COUNT, "alice", min_cell, noise=noise, noise_colluders=int(noise != "0"))
    datasets = (a_dataset("hospital-a"), a_dataset("hospital-b"))
    found = findings(an_evaluation(datasets=datasets, outputs=(output,)), directory)
    assert found == ([] if is_enough else [(ErrorCode.NOT_ENOUGH_ROWS, "outputs.count.noise")])


def test_examine_job_at_the_partys_own_limits_is_accepted(directory: Directory) -> None:
    datasets = (a_dataset("hospital-b", num_rows=600), a_dataset("hospital-c", num_rows=400))
    assert findings(a_training(datasets=datasets), directory) == []
    assert findings(an_inference(query_rows=10), directory) == []


def test_examine_data_sets_of_others_are_their_own_matter(directory: Directory) -> None:
    job = a_training(datasets=(a_dataset("hospital-b", "unknown-here"), a_dataset("hospital-c", num_rows=7)))
    assert findings(job, directory) == []


def test_examine_party_without_the_model_that_does_not_compute_accepts(directory: Directory) -> None:
    assert findings(an_evaluation(), directory, holdings=holdings_of("hospital-c", models={})) == []


def test_admit_every_reason_is_reported_at_once_with_the_code_of_the_first(directory: Directory) -> None:
    job = an_evaluation(
        directory_version=2,
        querier="mallory",
        dealer="hospital-d",
        datasets=(a_dataset(name="others", num_rows=3),),
        model_ref=ModelRef("x", "0" * 12),
    )
    with pytest.raises(ConfideError) as caught:
        admit(job, directory=directory, holdings=holdings_of(), now=CREATED + timedelta(days=1))
    error = caught.value
    assert (error.code, error.party) == (ErrorCode.STALE_DIRECTORY, "hospital-a")
    assert [problem.where for problem in error.problems] == [
        "directory_version",
        "querier",
        "dealer",
        "expires",
        "datasets.hospital-a.others",
        "model_ref",
        "datasets",
    ]
    assert all(problem.remedy for problem in error.problems)


def test_demand_new_job_that_was_dated_back_is_refused() -> None:
    job = a_training()
    demand_new(job, now=job.created + SUBMITTED_WITHIN)
    with pytest.raises(ConfideError) as refused:
        demand_new(job, now=job.created + SUBMITTED_WITHIN + timedelta(seconds=1))
    assert (refused.value.code, refused.value.problems[0].where) == (ErrorCode.INVALID_JOB, "created")
