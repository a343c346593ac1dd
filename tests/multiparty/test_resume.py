"""A training that fails is taken up again: it loses at most one interval and ends as if it had not failed."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from parties.client.client import PreparedJob
from parties.client.requests import TrainingRequest
from parties.client.resume import resume_job
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session.states import State
from protocols.training import CheckpointRule
from tests.support.shares import model_record, open_model
from tests.support.trial import COMPUTING, HOSPITALS, LEAD, SECOND, Split, Trial

pytestmark = pytest.mark.multiparty

# 48 rows each: 3 steps an epoch; a checkpoint after every sixth epoch, so an interval is 18 steps.
EPOCHS, EVERY, PER_EPOCH = 54, 6, 3
INTERVAL, STEPS = EVERY * PER_EPOCH, EPOCHS * PER_EPOCH
TRAINING = TrainingRequest(epochs=EPOCHS, batch_size=48, learning_rate="0.05")
# Weights are kept at 24 fractional bits and every step truncates them once, by at most one unit of that scale; the gradient of
# another rounding is smaller than that by the learning rate. Two runs of the same steps differ by no more than two units each.
ROUNDING = 2 * STEPS * 2.0**-24


@pytest.fixture(scope="module")
def trial(breakable: Trial, split: Split) -> Trial:
    for party in HOSPITALS:
        breakable.register(party, "whole-batches", split.train[party].head(48))
    return breakable


def a_training(trial: Trial, name: str) -> PreparedJob:
    prepared = trial.train(TRAINING, model_name=name, datasets="whole-batches")
    training = prepared.job.training
    assert training is not None
    rule = CheckpointRule(every_epochs=EVERY, every_minutes=0)
    return replace(prepared, job=replace(prepared.job, training=replace(training, checkpoints=rule, shuffle_seed="5e" * 16)))


def last_run(trial: Trial, job: Job, party: str = LEAD) -> int:
    return max((kept.run for kept in trial.client.progress(job.job_id, party).checkpoints), default=0)


def await_run(trial: Trial, job: Job, run: int) -> None:
    """Waits until a training has made a checkpoint at this run or a later one."""
    deadline = time.monotonic() + 120
    while last_run(trial, job) < run:
        assert time.monotonic() < deadline, trial.progress(job)
        time.sleep(0.02)


def fail_at(trial: Trial, job: Job, run: int) -> None:
    """Kills a computing party when a training has come that far, and brings it back."""
    await_run(trial, job, run)
    trial.kill(SECOND)
    ended = trial.endings(job, parties=[party for party in HOSPITALS if party != SECOND])
    assert {ending.state for ending in ended.values()} == {State.ABORTED}
    trial.restart(SECOND)
    trial.endings(job)


def resumed(trial: Trial, job: Job) -> PreparedJob:
    return resume_job(trial.client, job, datetime.now(UTC))


def test_training_killed_twice_is_resumed_twice_and_ends_as_one_that_was_not(trial: Trial) -> None:
    whole = trial.complete(a_training(trial, "whole"))
    first = a_training(trial, "broken")
    trial.client.submit(first)
    fail_at(trial, first.job, STEPS // 3)
    before = last_run(trial, first.job)

    second = resumed(trial, first.job)
    where = second.job.resumes
    assert where is not None
    assert (where.job_id, where.attempt) == (first.job.job_id, 2)
    assert before - where.run <= INTERVAL, "more than one interval is lost"
    trial.client.submit(second)
    fail_at(trial, second.job, STEPS // 2)
    assert last_run(trial, second.job) >= STEPS // 2, "runs count over all attempts"

    third = resumed(trial, second.job)
    plan = trial.plan_and_complete(third).plan
    assert third.job.attempt == 3
    assert plan.rounds < trial.client.plan(a_training(trial, "again").job).rounds / 2, "only what remains is done"

    records = [model_record(trial, party, third.job) for party in COMPUTING]
    assert {record.steps for record in records} == {STEPS}
    opened, expected = open_model(trial, third.job), open_model(trial, whole.job)
    for name in ("linear.weight", "linear.bias"):
        assert np.abs(opened[name] - expected[name]).max() <= ROUNDING, name
    # Whoever completes leaves no checkpoint behind, of no attempt.
    for party in HOSPITALS:
        with trial.tables(party) as tables:
            assert all(tables.checkpoints.of_job(job.job_id) == () for job in (whole.job, first.job, second.job, third.job))


def test_resumption_of_what_completed_or_was_changed_is_refused(trial: Trial) -> None:
    job = a_training(trial, "short-lived")
    trial.client.submit(job)
    await_run(trial, job.job, INTERVAL)
    trial.kill(SECOND)
    trial.endings(job.job, parties=[LEAD])
    trial.restart(SECOND)
    trial.endings(job.job)
    again = resumed(trial, job.job)
    other = replace(again, job=replace(again.job, model_name="other"))
    with pytest.raises(ConfideError) as caught:
        trial.client.submit(other)
    assert caught.value.code is ErrorCode.INVALID_JOB
    trial.client.submit(again)
    trial.await_state(again.job, State.RUNNING)
    trial.client.cancel(again.job)
    assert {ending.state for ending in trial.endings(again.job).values()} == {State.CANCELLED}
    where = again.job.resumes
    assert where is not None
    with pytest.raises(ConfideError) as caught:  # a cancelled attempt is not resumed
        trial.client.submit(
            replace(
                resumed(trial, job.job),
                job=replace(again.job, nonce="0f" * 16, resumes=replace(where, job_id=again.job.job_id, attempt=3)),
            )
        )
    assert caught.value.code is ErrorCode.CHECKPOINT_DIFFERS
