"""The steps of the noise beside a training: in the waits of its rounds, whatever its length, hardly by messages of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Task
from protocols.mpc import session
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.noise_beside import NoiseBeside, after_dealing
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.mpc.planning import derive_plan
from protocols.mpc.programs.step_noise import StepNoise
from protocols.ring import RingArray
from protocols.sharing import sum_ring
from protocols.training import Loss
from tests.support.mpc_world import World, run_world
from tests.support.private_training import a_private_job, private_sgd, terms
from tests.support.without_noise import WithoutNoise

OWNERS = {"alpha": 12, "gamma": 9, "omega": 8}


def a_job(steps: int, *, task: Task = Task.BINARY, computing: tuple[str, ...] = ("alpha", "beta")) -> Job:
    loss = Loss.MEAN_SQUARED_ERROR if task is Task.REAL else Loss.BINARY_CROSS_ENTROPY
    training = private_sgd(steps, "0.5", privacy=terms(29, nominal_people=29, delta="0.001"), loss=loss)
    return a_private_job(training, features=4, owners=OWNERS, task=task, computing=computing)


def inputs(job: Job) -> Mapping[str, LocalInputs]:
    rng = np.random.default_rng(2)
    weights = {"linear.weight": np.zeros((1, 4)), "linear.bias": np.zeros(1)}
    rows = {
        owner: {index: (rng.uniform(-0.5, 0.5, (count, 4)), rng.integers(0, 2, count).astype(np.float64))}
        for index, (owner, count) in enumerate(OWNERS.items())
    }
    return {name: LocalInputs(rows=rows.get(name, {}), initial_weights=weights) for name in job.participants}


def run(job: Job) -> World:
    return run_world(job, derive_plan(job), inputs(job))


@pytest.mark.parametrize("task", [Task.BINARY, Task.REAL])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 18])
def test_noise_is_tested_and_added_in_a_training_of_any_length(steps: int, task: Task) -> None:
    world = run(a_job(steps, task=task))
    tested = [outputs.noise_test for outputs in world.outputs.values()]
    assert tested[0] is not None
    assert tested[0].has_passed
    assert tested == tested[:1] * len(tested)


@pytest.mark.parametrize(
    ("num_runs", "opening"), [(2, 2), (3, 3), (5, 3), (6, 4), (17, 15), (33, 31), (34, 32), (61, 32), (5_000, 32)]
)
def test_dealer_needs_the_coin_late_and_reads_the_result_when_it_has_dealt_everything(num_runs: int, opening: int) -> None:
    taken: list[tuple[int, str]] = []

    class Notes(NoiseSharing):
        run_now = 0

        def __init__(self) -> None:
            pass

        def begin(self) -> None:
            taken.append((self.run_now, "begin"))

        def open(self) -> None:
            taken.append((self.run_now, "open"))

        def conclude(self) -> None:
            taken.append((self.run_now, "conclude"))

    noise = Notes()
    for noise.run_now in range(1, num_runs + 1):
        after_dealing(noise, noise.run_now, num_runs)
    assert taken == [(1, "begin"), (opening, "open"), (num_runs, "conclude")]


def test_noise_is_shared_among_three_computing_parties() -> None:
    job = a_job(4, computing=("alpha", "beta", "delta"))
    world = run(job)
    assert {world.outputs[name].rounds for name in job.computing_parties} == {world.plan.rounds}
    tested = world.outputs["delta"].noise_test
    assert tested is not None
    assert tested.has_passed


def test_computing_parties_send_each_other_no_message_for_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_job(4)
    private = run(job)
    monkeypatch.setattr(session, "NoiseSharing", WithoutNoise)
    without = run(job)
    assert len(private.links["alpha"]["beta"].log) == len(without.links["alpha"]["beta"].log)
    # The dealer, which owns rows: commitments with what is left of its draws, and what opens one of them.
    assert len(private.links["omega"]["beta"].log) == len(without.links["omega"]["beta"].log) + 2
    # The coin and the result.
    assert len(private.links["beta"]["omega"].log) == len(without.links["beta"]["omega"].log) + 2


@pytest.mark.parametrize("task", [Task.BINARY, Task.REAL])
@pytest.mark.parametrize("missed", [(3,), (5,), (1, 2, 3, 4, 5, 6, 7)])
def test_first_step_with_too_few_rounds_brings_its_noise_by_messages(
    missed: tuple[int, ...], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Misses(NoiseBeside):
        """Has nothing done in some of the rounds, as if they were not there."""

        waits = 0

        def meanwhile(self) -> None:
            self.waits += 1
            if self.waits not in missed:
                super().meanwhile()

    job = a_job(2, task=task, computing=("alpha", "beta", "delta"))
    with_all = run(job)
    monkeypatch.setattr(session, "NoiseBeside", Misses)
    with_less = run(job)
    assert with_less.outputs["omega"].noise_test == with_all.outputs["omega"].noise_test
    assert {with_less.outputs[name].rounds for name in job.computing_parties} == {with_less.plan.rounds}
    np.testing.assert_array_equal(trained(with_less, job), trained(with_all, job))


def trained(world: World, job: Job) -> RingArray:
    shares = [world.outputs[name].model_share or {} for name in job.computing_parties]
    return sum_ring([share["linear.weight"] for share in shares])


class Silent(NoiseSharing):
    """Adds no noise at omega."""

    def _rest(self, values: RingArray, pads: RingArray) -> RingArray:
        return super()._rest(values * 0 if self._party == "omega" else values, pads)


@pytest.mark.parametrize("code", [ErrorCode.PEER_LOST, ErrorCode.PEER_SILENT])
def test_party_that_another_one_s_end_cuts_off_names_the_owner_it_has_found(
    code: ErrorCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutOff(Silent):
        def conclude(self) -> None:
            if self._computes:
                raise ConfideError(code, party="alpha")

    monkeypatch.setattr(session, "NoiseSharing", CutOff)
    with pytest.raises(ConfideError) as caught:
        run(a_job(4))
    assert (caught.value.code, caught.value.party) == (ErrorCode.NOISE_MISSING, "omega")


def test_party_that_is_cut_off_and_has_found_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class CutOff(NoiseSharing):
        def conclude(self) -> None:
            raise ConfideError(ErrorCode.PEER_LOST, party="alpha")

    monkeypatch.setattr(session, "NoiseSharing", CutOff)
    with pytest.raises(ConfideError) as caught:
        run(a_job(4))
    assert caught.value.code is ErrorCode.PEER_LOST


def test_no_step_is_made_without_noise() -> None:
    noise = StepNoise(2, 3)
    with pytest.raises(ConfideError) as caught:
        noise.of_step(0)
    assert caught.value.code is ErrorCode.INTERNAL
    noise.fill(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(noise.of_step(1), [3, 4, 5])


@pytest.mark.parametrize("share", [np.zeros((3, 2), np.int64), np.zeros((2, 3), np.float64), None])
def test_noise_of_another_form_or_a_second_time_is_refused(share: RingArray | None) -> None:
    noise = StepNoise.of(np.ones((2, 3), np.int64)) if share is None else StepNoise(2, 3)
    with pytest.raises(ConfideError) as caught:
        noise.fill(np.zeros((2, 3), np.int64) if share is None else share)
    assert caught.value.code is ErrorCode.INTERNAL
