"""Random schedules of faults: each follows from its seed alone."""

from __future__ import annotations

import random
from collections.abc import Callable

from protocols.errors import ErrorCode
from protocols.session.messages import Ending, FailureReport
from protocols.session.spec import SessionSpec
from protocols.session.states import State
from tests.support.world import World
from tests.support.world_parts import EPOCH, Chances, a_spec

PARTIES = ("alpha", "beta", "gamma", "delta", "omega")
FAULTY_S = 150.0  # faults happen in the first 40 s and are over after this
HEALED_S = 60.0
TOO_FEW = FailureReport(ErrorCode.NOT_ENOUGH_ROWS, State.PROPOSED, "", "too few rows")
TOO_RISKY = FailureReport(ErrorCode.NO_GRANT, State.RELEASING, "", "the risk is too high")


def run_schedule(seed: int) -> list[Ending]:
    """Runs one to three sessions with different leads under faults, heals, checks, and runs a last session without faults.

    Returns the endings; raises AssertionError where an invariant is broken.
    """
    rng = random.Random(seed)
    parties = PARTIES[: rng.choice([2, 3, 3, 3, 4, 5])]
    world = World(parties, seed, _chances(rng))
    specs = [_propose(world, rng, index, parties) for index in range(rng.choice([1, 1, 2, 3]))]
    for _ in range(rng.choice([0, 1, 2, 4])):
        _strike(world, rng, parties)

    def mend() -> None:
        for party in parties:
            world.restart(party)
        if world.now < EPOCH + FAULTY_S:
            world.after(7, mend)

    world.after(10, mend)
    world.run(FAULTY_S)
    world.chances = Chances()
    world.heal()
    world.run(HEALED_S)
    endings = [world.check_endings(spec.session) for spec in specs if world.endings(spec.session)]
    world.submit(a_spec("job-next", parties, now=world.now))
    world.run(40)
    assert world.check_endings("job-next").state is State.COMPLETED, "the next session does not run"
    return endings


def _chances(rng: random.Random) -> Chances:
    return Chances(
        drop=rng.choice([0, 0.05, 0.2]),
        duplicate=rng.choice([0, 0.1]),
        delay_s=rng.choice([0.01, 0.05, 0.3]),
        crash=rng.choice([0, 0, 0.01, 0.03]),
        worker_fails=rng.choice([0, 0, 0.3]),
        work_s=rng.choice([2, 8, 20]),
        store_fails=rng.choice([0, 0, 0.01, 0.05]),
    )


def _propose(world: World, rng: random.Random, index: int, parties: tuple[str, ...]) -> SessionSpec:
    order = tuple(rng.sample(parties, len(parties)))
    spec = a_spec(f"job-{index}", order, agree_within_s=rng.choice([20, 60]), start_within_s=120)
    reach = tuple(party for party in order if rng.random() < 0.8) or order[:1]
    world.at(EPOCH + rng.uniform(0, 5), lambda: world.submit(spec, reach))
    victim = rng.choice(parties)
    if rng.random() < 0.2:
        world.at(EPOCH + rng.uniform(5, 30), lambda: world.cancel(spec.session, victim))
    if rng.random() < 0.15:
        world.at(EPOCH + rng.uniform(1, 40), lambda: world.end_consent(spec.session, victim))
    if rng.random() < 0.1:
        world.plans[victim, spec.session] = "b" * 64
    if rng.random() < 0.1:
        world.refusals[victim, spec.session] = TOO_FEW
    if rng.random() < 0.1:
        world.withheld[victim, spec.session] = TOO_RISKY
    return spec


def _strike(world: World, rng: random.Random, parties: tuple[str, ...]) -> None:
    when, lasts_s = EPOCH + rng.uniform(0, 40), rng.choice([1, 5, 20, 60, 100])
    one, other = rng.sample(parties, 2)
    begin: list[Callable[[], None]]
    match rng.choice(["crash", "pause", "cut", "isolate", "full"]):
        case "crash":
            begin, end = [lambda: world.crash(one)], [lambda: world.restart(one)]
        case "pause":
            begin, end = [lambda: world.pause(one)], [lambda: world.resume(one)]
        case "full":
            begin, end = [lambda: fill(world, one, full=True)], [lambda: fill(world, one, full=False)]
        case "cut":
            begin, end = [lambda: world.cut(one, other)], [lambda: world.mend(one, other)]
        case _:
            begin = [lambda peer=peer: world.cut(one, peer) for peer in parties if peer != one]
            end = [lambda peer=peer: world.mend(one, peer) for peer in parties if peer != one]
    for what in begin:
        world.at(when, what)
    for what in end:
        world.at(when + lasts_s, what)


def fill(world: World, party: str, *, full: bool) -> None:
    """Fills the disk of a party, or makes room on it again."""
    world.hosts[party].full = full
