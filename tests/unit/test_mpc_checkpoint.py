"""Checkpoints and what goes on from them: when they are made, what they hold, and that nothing is used twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, ModelRef, Resumption, Task
from protocols.mpc.checkpoint import Checkpoint, CheckpointTimes, Due, next_head
from protocols.mpc.planning import derive_plan
from protocols.plan.plan import runs_of
from protocols.training import CheckpointRule, Optimiser, OptimiserKind, Training
from tests.support.jobs import sgd
from tests.support.memory_links import received_arrays
from tests.support.mpc_world import World
from tests.support.programs import (
    PARTIES,
    a_network,
    a_table,
    a_training,
    assert_measured_as_planned,
    at_checkpoint,
    opened_state,
    some_weights,
    train,
    trained,
)

MODEL, TASK, ROWS = a_network(4, 1), Task.BINARY, 20  # three steps an epoch
TABLE, START = a_table(MODEL, TASK, ROWS), some_weights(MODEL)
SGD = replace(sgd(3, 8, "0.3", "0.9"), checkpoints=CheckpointRule(1, 0))
ADAM = replace(SGD, epochs=2, optimiser=Optimiser(OptimiserKind.ADAM, "0.02", beta1="0.9", beta2="0.999", epsilon="0.0001"))
# Two runs of the same training differ by the rounding of their openings: up to one unit of 2^-16 in an activation, and a few of
# 2^-24 in each settled parameter; six steps with momentum 0.9 and rate 0.3 carry a gradient's 1e-4 to at most 5e-4.
ROUNDING = 5e-4


def a_job_of(training: Training, computing: tuple[str, ...] = PARTIES[:2]) -> Job:
    return a_training(TABLE, MODEL, TASK, training, computing=computing)


def resumed(job: Job, checkpoint: Checkpoint) -> Job:
    """The job that takes a failed one up again."""
    return replace(job, resumes=Resumption(job.job_id, checkpoint.head, checkpoint.run, job.attempt + 1), nonce="ef" * 16)


def heads(world: World, party: str) -> list[tuple[int, str]]:
    return [(made.run, made.head) for made in world.checkpoints[party]]


@pytest.fixture(scope="module")
def whole() -> World:
    """A training with a checkpoint after every epoch but the last."""
    return train(a_job_of(SGD), TABLE, weights=START)


def test_checkpoint_is_made_after_every_epoch_but_the_last(whole: World) -> None:
    assert [run for run, _ in heads(whole, "alpha")] == [3, 6]
    assert heads(whole, "alpha") == heads(whole, "beta")
    assert whole.checkpoints["gamma"] == []
    assert_measured_as_planned(whole)


def test_checkpoint_holds_parameters_and_optimiser_state_of_its_step(whole: World) -> None:
    shorter = train(a_job_of(replace(SGD, epochs=1)), TABLE, weights=START)
    expected = trained(shorter)
    found = at_checkpoint(whole.checkpoints, PARTIES[:2], 0)
    assert set(found) == {name + kept for name in START for kept in ("", "#momentum")}
    assert max(np.abs(found[name] - expected[name]).max() for name in expected) < ROUNDING


@pytest.mark.parametrize("training", [SGD, ADAM], ids=["sgd", "adam"])
def test_resumed_training_ends_where_an_uninterrupted_one_does(training: Training) -> None:
    job = a_job_of(training)
    uninterrupted = train(job, TABLE, weights=START)
    last = {party: uninterrupted.checkpoints[party][-1] for party in job.computing_parties}
    again = resumed(job, last["alpha"])
    states = [last[party].state for party in job.computing_parties]
    world = train(again, TABLE, state=states, seed="second attempt")
    assert world.plan.num_runs == 1 + 3 + 1  # the data are opened once more, then one epoch and its range check remain
    assert_measured_as_planned(world)
    expected, found = trained(uninterrupted), trained(world)
    assert set(found) == set(expected)
    # Adam divides by roots of the mean of squares, so rounding moves a parameter by up to a tenth of its rate in a step.
    bound = ROUNDING if training is SGD else 3 * 0.02 / 10
    assert max(np.abs(found[name] - expected[name]).max() for name in START) < bound


def test_training_resumes_in_the_middle_of_an_epoch() -> None:
    # With one batch of each, grid questions come at the end of an epoch only; a state from step 4 is made by hand here.
    job = a_job_of(replace(SGD, epochs=2))
    first = train(a_job_of(replace(SGD, epochs=2)), TABLE, weights=START)
    states = [first.checkpoints[party][0].state for party in job.computing_parties]
    middle = replace(job, resumes=Resumption(job.job_id, "a" * 64, 4, 2))
    plan = derive_plan(middle)
    runs = [(run.segment, run.start, run.stop) for run in plan.runs()]
    assert runs == [("open data", 0, 0), ("step", 8, 16), ("last step", 16, 20), ("range check", 0, 0)]
    assert_measured_as_planned(train(middle, TABLE, state=states))


@pytest.mark.parametrize("before", range(1, 9))
def test_remaining_runs_are_the_last_of_the_whole_schedule(before: int) -> None:
    job = a_job_of(SGD)
    whole_runs = list(derive_plan(job).runs())[1:]
    rest = list(derive_plan(replace(job, resumes=Resumption(job.job_id, "a" * 64, before, 2))).runs())[1:]
    assert rest == whole_runs[before + before // 3 :]  # a range check follows every third step


def test_resuming_a_finished_training_is_refused() -> None:
    job = a_job_of(SGD)
    with pytest.raises(ConfideError) as caught:
        derive_plan(replace(job, resumes=Resumption(job.job_id, "a" * 64, 9, 2)))
    assert caught.value.code is ErrorCode.INVALID_JOB


def test_resuming_without_the_whole_state_is_refused(whole: World) -> None:
    job = a_job_of(SGD)
    last = [whole.checkpoints[party][0] for party in job.computing_parties]
    partial = [{name: share for name, share in made.state.items() if "#" not in name} for made in last]
    with pytest.raises(ConfideError) as caught:
        train(resumed(job, last[0]), TABLE, state=partial)
    assert caught.value.code is ErrorCode.INVALID_DATA


def test_training_continues_from_a_kept_model_with_and_without_its_state(whole: World) -> None:
    start = ModelRef("risk", "0" * 12)
    training = replace(SGD, epochs=1, steps_before=9)
    more = replace(a_job_of(SGD), training=training, model_ref=start, initial_weights_sha256=None)
    kept = [dict(whole.outputs[party].model_share or {}) for party in more.computing_parties]
    with_state = trained(train(more, TABLE, state=kept))
    bare = [{name: share for name, share in mine.items() if "#" not in name} for mine in kept]
    without = trained(train(more, TABLE, state=bare))
    longer = trained(train(a_job_of(replace(SGD, epochs=4)), TABLE, weights=START))
    assert max(np.abs(with_state[name] - longer[name]).max() for name in longer) < ROUNDING
    # Momentum starts from zero again, so the result differs by what the momentum would have moved.
    assert max(np.abs(without[name] - longer[name]).max() for name in START) > 10 * ROUNDING


def test_clock_decides_on_the_grid_and_the_others_are_told_in_one_byte() -> None:
    training = replace(SGD, epochs=5, checkpoints=CheckpointRule(0, 10))
    ticks: Iterator[float] = iter([0.0, 599.0, 601.0, 602.0, 900.0, 1203.0, 1204.0])
    world = train(a_job_of(training, PARTIES[:3]), TABLE, weights=START, clock=lambda: next(ticks))
    # Asked after every epoch but the last: no at 599 s, yes at 601 s (then read again), no at 900 s, yes at 1203 s.
    assert world.plan.signals == 4
    assert [run for run, _ in heads(world, "alpha")] == [6, 12]
    assert heads(world, "alpha") == heads(world, "beta") == heads(world, "delta")
    assert_measured_as_planned(world)


@pytest.mark.parametrize("rule", [CheckpointRule(e, m) for e in (0, 1, 2, 3) for m in (0, 5)])
@pytest.mark.parametrize("per_epoch", [1, 31, 32, 33, 64, 100])
def test_number_of_questions_is_that_of_the_steps(rule: CheckpointRule, per_epoch: int) -> None:
    times = CheckpointTimes(rule, per_epoch, 7 * per_epoch)
    asked = [step for step in range(1, times.total + 1) if times.due(step) is Due.ASK]
    for before in (0, 1, per_epoch, 3 * per_epoch - 1, times.total - 1):
        assert times.questions(before) == sum(step > before for step in asked)


def test_two_attempts_share_no_mask_and_no_head(whole: World) -> None:
    again = train(a_job_of(SGD), TABLE, weights=START, seed="other secrets")
    for party in PARTIES[:2]:
        seen = {array.tobytes() for array in received_arrays(whole.links, party) if array.nbytes >= 16}
        others = {array.tobytes() for array in received_arrays(again.links, party) if array.nbytes >= 16}
        assert not seen & others
        one, two = whole.checkpoints[party][0], again.checkpoints[party][0]
        assert one.head != two.head
        assert all(not np.array_equal(one.state[name], two.state[name]) for name in one.state)


def test_shares_of_checkpoints_and_of_the_model_are_refreshed_differently(whole: World) -> None:
    # The same value refreshed twice would show its difference; the streams of labels and positions must not repeat.
    made = whole.checkpoints["alpha"]
    share = whole.outputs["alpha"].model_share
    assert share is not None
    assert all(not np.array_equal(made[0].state[name], made[1].state[name]) for name in START)
    assert all(not np.array_equal(made[1].state[name], share[name]) for name in START)
    opened = opened_state([whole.checkpoints[party][0].state for party in PARTIES[:2]])
    assert max(np.abs(opened[name]).max() for name in START) < 4  # together they are a value, alone they are uniform
    assert np.abs(made[0].state["first.weight"].astype(np.float64)).max() > 2.0**56


def test_head_depends_on_everything_but_values() -> None:
    job = a_job_of(SGD)
    known = next_head(job, handshake="a" * 64, run=3, previous="")
    assert len(known) == 64
    others = {
        next_head(replace(job, nonce="ab" * 16), handshake="a" * 64, run=3, previous=""),
        next_head(job, handshake="b" * 64, run=3, previous=""),
        next_head(job, handshake="a" * 64, run=4, previous=""),
        next_head(job, handshake="a" * 64, run=3, previous=known),
    }
    assert len(others | {known}) == 5


def test_schedule_of_a_long_resumed_training_is_short() -> None:
    job = a_job_of(replace(SGD, epochs=1000))
    plan = derive_plan(replace(job, resumes=Resumption(job.job_id, "a" * 64, 1000, 3)))
    assert len(plan.schedule) == 3
    # 1000 of 3000 steps lie behind, which is in the middle of the 334th epoch.
    assert sum(1 for _ in runs_of(plan.schedule)) == 1 + 2000 + 667
