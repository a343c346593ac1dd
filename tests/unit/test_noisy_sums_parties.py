"""A whole training by noisy sums in one process: against a plain twin, its plan, and parties that deviate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.noisy_sums import NoisySums
from protocols.mpc.noisy_sums_contribution import Contributions
from protocols.mpc.noisy_sums_design import batch_of, num_coordinates, rows_of, trained_numbers
from protocols.mpc.noisy_sums_plan import noisy_sums_plan
from protocols.mpc.noisy_sums_sampling import training_of
from protocols.plan.plan import Plan
from protocols.training import Optimiser, OptimiserKind
from tests.support.noisy_sums import NoisyWorld, a_noisy_sums_job, bytes_of, initial_weights, noise_for, rows_for, run_noisy_sums

ROWS = {"alpha": 60, "gamma": 50, "omega": 40}
SGD = Optimiser(OptimiserKind.SGD, "0.5", momentum="0.9", weight_decay="0.01")
ADAM = Optimiser(OptimiserKind.ADAM, "0.05", beta1="0.9", beta2="0.99", epsilon="0.0001")


def world_of(job: Job, make: Callable[..., NoisySums] = NoisySums, **changes: Any) -> NoisyWorld:
    given = {"noise": noise_for(job), "rows": rows_for(job), "weights": initial_weights(job.model)}
    return run_noisy_sums(job, make=make, **{**given, **changes})


def owner_of(job: Job, party: str) -> Contributions:
    """An owner that draws as the one of the session does."""
    return Contributions(job=job, party=party, rows=rows_for(job)[party], random=bytes_of(f"random {party}"))


@pytest.mark.parametrize("optimiser", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("computing", [("alpha", "beta"), ("alpha", "gamma", "omega")], ids=["2 parties", "3 parties"])
def test_every_participant_holds_what_torch_makes_of_the_noisy_sums(optimiser: Optimiser, computing: tuple[str, ...]) -> None:
    job = a_noisy_sums_job(ROWS, optimiser=optimiser, computing=computing, dealer="delta", canaries=5)
    noise, weights = noise_for(job), initial_weights(job.model)
    world = world_of(job)
    owners = [owner_of(job, party) for party in ROWS]
    parameters = [torch.tensor(weights[spec.name], dtype=torch.float64, requires_grad=True) for spec in job.model.trained]
    twin: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=0.5, momentum=0.9, weight_decay=0.01)
    if optimiser is ADAM:
        twin = torch.optim.Adam(parameters, lr=0.05, betas=(0.9, 0.99), eps=1e-4)
    for step in range(4):
        now = {spec.name: tensor.detach().numpy() for spec, tensor in zip(job.model.trained, parameters, strict=True)}
        total = sum((owner.next_sum(now) for owner in owners), noise[step])
        mean = torch.from_numpy(total[: trained_numbers(job)] / 2.0**20 / 20)
        start = 0
        for tensor in parameters:
            tensor.grad = mean[start : start + tensor.numel()].reshape(tensor.shape)
            start += tensor.numel()
        twin.step()
    for trained in world.trained.values():
        for spec, tensor in zip(job.model.trained, parameters, strict=True):
            # Four updates of numbers around 1 in float64; one unit of the grid if a rounding tipped over in the twin.
            assert np.abs(trained.weights[spec.name] - tensor.detach().numpy()).max() <= 4 * 2.0**-20 / 20
    assert len({trained.weights["out.bias"].tobytes() for trained in world.trained.values()}) == 1


def test_kept_shares_are_the_weights_at_the_engine_s_scale() -> None:
    job = a_noisy_sums_job(ROWS)
    world = world_of(job)
    for result in world.plan.model:
        opened = sum(world.kept[party][result.name] for party in job.computing_parties) / 2.0**result.scale_bits
        assert np.abs(opened - world.trained["alpha"].weights[result.name]).max() <= 2.0**-25
    assert [result.name for result in world.plan.model] == [parameter.name for parameter in job.model.parameters]


@pytest.mark.parametrize("computing", [("alpha", "beta"), ("alpha", "gamma", "omega"), ("beta", "delta", "alpha")])
def test_bytes_are_those_of_the_plan(computing: tuple[str, ...]) -> None:
    job = a_noisy_sums_job(ROWS, computing=computing, dealer="epsilon", canaries=3)
    world = world_of(job)
    sent = {(party, peer): link.sent_bytes for party, mine in world.links.items() for peer, link in mine.items()}
    planned = {(each.sender, each.receiver): each.total_bytes for each in world.plan.directions}
    assert {pair: size for pair, size in sent.items() if size} == planned
    assert world.plan.rounds == training_of(job).epochs + 1
    assert world.plan.correction_bytes == 0
    assert Plan.from_document(world.plan.to_document()) == world.plan


def test_owner_of_two_data_sets_shares_one_sum_over_both() -> None:
    job = a_noisy_sums_job(ROWS)
    job = replace(job, datasets=(*job.datasets, replace(job.datasets[1], name="more", num_rows=30)))
    world = world_of(job)
    assert rows_of(job, "gamma") == 80
    sent = {peer: link.sent_bytes for peer, link in world.links["gamma"].items() if link.sent_bytes}
    assert sent == {"beta": 8 * num_coordinates(job) * training_of(job).epochs}
    assert [planned.owner for planned in world.plan.inputs] == list(ROWS)
    whole, first = (owner_of(job, "gamma").next_sum(initial_weights(job.model)) for job in (job, a_noisy_sums_job(ROWS)))
    assert not np.array_equal(whole, first)


def test_sum_of_an_owner_is_that_of_a_loop_over_torch_gradients_that_are_clipped() -> None:
    job = a_noisy_sums_job({"alpha": 40, "beta": 40}, batch_size=40, norm_bound="1.1")
    weights, (features, labels) = initial_weights(job.model), rows_for(job)["alpha"][0]
    found = owner_of(job, "alpha").next_sum(weights)
    coins = bytes_of("random alpha")
    drawn = np.frombuffer(coins(8 * 40), "<u8") % 80 < 40  # 2^64 = 16 modulo 80: a word that is refused is as rare as 2^-60
    tensors = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in weights.items()}
    wanted = np.zeros(trained_numbers(job))
    clipped = 0
    for row, label in zip(features[drawn], labels[drawn], strict=True):
        hidden = functional.linear(torch.from_numpy(row), tensors["hidden.weight"], tensors["hidden.bias"]).relu()
        output = functional.linear(hidden, tensors["out.weight"], tensors["out.bias"])
        loss = functional.cross_entropy(output, torch.tensor(int(label)))
        ordered = [tensors[spec.name] for spec in job.model.trained]
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, ordered)]).numpy()
        clipped += np.linalg.norm(gradient) > 1.1
        wanted += gradient * min(1.0, 1.1 / np.linalg.norm(gradient))
    assert 0 < clipped < drawn.sum()
    # Every row is cut by less than a unit of 2^-36, the sum is rounded to half a unit of 2^-20.
    assert np.abs(found[: len(wanted)] / 2.0**20 - wanted).max() <= 2.0**-21 + drawn.sum() * 2.0**-35


def test_what_leaves_an_owner_is_not_its_sum_and_repeats_in_no_step() -> None:
    job = a_noisy_sums_job(ROWS)
    weights = initial_weights(job.model)
    world = world_of(job)
    own = owner_of(job, "gamma").next_sum(weights)
    sent = [arrays[0].view(np.int64) for _, arrays in world.links["gamma"]["beta"].log]
    assert len(sent) == training_of(job).epochs
    assert not any(np.isin(message, own[own != 0]).any() for message in sent)
    assert len({message.tobytes() for message in sent}) == len(sent)


def test_step_for_which_nobody_is_drawn_is_shared_noised_and_made_like_any_other() -> None:
    """A step that is left out, or divided by the rows that were drawn, tells that there were none."""
    job = a_noisy_sums_job(ROWS, batch_size=20, optimiser=Optimiser(OptimiserKind.SGD, "0.5"))
    terms = job.training.privacy if job.training is not None else None
    assert terms is not None
    last = (terms.nominal_rows - 1).to_bytes(8, "little")  # no row: its word is not below the batch size

    def drawing_nobody(**given: Any) -> NoisySums:
        return NoisySums(**{**given, "random": lambda count: last * (count // 8)})

    noise, weights = noise_for(job), initial_weights(job.model)
    world = world_of(job, make=drawing_nobody)
    moved = -0.5 * noise.sum(axis=0)[: trained_numbers(job)] / 2.0**20 / 20
    before, after = (
        np.concatenate([np.ravel(found[spec.name]) for spec in job.model.trained])
        for found in (weights, world.trained["beta"].weights)
    )
    # One rounding a step of numbers around 1, in float64.
    assert np.abs(after - before - moved).max() <= training_of(job).epochs * 2.0**-50
    sent = {
        (party, peer): link.sent_bytes for party, mine in world.links.items() for peer, link in mine.items() if link.sent_bytes
    }
    assert sent == {(each.sender, each.receiver): each.total_bytes for each in world.plan.directions}


def test_canaries_are_scored_by_their_owner_alone() -> None:
    job = a_noisy_sums_job({"alpha": 60, "gamma": 60}, steps=40, batch_size=60, canaries=60)
    world = world_of(job, noise=np.zeros((40, num_coordinates(job)), np.int64))
    for owner in ("alpha", "gamma"):
        found = world.trained[owner].canaries
        assert found is not None
        assert found.scores.shape == found.included.shape == (30,)
        # Without noise a canary that is in the training shows in about half of 40 steps, and one that is not in none.
        assert np.array_equal(found.scores > 0.5, found.included)
        assert np.array_equal(found.scores, np.rint(found.scores))
        assert abs(found.scores[found.included].mean() - 20) < 5 * (10 / found.included.sum()) ** 0.5
        assert 2 < found.included.sum() < 28  # beyond with a probability below 1e-6
    assert world.trained["beta"].canaries is None


class OtherSum(NoisySums):
    """A lead that tells owners another sum than the one that was opened."""

    def _open(self, *arguments: Any) -> np.ndarray:
        real = [channel.send for channel in self._told]

        def altered(send: Callable[..., None]) -> Callable[..., None]:
            return lambda arrays: send([array + 1 if array.dtype == np.int64 else array for array in arrays])

        for channel, send in zip(self._told, real, strict=True):
            channel.send = altered(send)  # type: ignore[method-assign]
        return super()._open(*arguments)


class OtherWeights(NoisySums):
    """A party whose weights drift in the second step."""

    def make_step(self, step: int) -> None:
        super().make_step(step)
        if step == 1:
            self._state["out.bias"] = self._state["out.bias"] + 2.0**-40


class Leaver(NoisySums):
    """A party that leaves before the third step is opened."""

    def make_step(self, step: int) -> None:
        if step == 2:
            raise ConfideError(ErrorCode.PEER_LOST, "left", party=self._party)
        super().make_step(step)


def only(party: str, kind: type[NoisySums]) -> Callable[..., NoisySums]:
    """Makes one party of that kind."""
    return lambda **given: (kind if given["party"] == party else NoisySums)(**given)


@pytest.mark.parametrize(
    ("party", "kind"), [("alpha", OtherSum), ("alpha", OtherWeights), ("beta", OtherWeights), ("gamma", OtherWeights)]
)
def test_parties_that_say_or_hold_something_else_end_the_training(party: str, kind: type[NoisySums]) -> None:
    with pytest.raises(ConfideError) as caught:
        world_of(a_noisy_sums_job(ROWS), make=only(party, kind))
    assert caught.value.code is ErrorCode.BAD_FRAME


@pytest.mark.parametrize("party", ["alpha", "beta", "gamma"])
def test_party_that_leaves_between_noise_and_opening_ends_the_training_for_all(party: str) -> None:
    made: list[NoisySums] = []

    def make(**given: Any) -> NoisySums:
        made.append(only(party, Leaver)(**given))
        return made[-1]

    with pytest.raises(ConfideError) as caught:
        world_of(a_noisy_sums_job(ROWS, steps=5), make=make)
    assert caught.value.code is ErrorCode.PEER_LOST


def test_weights_that_leave_the_range_end_the_training_for_all_alike() -> None:
    job = a_noisy_sums_job(ROWS)
    with pytest.raises(ConfideError) as caught:
        world_of(job, noise=noise_for(job, deviation=2.0**20 * 20 * 2**12))
    assert caught.value.code is ErrorCode.TRAINING_DIVERGED


@pytest.mark.parametrize("ahead", [0, 2], ids=["again", "left out"])
def test_noise_of_a_step_is_neither_used_again_nor_left_out(ahead: int) -> None:
    class OutOfOrder(NoisySums):
        def make_step(self, step: int) -> None:
            super().make_step(step if step == 0 else step - 1 + ahead)

    with pytest.raises(ConfideError) as caught:
        world_of(a_noisy_sums_job(ROWS), OutOfOrder)
    assert caught.value.code is ErrorCode.INTERNAL


def test_session_without_its_noise_does_not_begin() -> None:
    job = a_noisy_sums_job(ROWS)
    with pytest.raises(ConfideError) as caught:
        world_of(job, noise=noise_for(job)[:, :-1])
    assert caught.value.code is ErrorCode.INTERNAL


def test_sums_that_do_not_fit_the_ring_are_refused_by_the_plan() -> None:
    # 2^36 times 1000 is almost 2^46: so many rows of that norm go beyond 2^62.
    job = a_noisy_sums_job({"alpha": 150_000, "beta": 50_000}, batch_size=100_000, norm_bound="1000")
    assert batch_of(job, "alpha") > 2**16
    with pytest.raises(ConfideError) as caught:
        noisy_sums_plan(job)
    assert caught.value.code is ErrorCode.INVALID_JOB
