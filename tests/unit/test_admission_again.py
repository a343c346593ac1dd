"""What a party checks of jobs that use again what is there: a model's steps, a failed training, rows evaluated before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from governance.admission import Holdings, ModelFacts, PastJob, examine
from governance.identity.directory import Directory
from governance.identity.names import Role
from protocols.canonical import canonical_bytes
from protocols.errors import ErrorCode
from protocols.job import Job, Output, OutputKind, Resumption
from protocols.session.states import State
from protocols.training import Optimiser, OptimiserKind
from tests.support.jobs import CREATED, MODEL, MODEL_REF, SCHEMA_DIGEST, TRAINING, a_dataset, a_training, an_evaluation
from tests.support.members import a_founder, new_keys

HEAD = "5a" * 32
FAILED = a_training()
RESUMED = a_training(
    created=CREATED + timedelta(minutes=5),
    expires=CREATED + timedelta(minutes=35),
    nonce="01" * 16,
    resumes=Resumption(FAILED.job_id, HEAD, run=7, attempt=2),
)
PAST = PastJob(FAILED, State.ABORTED, frozenset({(7, HEAD), (4, "4b" * 32)}))


@pytest.fixture(scope="module")
def directory() -> Directory:
    founder = a_founder()
    owner = Role.DATA_OWNER
    return founder.directory(
        version=3,
        parties=(
            founder.party(new_keys(), "hospital-a", roles=(owner, Role.COMPUTING)),
            founder.party(new_keys(), "hospital-b", roles=(owner, Role.COMPUTING)),
            founder.party(new_keys(), "hospital-c", roles=(owner, Role.DEALER)),
        ),
        researchers=(founder.researcher(new_keys(), "alice"),),
    )


def holdings_of(party: str = "hospital-a", **changes: object) -> Holdings:
    manifest = canonical_bytes(MODEL.to_document())
    holdings = Holdings(
        party,
        {"patients": a_dataset(party)},
        {MODEL_REF: ModelFacts(("hospital-a", "hospital-b"), manifest, SCHEMA_DIGEST, steps=40, optimiser=OptimiserKind.SGD)},
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


def findings(job: Job, directory: Directory, holdings: Holdings) -> list[tuple[ErrorCode, str]]:
    found = examine(job, directory=directory, holdings=holdings, now=job.created)
    return [(finding.code, finding.problem.where) for finding in found]


@pytest.mark.parametrize("party", ["hospital-a", "hospital-b", "hospital-c"])
def test_admit_resumption_of_an_aborted_training_is_accepted_by_everybody(party: str, directory: Directory) -> None:
    kept = PAST if party != "hospital-c" else replace(PAST, checkpoints=frozenset())
    assert findings(RESUMED, directory, holdings_of(party, resumed=kept)) == []


def test_admit_resumption_party_that_does_not_compute_need_not_know_the_job(directory: Directory) -> None:
    assert findings(RESUMED, directory, holdings_of("hospital-c")) == []


def test_admit_resumption_under_a_newer_directory_is_accepted_and_under_an_old_one_refused(directory: Directory) -> None:
    known = replace(PAST, job=replace(FAILED, directory_version=FAILED.directory_version - 1))
    assert findings(RESUMED, directory, holdings_of(resumed=known)) == []
    stale = replace(RESUMED, directory_version=known.job.directory_version)
    assert findings(stale, directory, holdings_of(resumed=known)) == [(ErrorCode.STALE_DIRECTORY, "directory_version")]


def test_admit_resumption_of_a_resumption_compares_with_that_one(directory: Directory) -> None:
    again = replace(RESUMED, nonce="02" * 16, resumes=Resumption(RESUMED.job_id, "6c" * 32, run=9, attempt=3))
    past = PastJob(RESUMED, State.ABORTED, frozenset({(9, "6c" * 32)}))
    assert findings(again, directory, holdings_of(resumed=past)) == []


@pytest.mark.parametrize(
    ("resumes", "past", "code", "where"),
    [
        (RESUMED.resumes, None, ErrorCode.CHECKPOINT_DIFFERS, "resumes.job_id"),
        (RESUMED.resumes, replace(PAST, checkpoints=frozenset()), ErrorCode.CHECKPOINT_DIFFERS, "resumes"),
        (Resumption(FAILED.job_id, "6c" * 32, 7, 2), PAST, ErrorCode.CHECKPOINT_DIFFERS, "resumes"),
        (Resumption(FAILED.job_id, HEAD, 6, 2), PAST, ErrorCode.CHECKPOINT_DIFFERS, "resumes"),
        (Resumption(FAILED.job_id, HEAD, 7, 3), PAST, ErrorCode.INVALID_JOB, "resumes.attempt"),
        *(
            (RESUMED.resumes, replace(PAST, state=state), ErrorCode.CHECKPOINT_DIFFERS, "resumes.job_id")
            for state in State
            if state is not State.ABORTED
        ),
    ],
)
def test_admit_resumption_of_something_else_is_refused(
    resumes: Resumption, past: PastJob | None, code: ErrorCode, where: str, directory: Directory
) -> None:
    assert findings(replace(RESUMED, resumes=resumes), directory, holdings_of(resumed=past)) == [(code, where)]


@pytest.mark.parametrize("party", ["hospital-a", "hospital-c"])
@pytest.mark.parametrize(
    "changes",
    [
        {"training": replace(TRAINING, epochs=3)},
        {"initial_weights_sha256": "e" * 64},
        {"model_name": "other"},
        {"datasets": (a_dataset("hospital-a"), a_dataset("hospital-b"))},
        {"computing_parties": ("hospital-b", "hospital-a")},
    ],
)
def test_admit_resumption_that_changes_the_training_is_refused(
    party: str, changes: dict[str, object], directory: Directory
) -> None:
    job = replace(RESUMED, **changes)
    assert (ErrorCode.INVALID_JOB, "resumes") in findings(job, directory, holdings_of(party, resumed=PAST))


def test_admit_training_that_continues_a_model_must_know_its_steps(directory: Directory) -> None:
    def continuing(steps: int) -> Job:
        training = replace(TRAINING, steps_before=steps)
        return a_training(initial_weights_sha256=None, model_ref=MODEL_REF, training=training)

    assert findings(continuing(40), directory, holdings_of()) == []
    assert findings(continuing(39), directory, holdings_of()) == [(ErrorCode.INVALID_JOB, "training.steps_before")]
    adam = Optimiser(OptimiserKind.ADAM, "0.01", beta1="0.9", beta2="0.999", epsilon="0.001")
    with_adam = replace(continuing(40), training=replace(TRAINING, steps_before=40, optimiser=adam))
    assert findings(with_adam, directory, holdings_of()) == [(ErrorCode.INVALID_JOB, "training.optimiser")]


@pytest.mark.parametrize(("party", "refuses"), [("hospital-a", True), ("hospital-c", False)])
def test_admit_evaluation_of_smaller_cells_than_the_owner_permits_is_refused(
    party: str, refuses: bool, directory: Directory
) -> None:
    cells = (Output("correct", OutputKind.CORRECT_COUNT, "alice", 4), Output("confusion", OutputKind.CONFUSION, "alice", 5))
    job = an_evaluation(outputs=cells, datasets=(a_dataset("hospital-a"), a_dataset("hospital-b")))
    expected = [(ErrorCode.NOT_ENOUGH_ROWS, "outputs.correct.min_cell")] if refuses else []
    assert findings(job, directory, holdings_of(party)) == expected
