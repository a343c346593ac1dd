"""From what the parties say of a failed training to the job that goes on with it, and how that is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

import pytest

from parties.cli.job_words import checkpoints_in_words
from parties.client.client import Client
from parties.client.progress import CheckpointMark, Progress
from parties.client.resume import resume_job
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Resumption
from tests.support.jobs import CREATED, a_training, an_evaluation

EARLY, LATE, OWN = CheckpointMark(3, "3c" * 32), CheckpointMark(6, "6c" * 32), CheckpointMark(6, "6d" * 32)
FAILED = a_training()
NOW = CREATED + timedelta(hours=1, microseconds=5)


@dataclass(frozen=True)
class Parties:
    """What the computing parties hold, and the directory as it is now."""

    held: Mapping[str, tuple[CheckpointMark, ...]]
    version: int = FAILED.directory_version

    @property
    def directory(self) -> Parties:
        return self

    def progress(self, _job_id: str, party: str) -> Progress:
        return progress(party, *self.held[party])


def progress(party: str, *held: CheckpointMark) -> Progress:
    return Progress(party, "aborted", "", 0, 0, 0, 0, 0, "", None, held)


def resumed(job: Job, *held: tuple[CheckpointMark, ...]) -> Job:
    parties = Parties(dict(zip(job.computing_parties, held, strict=True)))
    return resume_job(cast(Client, parties), job, NOW).job


def test_resume_takes_the_newest_checkpoint_that_all_hold_and_changes_nothing_else() -> None:
    job = resumed(FAILED, (LATE, EARLY), (EARLY,))
    assert job.resumes == Resumption(FAILED.job_id, EARLY.head, EARLY.run, attempt=2)
    assert (job.created, job.expires) == (NOW.replace(microsecond=0), NOW.replace(microsecond=0) + timedelta(minutes=30))
    assert job.nonce != FAILED.nonce
    same = {"resumes": None} | {name: getattr(FAILED, name) for name in ("created", "agree_by", "expires", "nonce")}
    assert replace(job, **same) == FAILED  # type: ignore[arg-type]  # the fields are named


def test_resume_names_the_version_of_the_directory_that_is_in_force_now() -> None:
    parties = Parties(dict.fromkeys(FAILED.computing_parties, (EARLY,)), FAILED.directory_version + 1)
    job = resume_job(cast(Client, parties), FAILED, NOW).job
    assert job.directory_version == FAILED.directory_version + 1


def test_resume_same_run_under_different_heads_is_no_common_checkpoint() -> None:
    assert (resumed(FAILED, (LATE, EARLY), (OWN, EARLY)).resumes or LATE).run == EARLY.run
    with pytest.raises(ConfideError) as caught:
        resumed(FAILED, (LATE,), (OWN,))
    assert caught.value.code is ErrorCode.CHECKPOINT_DIFFERS
    assert LATE.head[:12] in caught.value.what


def test_resume_of_a_resumption_that_made_none_goes_back_to_the_one_before() -> None:
    second = resumed(FAILED, (EARLY,), (EARLY,))
    third = resumed(second, (), ())
    assert third.resumes == second.resumes
    assert third.job_id != second.job_id
    assert resumed(second, (LATE,), (LATE,)).resumes == Resumption(second.job_id, LATE.head, LATE.run, attempt=3)


def test_resume_of_a_resumption_that_was_cancelled_is_refused_and_does_not_go_back_to_the_one_before() -> None:
    class Cancelled(Parties):
        def progress(self, job_id: str, party: str) -> Progress:
            return replace(super().progress(job_id, party), state="cancelled")

    second = resumed(FAILED, (EARLY,), (EARLY,))
    with pytest.raises(ConfideError) as caught:
        resume_job(cast(Client, Cancelled(dict.fromkeys(FAILED.computing_parties, ()))), second, NOW)
    assert caught.value.code is ErrorCode.CHECKPOINT_DIFFERS
    assert "is cancelled at hospital-a" in caught.value.what


def test_resume_of_a_training_without_checkpoints_or_of_no_training_is_refused() -> None:
    for job, held in ((FAILED, ((), ())), (an_evaluation(), ((EARLY,), (EARLY,)))):
        with pytest.raises(ConfideError) as caught:
            resumed(job, *held)
        assert caught.value.code is ErrorCode.CHECKPOINT_DIFFERS


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"hospital-a": (), "hospital-b": ()}, ""),
        ({"hospital-a": (LATE, EARLY), "hospital-b": (EARLY,)}, "of run 3"),
        ({"hospital-a": (LATE,), "hospital-b": (OWN,)}, "none that all"),
        ({"hospital-a": (LATE,)}, "none that all"),
    ],
)
def test_checkpoints_in_words_are_those_that_all_hold(held: dict[str, tuple[CheckpointMark, ...]], words: str) -> None:
    shown = checkpoints_in_words(FAILED, {party: progress(party, *marks) for party, marks in held.items()})
    assert words in shown
    assert bool(words) == bool(shown)
    assert ("job resume" in shown) == ("newest" in shown)


def test_checkpoints_in_words_of_a_running_job_do_not_offer_to_resume_it() -> None:
    heard = {party: replace(progress(party, EARLY), state="running") for party in FAILED.computing_parties}
    assert checkpoints_in_words(FAILED, heard) == "checkpoints: the newest that all computing parties hold is of run 3"
