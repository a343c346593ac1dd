"""How often a party checks a job that several members bring at once."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Event
from typing import Any, cast

import pytest

from parties.server.intake import CheckedJob, Checker
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from tests.support.jobs import a_training
from tests.support.link_pairs import Running

JOB = a_training()
NOTHING = cast(Any, None)


class Asked(dict[str, Future[CheckedJob]]):
    """Counts the questions that it could answer."""

    hits = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.hits += key in self
        return super().get(key, default)


class SlowChecker(Checker):
    """Takes until it is told to go on, and counts."""

    def __init__(self, outcome: CheckedJob | ConfideError) -> None:
        super().__init__(NOTHING, NOTHING)
        self.outcome = outcome
        self.begun: list[str] = []
        self.begins, self.go_on = Event(), Event()

    def _check(self, job: Job) -> CheckedJob:
        self.begun.append(job.job_id)
        self.begins.set()
        assert self.go_on.wait(timeout=20)
        if isinstance(self.outcome, ConfideError):
            raise self.outcome
        return self.outcome


def test_check_of_a_job_that_is_being_checked_waits_for_that_check_and_a_later_one_is_new() -> None:
    checker = SlowChecker(CheckedJob(b"{}", 1))
    first = Running(lambda: checker.check(JOB))
    assert checker.begins.wait(timeout=20)
    checker._under_way = waits = Asked(checker._under_way)
    others = [Running(lambda: checker.check(JOB)) for _ in range(3)]
    while waits.hits < len(others):
        assert all(other.is_alive() for other in others)
    checker.go_on.set()
    assert [one.result() for one in (first, *others)] == [checker.outcome] * 4
    assert checker.begun == [JOB.job_id]
    checker.check(JOB)
    assert checker.begun == [JOB.job_id] * 2


def test_check_that_fails_fails_for_all_who_wait_for_it() -> None:
    checker = SlowChecker(ConfideError(ErrorCode.NOT_ENOUGH_ROWS))
    waiting = [Running(lambda: checker.check(JOB)) for _ in range(2)]
    checker.go_on.set()
    for one in waiting:
        with pytest.raises(ConfideError) as caught:
            one.result()
        assert caught.value.code is ErrorCode.NOT_ENOUGH_ROWS


def test_check_of_another_job_does_not_wait() -> None:
    checker = SlowChecker(CheckedJob(b"{}", 1))
    first = Running(lambda: checker.check(JOB))
    assert checker.begins.wait(timeout=20)
    other = Running(lambda: checker.check(a_training(nonce="01" * 16)))
    while len(checker.begun) < 2:
        assert first.is_alive()
    checker.go_on.set()
    assert first.result() == other.result()
