"""Random faults: crashes before and after storing, silence, partitions, loss, duplicates, reordering, busy slots, cancels."""

from __future__ import annotations

import random

import pytest

from protocols.session import deciding, memory
from protocols.session.messages import Ending, ProposeEnding
from protocols.session.states import State
from tests.simulation.schedules import PARTIES, run_schedule
from tests.support.world import World
from tests.support.world_parts import EPOCH, Chances, a_spec

SCHEDULES = 300
PER_TEST = 30
PROMISE_S = 30.0  # from a fault to the same terminal state at all live parties


def run_schedules(count: int, first: int = 0) -> None:
    for seed in range(first, first + count):
        print(f"seed {seed}")
        run_schedule(seed)


@pytest.mark.parametrize("first", range(0, SCHEDULES, PER_TEST))
def test_sessions_random_faults_end_alike_everywhere(first: int) -> None:
    run_schedules(PER_TEST, first)


@pytest.mark.parametrize("fault", ["crash", "pause"])
def test_session_one_party_fails_others_end_within_30_seconds_and_name_it(fault: str) -> None:
    tried = 0
    for seed in range(45):
        print(f"seed {seed}")
        rng = random.Random(seed)
        parties = PARTIES[: rng.choice([3, 3, 4, 5])]
        world = World(parties, seed, Chances(work_s=20, drop=rng.choice([0, 0.1])))
        world.submit(a_spec(parties=parties))
        struck_at, victim = rng.uniform(0.8, 22), rng.choice(parties)
        world.run(struck_at)
        if world.ended_at or any(world.state(party, "job-1") is State.PROPOSED for party in parties):
            continue  # before everybody agreed, waiting for a party is what the deadline is for
        world.crash(victim) if fault == "crash" else world.pause(victim)
        world.run(PROMISE_S)
        live = [party for party in parties if party != victim]
        endings = {world.endings("job-1")[party] for party in live}
        assert len(endings) == 1
        ending = endings.pop()
        assert ending is not None
        if ending.state is not State.COMPLETED:  # all had voted done before the fault
            tried += 1
            assert (ending.state, ending.at_fault) == (State.ABORTED, victim)
            assert max(world.ended_at[party, "job-1"] for party in live) <= EPOCH + struck_at + PROMISE_S
    assert tried >= 20


def a_world_with_gamma_in_doubt() -> World:
    """Alpha and beta completed, alpha is gone, and gamma, which voted done, has not heard of it and reaches nobody."""
    world = World(PARTIES[:3], 1, Chances(delay_s=0.01))
    world.lost_messages = [("gamma", ProposeEnding), ("gamma", Ending)] * 20
    world.submit(a_spec())
    while "beta" not in {party for party, _ in world.ended_at}:
        world.run(0.01)
    world.crash("alpha")
    world.cut("beta", "gamma")
    world.run(60)
    world.lost_messages.clear()
    world.heal()
    world.run(30)
    return world


def test_session_in_doubt_without_majority_waits_and_takes_completed() -> None:
    assert a_world_with_gamma_in_doubt().check_endings("job-1").state is State.COMPLETED


def test_simulation_with_a_party_that_does_not_doubt_finds_different_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The invariants can fail: if gamma ended alone although it voted done, it would contradict the others."""
    monkeypatch.setattr(deciding, "may_be_completed", lambda _turn: False)
    world = a_world_with_gamma_in_doubt()
    with pytest.raises(AssertionError, match="different endings"):
        world.check_endings("job-1")


def test_simulation_with_parties_that_forget_votes_finds_different_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise if votes and promises did not survive a restart."""
    monkeypatch.delitem(memory._KEPT, "accepted_ballot")
    monkeypatch.delitem(memory._KEPT, "accepted")
    monkeypatch.delitem(memory._KEPT, "promised")
    monkeypatch.delitem(memory._KEPT, "votes")
    with pytest.raises(AssertionError):
        run_schedules(120)
