"""A private training on shares with the noise of its owners: one session of all parties, and what a party notes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from governance.preview import Preview, make_preview
from governance.preview_flows import flows_by_peer
from parties.cli.job_words import plan_in_words
from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS
from protocols.mpc import noise_designs, session
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.noise_designs import noise_design, planned_noise
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.mpc.noise_test import MIN_SPARES
from protocols.mpc.planning import derive_plan
from protocols.plan.estimate import LOOPBACK, estimate
from protocols.plan.plan import Plan
from protocols.ring import RingArray
from protocols.sharing import sum_ring
from tests.support.jobs import a_training
from tests.support.members import a_world
from tests.support.mpc_world import World, run_world
from tests.support.private_training import a_private_job, private_sgd, terms
from tests.support.without_noise import WithoutNoise

STEPS = 3
OWNERS = {"alpha": 12, "gamma": 9, "omega": 8}
JOB = a_private_job(private_sgd(STEPS, "1", privacy=terms(29, nominal_people=29, delta="0.001")), features=4, owners=OWNERS)


def inputs() -> dict[str, LocalInputs]:
    rng = np.random.default_rng(2)
    weights = {"linear.weight": np.zeros((1, 4)), "linear.bias": np.zeros(1)}
    rows = {}
    for index, (owner, count) in enumerate(OWNERS.items()):
        rows[owner] = {index: (rng.uniform(-0.5, 0.5, (count, 4)), rng.integers(0, 2, count).astype(np.float64))}
    return {name: LocalInputs(rows=rows.get(name, {}), initial_weights=weights) for name in ("alpha", "beta", "gamma", "omega")}


@pytest.fixture(scope="module")
def world() -> World:
    return run_world(JOB, derive_plan(JOB), inputs())


def test_session_with_noise_sends_and_takes_rounds_as_its_plan_says(world: World) -> None:
    plan = world.plan
    assert plan.noise == planned_noise(JOB)
    assert {name: sum(out.sent_bytes.values()) for name, out in world.outputs.items()} == {
        name: plan.sent_bytes(name) for name in plan.participants
    }
    assert {world.outputs[name].rounds for name in JOB.computing_parties} == {plan.rounds}
    assert {item.phase for item in world.progress["alpha"]} >= {"noise", "inputs"}


def test_every_participant_has_the_test_of_the_noise(world: World) -> None:
    tested = [out.noise_test for out in world.outputs.values()]
    assert tested[0] is not None
    assert tested[0].has_passed
    assert [figures.owner for figures in tested[0].owners] == list(OWNERS)
    assert tested[1:] == tested[:1] * 3


def test_nothing_is_trained_without_an_owners_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(NoiseSharing):
        def _rest(self, values: RingArray, pads: RingArray) -> RingArray:
            return super()._rest(values * 0 if self._party == "omega" else values, pads)

    monkeypatch.setattr(session, "NoiseSharing", Silent)
    with pytest.raises(ConfideError) as caught:
        run_world(JOB, derive_plan(JOB), inputs())
    assert (caught.value.code, caught.value.party) == (ErrorCode.NOISE_MISSING, "omega")


class Untested(NoiseSharing):
    """Never hears what others found."""

    def conclude(self) -> None:
        pass


class Unused(NoiseSharing):
    """Leaves zeros in place of the noise."""

    def take(self) -> RingArray:
        return np.zeros((self.design.steps, self.design.used), np.int64)


@pytest.mark.parametrize("kind", [Untested, Unused])
def test_nothing_leaves_a_party_that_has_not_tested_and_added_the_noise(
    kind: type[NoiseSharing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "NoiseSharing", kind)
    with pytest.raises(ConfideError) as caught:
        run_world(JOB, derive_plan(JOB), inputs())
    assert caught.value.code is ErrorCode.INTERNAL
    assert "not tested" in str(caught.value)


def opened_weights(world: World) -> np.ndarray:
    shares = [world.outputs[name].model_share or {} for name in JOB.computing_parties]
    return sum_ring([share["linear.weight"] for share in shares]) / 2.0**PARAMETER_BITS


def test_noise_is_in_the_model_of_a_session(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(session, "NoiseSharing", WithoutNoise)
    without = run_world(JOB, derive_plan(JOB), inputs())
    # The first step alone adds to each of four weights the noise of all owners over the nominal rows, at a rate of 1. That all
    # four are nearer to the other model than a tenth of a deviation has a chance of 4e-5, and the seed is fixed.
    deviation = noise_design(JOB).deviation * len(OWNERS) ** 0.5 / 2**32 / 29
    assert np.abs(opened_weights(world) - opened_weights(without)).max() > deviation / 10


def test_plan_with_noise_survives_its_document_and_costs_more() -> None:
    plan = derive_plan(JOB)
    assert Plan.from_document(plan.to_document()) == plan
    without = replace(plan, noise=None)
    assert plan.digest != without.digest
    assert plan.rounds == without.rounds + 5
    assert sum(direction.noise_bytes for direction in plan.directions) == plan.payload_bytes - without.payload_bytes > 0
    assert estimate(plan, LOOPBACK).memory_bytes > estimate(without, LOOPBACK).memory_bytes
    assert estimate(plan, LOOPBACK).seconds > estimate(without, LOOPBACK).seconds


@pytest.mark.parametrize("change", [{"owners": []}, {"owners": "alpha"}, {"steps": -1}, {"used": None}, {"more": 1}])
def test_plan_with_other_noise_is_refused(change: dict[str, Any]) -> None:
    document = derive_plan(JOB).to_document()
    with pytest.raises(ConfideError) as caught:
        Plan.from_document({**document, "noise": {**document["noise"], **change}})
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_other_trainings_have_no_noise() -> None:
    assert planned_noise(a_training()) is None
    with pytest.raises(ConfideError, match="no private training"):
        noise_design(a_training())


def test_design_has_spares_for_its_steps_and_owners() -> None:
    design = noise_design(JOB)
    assert design.spares > MIN_SPARES
    # A sample of 1,400 or so in all finds 85 % of the deviation (test_noise_test).
    assert 1_350 < design.spares * STEPS < 1_550


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [("MAX_INTEGERS", 1_000, "2^28"), ("MAX_DEVIATION", 1_000, "outside 16"), ("MIN_DEVIATION", 1 << 60, "")],
)
def test_noise_that_cannot_be_drawn_or_held_is_refused(
    limit: str, value: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_designs, limit, value)
    with pytest.raises(ConfideError) as caught:
        derive_plan(JOB)
    assert caught.value.code is ErrorCode.INVALID_JOB
    assert said in str(caught.value.problems[0])


def test_plan_in_words_says_how_much_noise_is_drawn_opened_and_sent() -> None:
    plan = derive_plan(JOB)
    words = plan_in_words(plan)
    design = noise_design(JOB)
    assert f"noise of alpha, gamma, omega: each 3 x {design.width:,} numbers of deviation 2" in words
    assert f"{design.spares:,} of every {design.width:,} are opened to test it" in words
    sent = next(direction for direction in plan.directions if (direction.sender, direction.receiver) == ("gamma", "beta"))
    assert f"{sent.noise_bytes:,}" in words


@pytest.mark.parametrize("party", JOB.participants)
def test_preview_shows_the_bytes_of_noise_by_peer(party: str) -> None:
    plan = derive_plan(JOB)
    cost = estimate(plan, LOOPBACK)
    found = make_preview(
        JOB,
        plan,
        cost,
        party=party,
        directory=a_world().directory,
        agreement="a",
        grants=(),
        ranges=("in range",),
        budgets=(),
    )
    assert Preview.from_bytes(found.to_bytes()) == found
    assert {flow.peer: flow.noise for flow in found.sends} == {
        d.receiver: d.noise_bytes for d in plan.directions if d.sender == party
    }
    assert flows_by_peer(found.sends, querier="researcher") == {
        d.receiver: d.total_bytes for d in plan.directions if d.sender == party
    }
    assert any("noise" in what for _, what in found.learns)
