"""What happens to a job when a worker dies, the researcher cancels, or a party is down when it is submitted.

Whole parties that die, stop or are cut off are points of the fault matrix: test_chaos_points.py and docs/faults.md.

After each fault all live parties and the researcher show one ending within 30 s, nothing of the job is usable anywhere, the
party that failed shows the same ending once it is back, and the next job completes. All cases run on one consortium, one
after the other, so each also begins in what the one before left behind.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from parties.client.client import PreparedJob
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session.messages import Ending
from protocols.session.states import State
from tests.support.processes import session_workers
from tests.support.trial import (
    ENDING_WITHIN_S,
    HOSPITALS,
    LONG_TRAINING,
    SECOND,
    SHORT_TRAINING,
    Trial,
    changed,
)

pytestmark = pytest.mark.multiparty


@pytest.fixture(scope="module")
def trial(breakable: Trial) -> Trial:
    return breakable


@pytest.fixture
def sealed_before(trial: Trial) -> dict[str, set[str]]:
    return {party: trial.sealed_files(party) for party in HOSPITALS}


@pytest.fixture
def running(trial: Trial, sealed_before: dict[str, set[str]]) -> Iterator[Job]:
    """A training that takes minutes, while it computes."""
    prepared = trial.train(LONG_TRAINING, model_name="interrupted")
    trial.client.submit(prepared)
    trial.await_steps(prepared.job)
    yield prepared.job
    trial.bring_up()  # also after a test that failed half-way


def others(party: str) -> tuple[str, ...]:
    return tuple(other for other in HOSPITALS if other != party)


def one_ending(trial: Trial, job: Job, parties: Sequence[str] = HOSPITALS, *, within_s: float = ENDING_WITHIN_S) -> Ending:
    """The ending that these parties, and so the researcher, show within the time; it must be the same."""
    began = time.monotonic()
    endings = trial.endings(job, parties=parties, within_s=within_s)
    assert time.monotonic() - began <= within_s
    assert len({str(ending.to_document()) for ending in endings.values()}) == 1, endings
    ending = endings[parties[0]]
    assert bool(ending.cause) == bool(ending.remedy) == (ending.state is not State.COMPLETED)
    assert trial.client.wait(job, timeout_s=5) == ending
    return ending


def assert_nothing_is_left(trial: Trial, job: Job, sealed_before: dict[str, set[str]]) -> None:
    """No party holds a model or output of the job, usable or not, nor a new sealed file."""
    for party in HOSPITALS:
        assert job.job_id not in {model.job_id for model in trial.client.models(party)}
        with trial.tables(party) as tables:
            assert tables.outputs.of_job(job.job_id) == ()
            assert tables.models.discard(job.job_id) == ()  # would forget one that is kept and not usable
        assert trial.sealed_files(party) == sealed_before[party]


def assert_next_job_completes(trial: Trial) -> None:
    trial.complete(trial.train(SHORT_TRAINING, model_name="next"))


def test_killed_worker_ends_the_job_and_its_party_confesses(
    trial: Trial, running: Job, sealed_before: dict[str, set[str]]
) -> None:
    (worker,) = session_workers(trial.network.party(SECOND).pid)
    os.kill(worker, signal.SIGKILL)
    ending = one_ending(trial, running)
    assert (ending.state, ending.code) == (State.ABORTED, "WORKER_LOST")
    assert (ending.phase, ending.at_fault) == (State.RUNNING, SECOND)
    assert trial.network.party(SECOND).is_alive
    assert_nothing_is_left(trial, running, sealed_before)
    assert_next_job_completes(trial)


def test_cancelled_job_ends_everywhere_and_its_workers_are_gone(
    trial: Trial, running: Job, sealed_before: dict[str, set[str]]
) -> None:
    trial.client.cancel(running)
    ending = one_ending(trial, running)
    assert (ending.state, ending.code) == (State.CANCELLED, "CANCELLED")
    with pytest.raises(ConfideError) as caught:
        trial.client.cancel(running)
    assert caught.value.code is ErrorCode.CANCEL_TOO_LATE
    deadline = time.monotonic() + 5
    while any(session_workers(trial.network.party(party).pid) for party in HOSPITALS):
        assert time.monotonic() < deadline, "a worker outlives its job"
        time.sleep(0.05)
    assert_nothing_is_left(trial, running, sealed_before)
    assert_next_job_completes(trial)


def test_job_submitted_while_a_party_is_down_fails_at_the_client_and_expires_everywhere(
    trial: Trial, sealed_before: dict[str, set[str]]
) -> None:
    prepared: PreparedJob = trial.train(SHORT_TRAINING, model_name="too-early")
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=7)
    prepared = changed(prepared, agree_by=soon, expires=soon)
    trial.kill(SECOND)
    try:
        began = time.monotonic()
        with pytest.raises(ConfideError) as caught:
            trial.client.submit(prepared)
        assert time.monotonic() - began < 15
        assert (caught.value.code, caught.value.party) == (ErrorCode.PARTY_UNREACHABLE, SECOND)
        ending = one_ending(trial, prepared.job, others(SECOND))
        # The others consent, and nobody can show it: the party that is down cosigns no log.
        assert (ending.state, ending.code, ending.phase) == (State.ABORTED, "PARTY_UNREACHABLE", State.PROPOSED)
        assert SECOND in ending.cause
    finally:
        trial.restart(SECOND)
    # The party that was down never knew the job. Given it now, it refuses, and learns how it had ended.
    with pytest.raises(ConfideError) as caught:
        trial.client.submit(prepared)
    assert (caught.value.code, caught.value.party) == (ErrorCode.JOB_EXPIRED, SECOND)
    assert one_ending(trial, prepared.job) == ending
    assert_nothing_is_left(trial, prepared.job, sealed_before)
    assert_next_job_completes(trial)


def test_nothing_of_all_that_is_left_running_or_logged_as_a_defect(trial: Trial) -> None:
    for party in HOSPITALS:
        assert '"defect"' not in trial.party_log(party)
        assert not session_workers(trial.network.party(party).pid)
