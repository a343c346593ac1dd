"""Requests for an assessment, and what its counts become: words for people, a report, charges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from governance.budget.amounts import charges
from parties.cli.risk_words import attack_in_words
from parties.client.requests import AssessRequest, read_request
from parties.client.risk import risk_of, usual_thresholds
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Assessment, Job, JobType, Output, OutputKind, check
from protocols.job_fields import check_ascending
from protocols.job_parts import MAX_ASSESSED_ROWS
from tests.support.mpc_world import a_job
from tests.support.programs import by_sides

REQUEST = """api_version: confide/v1
type: assess
computing_parties: [hospital-a, hospital-b]
dealer: hospital-c
datasets: [hospital-a/train, hospital-b/holdout]
members: [hospital-a/train]
model: diagnosis@0123456789ab
"""


def _written(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def an_assessment() -> Job:
    job = replace(
        by_sides(a_job(JobType.EVALUATE, rows={"alpha": 40, "gamma": 60})),
        job_type=JobType.ASSESS,
        outputs=(Output("attack-counts", OutputKind.ATTACK_COUNTS, "researcher", 5),),
        assessment=Assessment((0, 2), ("-1", "0", "1.5"), "lira", 16),
    )
    assert list(check(job)) == []
    return job


def test_request_has_the_usual_attack_and_shadows(tmp_path: Path) -> None:
    request = read_request(_written(tmp_path, REQUEST))
    assert isinstance(request, AssessRequest)
    assert (request.attack, request.shadows, request.thresholds, request.min_cell) == ("lira", 64, None, 5)


@pytest.mark.parametrize("line", ["attack: loss\n", "members: [hospital-c/train]\n", "thresholds: []\n", "partition: columns\n"])
def test_request_that_cannot_be_is_refused(tmp_path: Path, line: str) -> None:
    field = line.partition(":")[0]
    kept = "".join(one for one in REQUEST.splitlines(keepends=True) if not one.startswith(f"{field}:"))
    with pytest.raises(ConfideError) as refused:
        read_request(_written(tmp_path, kept + line))
    assert refused.value.code is ErrorCode.INVALID_JOB


@pytest.mark.parametrize("attack", ["lira", "rmia"])
def test_usual_thresholds_are_ones_that_a_job_may_have(attack: str) -> None:
    assert list(check_ascending("thresholds", usual_thresholds(attack), -64, 64)) == []
    assert len(usual_thresholds(attack)) <= 64


def test_counts_become_a_report_and_words() -> None:
    job, counts = an_assessment(), np.array([[40, 20], [22, -1], [12, 5]])
    report = risk_of(job, counts)
    assert (report.members, report.others, report.shadows, report.seeds) == (50, 50, 16, ())
    # Points of the curve: none, (5/50, 12/50), (20/50, 40/50), all: trapezes between them.
    expected = (5 * 12 / 2 + 15 * (12 + 40) / 2 + 30 * (40 + 50) / 2) / (50 * 50)
    assert report.figures["membership.lira.auc"].value == pytest.approx(expected)
    words = attack_in_words(job, counts, min_cell=5)
    assert "of 50 members" in words
    assert "withheld: fewer than 5 rows" in words
    assert "membership.lira.tpr_at_1_percent" in words


def test_counts_of_another_job_are_refused() -> None:
    with pytest.raises(ConfideError):
        risk_of(an_assessment(), np.zeros((2, 2), np.int64))


def test_every_owner_is_charged_for_two_counts_a_threshold() -> None:
    for owner in ("alpha", "gamma"):
        for amount in charges(an_assessment(), owner).values():
            assert (amount.queries, amount.answers) == (1, 6)


def test_more_rows_than_can_be_compared_are_refused() -> None:
    job = an_assessment()
    most = MAX_ASSESSED_ROWS - sum(dataset.num_rows for dataset in job.datasets[1:])
    first, *others = job.datasets
    assert list(check(replace(job, datasets=(replace(first, num_rows=most), *others)))) == []
    (problem,) = check(replace(job, datasets=(replace(first, num_rows=most + 1), *others)))
    assert (problem.where, str(MAX_ASSESSED_ROWS) in problem.what) == ("datasets", True)
