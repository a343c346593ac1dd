"""Which constraints an output may have; every wrong one is named, with a remedy."""

from __future__ import annotations

import pytest

from protocols.job import Job, Output, OutputKind, Task, check
from protocols.output_checks import check_constraint
from tests.support.jobs import an_evaluation, an_inference

KIND = OutputKind


def an_output(kind: OutputKind = KIND.PROBABILITY, *, top_k: int = 0, decimals: int | None = None, clip: str = "0") -> Output:
    return Output("answer", kind, "alice", top_k=top_k, decimals=decimals, clip=clip)


def wrong(output: Output, task: Task = Task.CLASSES, classes: int = 4) -> list[str]:
    found = list(check_constraint(output, task, classes=classes))
    assert all(problem.what and problem.remedy for problem in found)
    return [problem.where.removeprefix("outputs.answer.") for problem in found]


@pytest.mark.parametrize(
    ("output", "task"),
    [
        (an_output(), Task.CLASSES),
        (an_output(top_k=1, decimals=0, clip="0"), Task.CLASSES),
        (an_output(top_k=3, decimals=2, clip="0.25"), Task.CLASSES),
        (an_output(decimals=4, clip="0.0001"), Task.BINARY),
        (an_output(clip="0.499999999"), Task.BINARY),
        (an_output(decimals=2, clip="0.0100"), Task.BINARY),
        (an_output(KIND.VALUE, decimals=0), Task.REAL),
        (an_output(KIND.LABEL), Task.CLASSES),
        (an_output(KIND.CONFUSION), Task.CLASSES),
    ],
)
def test_constraint_that_means_something_is_taken(output: Output, task: Task) -> None:
    assert wrong(output, task) == []


@pytest.mark.parametrize(
    ("output", "task", "where"),
    [
        (an_output(top_k=4), Task.CLASSES, ["top_k"]),
        (an_output(top_k=-1), Task.CLASSES, ["top_k"]),
        (an_output(top_k=1), Task.BINARY, ["top_k"]),
        (an_output(decimals=5), Task.BINARY, ["decimals"]),
        (an_output(decimals=-1), Task.BINARY, ["decimals"]),
        (an_output(clip="0.5"), Task.BINARY, ["clip"]),
        (an_output(clip="0.26"), Task.CLASSES, ["clip"]),
        (an_output(clip="-0.1"), Task.BINARY, ["clip"]),
        (an_output(clip="1e-2"), Task.BINARY, ["clip"]),
        (an_output(clip=""), Task.BINARY, ["clip"]),
        (an_output(decimals=1, clip="0.01"), Task.BINARY, ["clip"]),
        (an_output(KIND.LABEL, top_k=1, decimals=1, clip="0.1"), Task.CLASSES, ["top_k", "decimals", "clip"]),
        (an_output(KIND.VALUE, top_k=1, decimals=9, clip="x"), Task.REAL, ["top_k", "clip", "decimals"]),
        (an_output(KIND.CONFUSION, top_k=1, decimals=1, clip="0.1"), Task.CLASSES, ["top_k", "decimals", "clip"]),
        (an_output(top_k=9, decimals=9, clip="9"), Task.CLASSES, ["top_k", "decimals", "clip"]),
    ],
)
def test_constraint_that_is_wrong_or_means_nothing_is_named(output: Output, task: Task, where: list[str]) -> None:
    assert wrong(output, task) == where


def test_two_classes_may_not_be_clipped_to_a_half() -> None:
    assert wrong(an_output(clip="0.5"), classes=2) == ["clip"]
    assert wrong(an_output(clip="0.333333333"), classes=3) == []
    assert wrong(an_output(clip="0.333333334"), classes=3) == ["clip"]


@pytest.mark.parametrize(
    ("job", "where"),
    [
        (an_inference(outputs=(an_output(top_k=2),)), "outputs.answer.top_k"),
        (an_inference(outputs=(an_output(KIND.LABEL, decimals=2),)), "outputs.answer.decimals"),
        (an_evaluation(outputs=(an_output(KIND.CORRECT_COUNT, clip="0.1"),)), "outputs.answer.clip"),
        (an_evaluation(outputs=(an_output(KIND.LOG_LOSS, decimals=2),)), "outputs.answer.decimals"),
    ],
)
def test_job_with_such_an_output_is_refused(job: Job, where: str) -> None:
    assert where in {problem.where for problem in check(job)}


def test_job_with_a_constraint_is_read_as_it_was_written() -> None:
    job = an_inference(outputs=(an_output(decimals=3, clip="0.125"),))
    assert Job.from_bytes(job.to_bytes()) == job
