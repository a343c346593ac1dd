"""Several jobs at once at the same parties: none of them notices how another ends."""

from __future__ import annotations

import os
import signal

import pytest

from parties.client.client import PreparedJob
from protocols.job import Job
from protocols.session.states import State
from tests.support.processes import session_workers
from tests.support.trial import (
    DEALER,
    HOSPITALS,
    LEAD,
    LONG_TRAINING,
    SECOND,
    SHORT_TRAINING,
    Trial,
)

pytestmark = pytest.mark.multiparty


@pytest.fixture(scope="module")
def trial(breakable: Trial) -> Trial:
    """Its parties run two sessions at once."""
    return breakable


def begin(trial: Trial, name: str, computing: tuple[str, ...] = (LEAD, SECOND)) -> Job:
    prepared: PreparedJob = trial.train(LONG_TRAINING, model_name=name, computing=computing)
    trial.client.submit(prepared)
    trial.await_steps(prepared.job)
    return prepared.job


def assert_goes_on(trial: Trial, job: Job) -> None:
    rounds = trial.client.progress(job.job_id, job.lead).rounds
    trial.await_state(job, State.RUNNING)
    while (said := trial.client.progress(job.job_id, job.lead)).rounds <= rounds:
        assert said.ending is None, said


def test_two_jobs_run_at_once_and_neither_notices_how_the_other_ends(trial: Trial) -> None:
    first = begin(trial, "first")
    workers = {party: session_workers(trial.network.party(party).pid) for party in HOSPITALS}
    # Other parties lead, compute and deal, so that every pair of roles meets in one process.
    short = trial.train(SHORT_TRAINING, model_name="short", computing=[DEALER, LEAD])
    trial.complete(short)
    assert_goes_on(trial, first)

    second = begin(trial, "second", (SECOND, DEALER))
    assert_goes_on(trial, first)
    (worker,) = workers[SECOND]
    os.kill(worker, signal.SIGKILL)
    ended = trial.endings(first)
    assert {(e.state, e.code, e.at_fault) for e in ended.values()} == {(State.ABORTED, "WORKER_LOST", SECOND)}
    assert_goes_on(trial, second)

    third = begin(trial, "third")
    trial.client.cancel(third)
    assert {ending.state for ending in trial.endings(third).values()} == {State.CANCELLED}
    assert_goes_on(trial, second)
    trial.complete(trial.train(SHORT_TRAINING, model_name="last"))

    trial.client.cancel(second)
    assert {ending.state for ending in trial.endings(second).values()} == {State.CANCELLED}
    for party in HOSPITALS:
        with trial.tables(party) as tables:
            assert tables.leases.live(second.created) == (), "a lease outlives its session"
        assert '"defect"' not in trial.party_log(party)


def test_job_that_finds_no_room_waits_and_is_cancelled_where_it_waits(trial: Trial) -> None:
    running = [begin(trial, f"long-{number}") for number in (1, 2)]
    waiting = trial.train(LONG_TRAINING, model_name="waiting")
    trial.client.submit(waiting)
    trial.await_state(waiting.job, State.AGREED)
    trial.client.cancel(waiting.job)
    assert {ending.state for ending in trial.endings(waiting.job).values()} == {State.CANCELLED}
    for job in running:
        assert_goes_on(trial, job)
        trial.client.cancel(job)
        trial.endings(job)
